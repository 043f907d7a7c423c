"""Times the compiled LSTM and the scan in turn in one process: python experiments/throughput/native.py

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
from cnnrnn.layers.rnn.layer import Recurrent

ROWS = {  # T, B, inputs, H, direction
    "lstm_35_20_200": (35, 20, 200, 200, "forward"),
    "lstm_35_20_650": (35, 20, 650, 650, "forward"),
    "lstm_128_32_512": (128, 32, 512, 512, "forward"),
    "lstm_784_64_128": (784, 64, 128, 128, "forward"),
    "one layer of bilstm_ctc": (200, 16, 256, 128, "both"),
}


def main() -> None:
    """Prints a row for each size: medians in ms, and the ratio with its range over the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3, help="of timed calls in each round")
    known = parser.parse_args()
    runtime.tune_allocator()  # as in a run
    print("| layer | scan, ms | native, ms | native / scan |\n|---|---|---|---|")
    for name, sizes in ROWS.items():
        steps = {implementation: make_step(implementation, *sizes) for implementation in ("scan", "native")}
        rounds = [{which: measure(step, known.seconds) for which, step in steps.items()} for _ in range(known.rounds)]
        ratios = sorted(each["native"] / each["scan"] for each in rounds)
        scan, native = (statistics.median(each[which] for each in rounds) for which in steps)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(f"| {name} | {scan:.1f} | {native:.1f} | {spread} |", flush=True)


def make_step(implementation: str, num_steps: int, batch_size: int, num_inputs: int, hidden_size: int, direction: str):
    """The gradients of the weights and of the input of a layer, as a call without arguments."""
    layer = Recurrent(hidden_size, direction=direction, implementation=implementation)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch_size, num_steps, num_inputs)), jnp.float32)
    variables = layer.init(jax.random.key(0), x)
    step = jax.jit(jax.grad(lambda variables, x: jnp.sum(jnp.sin(layer.apply(variables, x)[0])), argnums=(0, 1)))
    run = partial(step, variables, x)
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
