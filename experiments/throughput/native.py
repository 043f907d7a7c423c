"""Times the compiled loop over time and the scan in turn in one process: python experiments/throughput/native.py

Forward and backward, with the gradients of the weights and of the input.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cnnrnn import runtime
from cnnrnn.layers.rnn.cells import CELLS
from cnnrnn.layers.rnn.layer import Recurrent

ROWS = {  # cell, T, B, inputs, H, direction, whether the lengths are different
    "lstm_35_20_200": ("lstm", 35, 20, 200, 200, "forward", False),
    "lstm_35_20_650": ("lstm", 35, 20, 650, 650, "forward", False),
    "lstm_128_32_512": ("lstm", 128, 32, 512, 512, "forward", False),
    "lstm_128_32_512, lengths": ("lstm", 128, 32, 512, 512, "forward", True),
    "lstm_784_64_128": ("lstm", 784, 64, 128, 128, "forward", False),
    "one layer of bilstm_ctc": ("lstm", 200, 16, 256, 128, "both", False),
    "gru_35_20_200": ("gru", 35, 20, 200, 200, "forward", False),
    "gru_35_20_650": ("gru", 35, 20, 650, 650, "forward", False),
    "gru_128_32_512": ("gru", 128, 32, 512, 512, "forward", False),
    "gru_784_64_128": ("gru", 784, 64, 128, 128, "forward", False),
}


def main() -> None:
    """Prints a row for each size: medians in ms, and the ratio with its range over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=ROWS, action="append", help="a row; may be given several times")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of timed calls in each round")
    known = parser.parse_args()
    runtime.tune_allocator()  # as in a run
    print("| layer | scan, ms | native, ms | native / scan |\n|---|---|---|---|")
    for name in known.only or ROWS:
        steps = {implementation: make_step(implementation, *ROWS[name]) for implementation in ("scan", "native")}
        rounds = [{which: measure(step, known.seconds) for which, step in steps.items()} for _ in range(known.rounds)]
        ratios = sorted(each["native"] / each["scan"] for each in rounds)
        scan, native = (statistics.median(each[which] for each in rounds) for which in steps)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"| {name} | {scan:.1f} | {native:.1f} | {spread} |", flush=True)


def make_step(
    implementation: str,
    cell: str,
    num_steps: int,
    batch_size: int,
    num_inputs: int,
    hidden_size: int,
    direction: str,
    has_lengths: bool,
):
    """The gradients of the weights and of the input of a layer, as a call without arguments."""
    layer = Recurrent(hidden_size, CELLS[cell], direction=direction, implementation=implementation)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch_size, num_steps, num_inputs)), jnp.float32)
    lengths = jnp.linspace(1, num_steps, batch_size).astype(jnp.int32) if has_lengths else None
    variables = layer.init(jax.random.key(0), x)

    def loss(variables, x, lengths):
        return jnp.sum(jnp.sin(layer.apply(variables, x, lengths=lengths)[0]))

    run = partial(jax.jit(jax.grad(loss, argnums=(0, 1))), variables, x, lengths)
    for _ in range(2):
        jax.block_until_ready(run())
    return run


def measure(run, seconds: float) -> float:
    """The median time of a call in ms."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


if __name__ == "__main__":
    main()
