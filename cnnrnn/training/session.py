"""One start of a run: does what is due after a step, and saves the run when it is stopped."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from cnnrnn.command import echo
from cnnrnn.data.dataset import Dataset
from cnnrnn.errors import DataError, Interrupted, one_line
from cnnrnn.metrics import Sums
from cnnrnn.optim.nt_asgd import on_evaluation
from cnnrnn.training.accumulator import MetricAccumulator
from cnnrnn.training.best import BestCheckpoint
from cnnrnn.training.checkpoint import Checkpoints
from cnnrnn.training.evaluate import Evaluator
from cnnrnn.training.interrupt import StopRequest
from cnnrnn.training.log import Log
from cnnrnn.training.state import TrainState
from cnnrnn.training.workdir import atomic_write

NUM_SHOWN = 3  # predictions of an evaluation


@dataclasses.dataclass
class Session:
    """One start of a run: one process, from the newest checkpoint to the end of the run or to a stop.

    Attributes:
      state, step: after the last step that was dispatched.
      saved_step: the step of the newest checkpoint.
      validated: whether the evaluation that is due at `step` has been done, and its loss passed to the optimizer.
    """

    state: TrainState
    step: int
    saved_step: int
    validated: bool
    accumulator: MetricAccumulator
    num_steps: int
    eval_every: int | None
    decode_every: int | None
    evaluate: Evaluator
    evaluated: dict[str, Dataset]
    checkpoints: Checkpoints
    best: BestCheckpoint | None
    log: Log
    directory: Path
    stop: StopRequest

    @property
    def validation_split(self) -> str:
        """The split that is evaluated during training."""
        return next(name for name in ("validation", "test") if name in self.evaluated)

    def is_due(self, *periods: int | None) -> bool:
        """Whether the step is the last or a multiple of a period."""
        return self.step == self.num_steps or any(every is not None and self.step % every == 0 for every in periods)

    def advance(self, state: TrainState, sums: Sums, count: int) -> None:
        """Takes the state after `count` more steps, and their metrics."""
        self.state, self.step, self.validated = state, self.step + count, False
        self.accumulator.add(sums)
        self.log.advance(self.step)

    def report_metrics(self) -> None:
        """Logs the training metrics since the last report."""
        self.log.speed(self.step, self.accumulator.steps_per_second(self.step))
        self.log.write(self.step, "train", self.accumulator.compute_and_reset(self.step))

    def save(self) -> None:
        """Writes a checkpoint."""
        record = self.accumulator.record(self.step) | {"validated": self.validated}
        self.checkpoints.save(self.step, self.state, record)
        self.saved_step = self.step

    def validate(self) -> None:
        """Evaluates the validation split, and passes its loss to the optimizer (see `nt_asgd.on_evaluation`).

        If it is the best evaluation of the run, the state is saved as the best checkpoint.
        """
        values = self._evaluate_split(self.validation_split)
        self.validated = values is not None
        if self.validated and self.best is not None:
            self.best.update(self.step, self.state, values)
        if self.validated and self.eval_every and self.step % self.eval_every == 0:  # a longer run would do it too
            self.state = self.state.replace(opt_state=on_evaluation(self.state.opt_state, values["loss"]))

    def finish_validation(self) -> None:
        """Repeats the evaluation that a stop or unreadable data interrupted, before the first step of this start.

        No newest checkpoint is written: if the run is stopped again, the next start repeats it with the same result.
        """
        if self.step and not self.validated and self.is_due(self.eval_every, self.decode_every):
            self.validate()

    def evaluate_all(self) -> None:
        """Evaluates the splits that have not been evaluated at this step."""
        for split in self.evaluated:
            if not self.log.has(self.step, split) and self._evaluate_split(split) is None:
                self.check_stop()

    def check_stop(self) -> None:
        """Saves the run if a signal asked it to stop.

        Raises:
          Interrupted: a signal asked it to stop.
        """
        if self.stop:
            if self.step > self.saved_step:
                self.save()
            saved = ", saved" if self.step else ""
            raise Interrupted(
                f"stopped by {self.stop} at step {self.step} of {self.num_steps}{saved} - the same command continues"
            )

    @contextmanager
    def saving_on_data_error(self) -> Iterator[None]:
        """Saves the steps before a batch that cannot be read."""
        try:
            yield
        except DataError:
            if self.step > self.saved_step:
                self.save()
            raise

    def _evaluate_split(self, split: str) -> dict[str, float] | None:
        values = self.evaluate(
            self.state.variables,
            self.evaluated[split],
            with_score=self.is_due(self.decode_every),
            keep_lines=partial(self._keep_lines, split),
            should_stop=lambda: bool(self.stop),
        )
        if values is not None:
            self.log.write(self.step, split, values)
        return values

    def _keep_lines(self, split: str, lines: list[tuple[str, str]]) -> None:
        """Writes the predictions to a file, one a line, and shows three of them."""
        atomic_write(self.directory / f"predictions.{one_line(split)}.txt", "".join(f"{line}\n" for line, _ in lines))
        show(lines)


def show(lines: list[tuple[str, str]]) -> None:
    """Prints three of the predictions of an evaluation, see `Task.lines`."""
    for _, shown in lines[:: max(1, len(lines) // NUM_SHOWN)][:NUM_SHOWN]:
        echo(f"  {one_line(shown)}")
