"""The best checkpoint of a run: that of the evaluation with the best value of a metric, in best/<step>."""

from pathlib import Path
from typing import Any, Literal

from cnnrnn.command import note
from cnnrnn.errors import CheckpointError
from cnnrnn.training.checkpoint import Checkpoints
from cnnrnn.training.restore import DIRECTORIES

Mode = Literal["min", "max"]


class BestCheckpoint:
    """Keeps one checkpoint beside the newest ones.

    It may be of a later step than the newest checkpoint of the run, if the run was killed in between.

    Args:
      workdir: of the run.
      metric: its name, such as "bleu".
      mode: whether the best value is the smallest or the largest.
    """

    def __init__(self, workdir: Path, metric: str, mode: Mode):
        self.metric, self._sign = metric, 1 if mode == "max" else -1
        self._checkpoints = Checkpoints(workdir / DIRECTORIES["best"], max_to_keep=2)
        try:
            saved = self._checkpoints.newest()
        except CheckpointError:  # it can be replaced: no reason to refuse the run
            note(f"the best checkpoint in {workdir} is damaged - the next evaluation replaces it")
            saved = self._checkpoints.delete_all()
        self.step, self.value = (None, None) if saved is None else (saved.step, saved.record.get(metric))

    def update(self, step: int, state: Any, metrics: dict[str, float]) -> None:
        """Saves the state after an evaluation if its value is the best. Without a value nothing changes."""
        value = metrics.get(self.metric)
        if value is None or (self.value is not None and self._sign * value <= self._sign * self.value):
            return
        previous, self.step, self.value = self.step, step, value
        if previous == step:  # another continuation of the run came here
            self._checkpoints.delete(previous)
        self._checkpoints.save(step, state, {self.metric: value})
        if previous is not None and previous != step:
            self._checkpoints.delete(previous)

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpoints.close()
