"""Does a step wait for its input? python experiments/throughput/overlap.py [--config FILE] [--steps N]

The batches of a config are delayed on purpose, by 0, 5, 10 and 20 ms. A loop that prepared a batch and then computed
would take the sum of both times a step. Ours dispatches a step and prepares the next batch meanwhile.
"""

import argparse
import time
from functools import partial

import jax

from cnnrnn.config import build, load
from cnnrnn.training.accumulator import MetricAccumulator
from cnnrnn.training.loader import BatchLoader
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import train_steps


class Late:
    """A training split whose batches are delayed by some seconds."""

    def __init__(self, dataset, seconds: float):
        self.dataset, self.seconds = dataset, seconds
        self.sampler, self.can_gather_on_device = dataset.sampler, False

    def batch(self, step: int):
        time.sleep(self.seconds)
        return self.dataset.batch(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/digits_lenet5.py")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    config = load(arguments.config)
    data = build("data", config.data, seed=0)["train"]
    task = build("task", config.task, model=build("model", config.model, **data.dims), info=data.info)
    tx, devices = build("optim", config.optim, num_steps=config.train.num_steps), make_devices("jit")
    run = devices.compile_train(partial(train_steps, task=task, tx=tx))
    print("| delay of a batch, ms | a step takes, ms |\n|---|---|")
    for late in (0, 0, 5, 10, 20):  # the first is the warm-up
        loader = BatchLoader(Late(data, late / 1e3), devices, "host")
        state = devices.shard_state(jax.jit(partial(init_state, task, tx, seed=0))(data.batch(0)))
        accumulator = MetricAccumulator(0)
        for step in range(arguments.steps):
            state, sums = run(state, loader.batches(step, 1))
            accumulator.add(sums)
        jax.block_until_ready(state.step)
        print(f"| {late} | {1e3 * accumulator.seconds / arguments.steps:.1f} |", flush=True)


if __name__ == "__main__":
    main()
