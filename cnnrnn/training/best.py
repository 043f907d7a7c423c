"""The best checkpoint of a run: that of the evaluation with the best value of a metric, in best/<step>."""

import math
from pathlib import Path
from typing import Any, Literal

from cnnrnn.command import note
from cnnrnn.errors import CheckpointError
from cnnrnn.training.checkpoint import Checkpoints, Saved
from cnnrnn.training.restore import DIRECTORIES

Mode = Literal["min", "max"]
MAX_SAVED = 9  # more than there ever are: the best, and those that a kill left beside it


class BestCheckpoint:
    """Keeps one checkpoint beside the newest ones: the best since the metric was chosen.

    It may be of a later step than the newest checkpoint of the run, if the run was killed in between.

    Args:
      workdir: of the run.
      metric: its name, such as "bleu".
      mode: whether the best value is the smallest or the largest.
    """

    def __init__(self, workdir: Path, metric: str, mode: Mode):
        self.metric, self._sign = metric, 1 if mode == "max" else -1
        self._checkpoints = Checkpoints(workdir / DIRECTORIES["best"], max_to_keep=MAX_SAVED)
        best = max(self._read(), key=lambda saved: self._sign * saved.record[metric], default=None)
        self.step, self.value = (None, None) if best is None else (best.step, best.record[metric])

    def update(self, step: int, state: Any, metrics: dict[str, float]) -> None:
        """Saves the state after an evaluation if its value is the best. Without a value nothing changes."""
        value = metrics.get(self.metric)
        if value is None or math.isnan(value):
            return
        if self.value is not None and self._sign * value <= self._sign * self.value:
            return
        self._checkpoints.delete(step)  # of a run that was resumed from before this step
        self._checkpoints.save(step, state, {self.metric: value})
        self.step, self.value = step, value
        for other in self._checkpoints.steps():
            if other != step:
                self._checkpoints.delete(other)

    def close(self) -> None:
        """Waits for what is being written."""
        self._checkpoints.close()

    def _read(self) -> list[Saved]:
        """The saved checkpoints that have a value of the metric."""
        try:
            found = self._checkpoints.latest(MAX_SAVED)
        except CheckpointError:  # it can be replaced: no reason to refuse the run
            note(f"the best checkpoint in {self._checkpoints.directory} is damaged - the next evaluation replaces it")
            return []
        return [saved for saved in found if self.metric in saved.record]
