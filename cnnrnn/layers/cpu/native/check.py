"""Compares a compiled library with the scan: python -m cnnrnn.layers.cpu.native.check FILE

It ends with exit code 0 if results and gradients agree to 1e-4 of the largest value, else with `build.DIFFERS`.
"""

import itertools
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from cnnrnn.layers.cpu.native import build, loop
from cnnrnn.layers.cpu.native.primitives import C_NAMES
from cnnrnn.layers.rnn.cells import GRU, LSTM, Cell
from cnnrnn.layers.rnn.scan import scan

TOLERANCE = 1e-4
SIZES = ((3, 5, 7, 20), (7, 9, 35, 33), (7, 100, 70, 140))  # B, T, D, H: panels that are not full, and several chunks


def main(file: str) -> None:
    """Raises SystemExit if the results differ."""
    library = build.register(Path(file))
    for cell, sizes in itertools.product((LSTM(), GRU()), SIZES):
        args, lengths = _example(cell, *sizes), jnp.arange(sizes[0]) * sizes[1] // (sizes[0] - 1)
        mask = jnp.arange(args[2][0].size).reshape(args[2][0].shape) % 3 * 0.5
        settings = {"lengths": lengths, "direction": "both", "recurrent_mask": mask}
        native = _value_and_grad(partial(loop.run, cell, library=library, **settings), args)
        expected = _value_and_grad(lambda *args: scan(cell, *args, **settings)[:2], args)  # noqa: B023
        for got, wanted in zip(jax.tree.leaves(native), jax.tree.leaves(expected), strict=True):
            error = float(jnp.abs(got - wanted).max() / (jnp.abs(wanted).max() + 1e-30))
            if not error <= TOLERANCE:
                print(
                    f"the {C_NAMES[cell].upper()} differs from the scan by {error:.1g} of the largest value",
                    file=sys.stderr,
                )
                sys.exit(build.DIFFERS)


def _example(cell: Cell, batch_size: int, num_steps: int, input_size: int, hidden_size: int) -> tuple:
    keys = iter(jax.random.split(jax.random.key(0), 6))
    shapes = cell.weight_shapes(input_size, hidden_size)
    weights = {name: 0.3 * jax.random.normal(next(keys), (2, *shape)) for name, shape in shapes.items()}
    carry = tuple(jax.random.normal(next(keys), (batch_size, 2, hidden_size)) for _ in range(cell.num_carries))
    return weights, jax.random.normal(next(keys), (batch_size, num_steps, input_size)), carry


def _value_and_grad(run, args: tuple):
    def loss(*args):
        outputs, carry = run(*args)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((outputs, carry))), (outputs, carry)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*args)


if __name__ == "__main__":
    main(sys.argv[1])
