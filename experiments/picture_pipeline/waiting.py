"""The time of steps whose batches are streamed from disk, beside that of steps whose batches lie in memory."""

import statistics
from functools import partial
from pathlib import Path

import jax

from cnnrnn.config import build, load
from cnnrnn.training.feed import Feed
from cnnrnn.training.meter import Meter
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import train_steps


def time_steps(config: Path, workers: int, steps: int, turns: int) -> tuple[float, float]:
    """The median seconds of a step whose batch is streamed, and of one whose batch lies in memory."""
    settings = load(str(config), [("data.workers", str(workers))])
    data = build("data", settings.data, seed=0)["train"]
    task = build("task", settings.task, model=build("model", settings.model, **data.dims))
    tx, devices = build("optim", settings.optim, num_steps=settings.train.num_steps), make_devices("jit")
    run = devices.compile_train(partial(train_steps, task=task, tx=tx))
    state = devices.put_state(jax.jit(partial(init_state, task, tx, seed=0))(data.batch(0)))

    def seconds(dataset, first: int, count: int) -> float:
        nonlocal state
        feed, meter = Feed(dataset, devices, "host"), Meter(first)
        for step in range(first, first + count):
            state, sums = run(state, feed.batches(step, 1))
            meter.add(sums)
        jax.block_until_ready(state.step)
        return meter.seconds / count

    times = {"streamed": [], "in memory": []}
    for first in range(0, turns * (8 + steps), 8 + steps):
        seconds(data, first, 8)  # until what was made ahead in the turn before is used up
        kept = dict.fromkeys(range(first + 8, first + 8 + steps))
        times["streamed"].append(seconds(Keeping(data, kept), first + 8, steps))
        times["in memory"].append(seconds(Keeping(data, kept), first + 8, steps))
    return tuple(map(statistics.median, times.values()))


class Keeping:
    """A training split whose batches are kept in a dict, and taken from there the second time."""

    def __init__(self, dataset, kept: dict):
        self.dataset, self.kept = dataset, kept

    def batch(self, step: int):
        if self.kept[step] is None:
            self.kept[step] = self.dataset.batch(step)
        return self.kept[step]
