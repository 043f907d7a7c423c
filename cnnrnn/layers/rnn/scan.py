"""A recurrent cell over time: `scan` is one compiled loop, `unroll` the same loop in plain Python."""

from typing import Literal

import jax
import jax.numpy as jnp

from cnnrnn.layers.precision import Precision
from cnnrnn.layers.rnn.cells import Carry, Cell, Gates, Weights
from cnnrnn.layers.rnn.loop import make_loop, run, shift

Direction = Literal["forward", "backward", "both"]


def scan(
    cell: Cell,
    weights: Weights,
    x: jax.Array,
    carry: Carry | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Direction = "forward",
    recurrent_mask: jax.Array | None = None,
    precision: Precision = "float32",
    hoist_above: int = 10 << 20,
) -> tuple[jax.Array, Carry, Gates]:
    """Runs a cell over every step of a batch of sequences, in one compiled loop.

    >>> from cnnrnn.layers.rnn.cells import GRU
    >>> weights = GRU().init(jax.random.key(0), input_size=3, hidden_size=4)
    >>> outputs, (h,), gates = scan(GRU(), weights, jnp.ones((2, 5, 3)), lengths=jnp.array([5, 2]))
    >>> outputs.shape, h.shape, gates["z"].shape, bool((outputs[1, 1] == h[1]).all())
    ((2, 5, 4), (2, 4), (2, 5, 4), True)

    Args:
      cell: one of cnnrnn/layers/rnn/cells.py, or another `Cell`.
      weights: of the cell; for direction "both" each with a leading axis of 2, forward and backward.
      x: [B, T, D].
      carry: before the first step, [B, H] each, for "both" [B, 2, H]; None is zeros.
      lengths: [B] integers; a sequence's steps from there on are padding. In padding the outputs are 0, the carry does
        not change, and x may be anything, NaN too. None is T.
      direction: "backward" begins at a sequence's last real step; "both" runs both directions in one loop.
      recurrent_mask: of recurrent dropout, see `Cell.step`: [B, H], for "both" [B, 2, H]. It is a constant: its
        gradient is 0.
      precision: of the products, see cnnrnn/layers/precision.py.
      hoist_above: bytes. If the kernels of one direction are larger than this, and so than the cache, x is multiplied
        for all steps at once, before the loop; else x and h are multiplied together in each step.

    Returns:
      The outputs [B, T, H], for "both" [B, T, 2 H], forward before backward; the carry after the last real step; every
      gate by name, shaped as the outputs. Under `jit` gates that are not used cost nothing. Derivatives of
      any order are available in reverse mode (grad, vjp, jacrev), but not in forward mode (jvp).
    """
    both = direction == "both"
    weights = {name: jnp.asarray(weights[name]) for name in cell.weight_shapes(1, 1, "bias" in weights)}
    x = jnp.asarray(x, jnp.result_type(x, weights["input_kernel"]))
    valid = None
    if lengths is not None:
        valid = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]  # [B, T, 1]
        x = jnp.where(valid, x, 0)  # a gradient of 0 times NaN would be NaN
        valid = _to_loop(valid, direction)  # [T, P, 1, B]
    if carry is None:
        carry = cell.init_carry(len(x), weights["recurrent_kernel"].shape[-2], x.dtype)
        carry = tuple(jnp.stack([c, c], 1) for c in carry) if both else carry
    x = _to_loop(x, direction)  # [T, P, D, B]
    carry, mask = jax.tree.map(lambda c: jnp.moveaxis(c, 0, -1), (carry, recurrent_mask))  # [P, H, B] each
    loop = make_loop(cell, weights, precision, hoist_above)
    outputs, previous, last = run(loop, weights, x, carry, valid, mask)  # [T, P, H, B] each, last [P, H, B] each
    gates = _all_gates(cell, weights, x, (shift(carry[0], outputs), *previous), mask)
    if valid is not None:
        outputs = jnp.where(valid, outputs, 0)
    outputs, gates = jax.tree.map(lambda steps: _from_loop(steps, direction), (outputs, gates))
    return outputs, tuple(jnp.moveaxis(c, -1, 0) for c in last), gates


def _to_loop(sequence, direction):
    """[B, T, D] -> [T, P, D, B], each direction in the order of its steps."""
    sequence = sequence.transpose(1, 2, 0)
    if direction == "both":
        return jnp.stack([sequence, jnp.flip(sequence, 0)], 1)
    return jnp.flip(sequence, 0) if direction == "backward" else sequence


def _from_loop(steps, direction):
    """[T, P, H, B] in the order of the steps -> [B, T, P H] in the order of time."""
    if direction == "both":
        steps = jnp.concatenate([steps[:, 0], jnp.flip(steps[:, 1], 0)], 1)
    elif direction == "backward":
        steps = jnp.flip(steps, 0)
    return steps.transpose(2, 0, 1)


def _all_gates(cell, weights, x, previous, mask):
    """The gates of all steps at once, [T, P, H, B] each, from the carries before the steps."""
    swap = lambda array: jnp.swapaxes(array, -1, -2)  # noqa: E731

    def step(weights, previous, x, mask):  # of one direction
        _, gates = cell.step(weights, tuple(map(swap, previous)), swap(x), None if mask is None else swap(mask))
        return jax.tree.map(swap, gates)

    step = jax.vmap(step, in_axes=(0, 1, 1, 0), out_axes=1) if x.ndim == 4 else step
    return step(weights, previous, x, mask)


def unroll(
    cell: Cell,
    weights: Weights,
    x: jax.Array,
    carry: Carry | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Direction = "forward",
    recurrent_mask: jax.Array | None = None,
    precision: Precision = "float32",
) -> tuple[jax.Array, Carry]:
    """Runs a cell over every step in plain Python: the unrolled net, with one copy of the cell for each step.

    Arguments and results are those of `scan`, without the gates.
    """
    if direction == "both":
        take = lambda tree, axis, p: jax.tree.map(lambda array: jnp.take(array, p, axis), tree)  # noqa: E731
        both = [
            unroll(
                cell,
                take(weights, 0, p),
                x,
                take(carry, 1, p),
                lengths=lengths,
                direction=one,
                recurrent_mask=take(recurrent_mask, 1, p),
                precision=precision,
            )
            for p, one in enumerate(("forward", "backward"))
        ]
        outputs, carries = zip(*both, strict=True)
        return jnp.concatenate(outputs, -1), tuple(jnp.stack(pair, 1) for pair in zip(*carries, strict=True))
    batch_size, num_steps = x.shape[:2]
    valid = jnp.full((batch_size, num_steps), True) if lengths is None else jnp.arange(num_steps) < lengths[:, None]
    x = jnp.where(valid[..., None], x, 0)
    carry = cell.init_carry(batch_size, weights["recurrent_kernel"].shape[0]) if carry is None else carry
    outputs = [None] * num_steps
    for t in range(num_steps) if direction == "forward" else reversed(range(num_steps)):
        after, _ = cell.step(weights, carry, x[:, t], recurrent_mask, precision)
        carry = tuple(jnp.where(valid[:, t, None], new, old) for new, old in zip(after, carry, strict=True))
        outputs[t] = jnp.where(valid[:, t, None], after[0], 0)
    return jnp.stack(outputs, 1), carry
