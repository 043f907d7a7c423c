"""Times steps whose batches are read from disk, and the same steps with batches in memory."""

import statistics
from functools import partial
from pathlib import Path

import jax

from cnnrnn.config import build, load
from cnnrnn.data.dataset import Batch, Dataset
from cnnrnn.training.accumulator import MetricAccumulator
from cnnrnn.training.loader import BatchLoader
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import train_steps

WARMUP = 8  # steps before each turn, to use up the batches that were made ahead during the turn before


def time_steps(config: Path, workers: int, steps: int, turns: int) -> tuple[float, float]:
    """The median seconds of a step whose batch is read from disk, and of one whose batch is in memory."""
    settings = load(str(config), [("data.workers", str(workers))])
    data = build("data", settings.data, seed=0)["train"]
    task = build("task", settings.task, model=build("model", settings.model, **data.dims), info=data.info)
    tx, devices = build("optim", settings.optim, num_steps=settings.train.num_steps), make_devices("jit")
    run = devices.compile_train(partial(train_steps, task=task, tx=tx))
    state = devices.shard_state(jax.jit(partial(init_state, task, tx, seed=0))(data.batch(0)))

    def seconds(dataset, first: int, count: int) -> float:
        nonlocal state
        loader, accumulator = BatchLoader(dataset, devices, "host"), MetricAccumulator(first)
        for step in range(first, first + count):
            state, sums = run(state, loader.batches(step, 1))
            accumulator.add(sums)
        jax.block_until_ready(state.step)
        return accumulator.seconds / count

    times = {"from disk": [], "in memory": []}
    for first in range(0, turns * (WARMUP + steps), WARMUP + steps):
        seconds(data, first, WARMUP)
        cached = CachedDataset(data)
        for where in times:
            times[where].append(seconds(cached, first + WARMUP, steps))
    data.close()
    return tuple(map(statistics.median, times.values()))


class CachedDataset:
    """A training split that reads each batch once; the second time the batch comes from memory."""

    def __init__(self, dataset: Dataset):
        self.source, self._dataset, self._batches = dataset.source, dataset, {}

    def batch(self, step: int) -> Batch:
        if step not in self._batches:
            self._batches[step] = self._dataset.batch(step)
        return self._batches[step]
