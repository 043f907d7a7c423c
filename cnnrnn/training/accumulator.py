"""Training metrics between two reports. They stay on the device until a report is due."""

import functools
import time

import jax
import numpy as np

from cnnrnn import metrics
from cnnrnn.errors import NumericalError
from cnnrnn.metrics import Sums

MAX_IN_FLIGHT = 8  # programs that may be queued on the device; each keeps its batches in memory there


class MetricAccumulator:
    """Adds up the metrics of the steps after `step`, and measures the time of a run, earlier starts included."""

    def __init__(self, step: int, seconds: float = 0.0):
        self._pending: list[Sums] = []  # one a program, on the device
        self._sums: list[Sums] = []  # at most one, on the host: the steps before the pending ones
        self._start = time.perf_counter() - seconds
        self._last_speed = (step, time.perf_counter())

    @classmethod
    def from_record(cls, step: int, record: dict) -> "MetricAccumulator":
        """The accumulator that `record` stored. A run that is resumed between two reports loses no metrics."""
        accumulator = cls(step, record["seconds"])
        accumulator._sums = [
            {name: tuple(map(np.float64, fields)) for name, fields in sums.items()} for sums in record["sums"]
        ]
        return accumulator

    def record(self, step: int) -> dict:
        """What a checkpoint after `step` stores, in plain numbers. Raises as `compute_and_reset` does."""
        self._fetch(step)
        sums = [{name: [float(x) for x in fields] for name, fields in sums.items()} for sums in self._sums]
        return {"seconds": self.seconds, "sums": sums}

    @property
    def seconds(self) -> float:
        """Seconds that the run has spent in the loop, over all starts, including evaluation and checkpoints."""
        return time.perf_counter() - self._start

    def add(self, sums: Sums) -> None:
        """Takes the metrics [K] of the steps of a program. Waits if more than `MAX_IN_FLIGHT` programs are queued."""
        self._pending.append(sums)
        if len(self._pending) > MAX_IN_FLIGHT:
            jax.block_until_ready(self._pending[-MAX_IN_FLIGHT - 1])

    def compute_and_reset(self, step: int) -> dict[str, float]:
        """The metrics of all steps since the last report, up to `step`.

        Raises:
          NumericalError: the loss of a step is not finite.
        """
        self._fetch(step)
        (sums,), self._sums = self._sums, []
        return metrics.compute(sums)

    def steps_per_second(self, step: int) -> float:
        """The speed since the previous call."""
        (old_step, then), self._last_speed = self._last_speed, (step, time.perf_counter())
        return (step - old_step) / (self._last_speed[1] - then)

    def _fetch(self, step: int) -> None:
        """Moves pending metrics to the host and adds them one by one, so that a stop does not change the rounding."""
        arrived = [one for steps in metrics.fetch(self._pending) for one in metrics.split_steps(steps)]
        self._pending = []
        for number, sums in enumerate(arrived, start=step - len(arrived) + 1):
            if not np.isfinite(sums["loss"].total):
                raise NumericalError(
                    f"the loss of step {number} is {sums['loss'].total} - "
                    "lower optim.learning_rate or set optim.clip_norm"
                )
        self._sums = [functools.reduce(metrics.merge, self._sums + arrived)] if self._sums + arrived else []
