"""Training metrics between two reports: they stay on the device until one is due."""

import functools
import time

import numpy as np

from cnnrnn import metrics
from cnnrnn.errors import NumericalError
from cnnrnn.training.parallel import AHEAD


class Meter:
    """Adds up the metrics of steps from `step` on, and measures the time of the run over all its starts."""

    def __init__(self, step: int, seconds: float = 0.0):
        self._waiting: list[dict[str, metrics.Average]] = []  # one a program, on the device
        self._sums: list[dict[str, metrics.Average]] = []  # at most one, on the host, of the steps before those
        self._start = time.perf_counter() - seconds
        self._lap = (step, time.perf_counter())  # steps and time at the last question for the speed

    @classmethod
    def from_record(cls, step: int, record: dict) -> "Meter":
        """The meter that `record` wrote down: a run stopped between two reports goes on as if it had not been."""
        meter = cls(step, record["seconds"])
        meter._sums = [{name: tuple(map(np.float64, pair)) for name, pair in sums.items()} for sums in record["sums"]]
        return meter

    def record(self, step: int) -> dict:
        """What a checkpoint after `step` keeps of the meter, in plain numbers; errors as in `take`."""
        self._fetch(step)
        sums = [{name: [float(x) for x in pair] for name, pair in sums.items()} for sums in self._sums]
        return {"seconds": self.seconds, "sums": sums}

    @property
    def seconds(self) -> float:
        """Seconds in the loop since the run began, evaluation and saving included."""
        return time.perf_counter() - self._start

    def add(self, sums: dict[str, metrics.Average]) -> None:
        """Takes the metrics of the steps of a program, [K] each; waits at most for those of some programs before."""
        self._waiting.append(sums)
        metrics.wait_for(self._waiting[:-AHEAD])

    def take(self, step: int) -> dict[str, float]:
        """The metrics of all steps since the last report, up to `step`.

        Raises:
          NumericalError: the loss of one of them is not finite.
        """
        self._fetch(step)
        (sums,), self._sums = self._sums, []
        return metrics.compute(sums)

    def steps_per_second(self, step: int) -> float:
        """The speed since it was last asked for."""
        (before, then), self._lap = self._lap, (step, time.perf_counter())
        return (step - before) / (self._lap[1] - then)

    def _fetch(self, step: int) -> None:
        """Brings the waiting metrics to the host and adds them one by one: a stop does not change the rounding."""
        arrived = [one for steps in metrics.fetch(self._waiting) for one in metrics.split(steps)]
        self._waiting = []
        for number, sums in enumerate(arrived, start=step - len(arrived) + 1):
            if not np.isfinite(sums["loss"].total):
                raise NumericalError(
                    f"the loss of step {number} is {sums['loss'].total} - "
                    "lower optim.learning_rate or set optim.clip_norm"
                )
        self._sums = [functools.reduce(metrics.merge, self._sums + arrived)] if self._sums + arrived else []
