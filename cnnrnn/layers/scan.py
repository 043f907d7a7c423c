"""A recurrent cell over time: the compiled loop with a derivative of its own, and the unrolled picture of the same."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.cells import Additive, Cell, Gates, State, Weights, init_state, kept, project

Direction = Literal["forward", "backward", "both"]


def scan(
    cell: Cell,
    weights: Weights,
    x: jax.Array,
    state: State | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Direction = "forward",
    keep: jax.Array | None = None,
) -> tuple[jax.Array, State, Gates]:
    """Runs a cell over every step of a batch of sequences, in one compiled loop.

    Args:
      cell: one of cnnrnn/layers/cells.py.
      weights: of the cell; for direction "both" each with a leading axis of 2, forward and backward.
      x: [B, T, D].
      state: before the first step, each [B, H], for "both" [B, 2, H]; None is zeros.
      lengths: [B]; from there on a sequence is padding: outputs are 0 and the state stays as it is. None is T.
      direction: "backward" begins at a sequence's last real step; "both" runs both ways in one loop.
      keep: a mask of recurrent dropout, see `Cell.step`: [B, H], for "both" [B, 2, H]; a constant, it has no gradient.

    Returns:
      The outputs [B, T, H], for "both" [B, T, 2 H], forward before backward; the state after the last real step;
      every gate by name, shaped as the outputs: they cost nothing under `jit` if they are not used. Only gradients in
      reverse mode can be had of an `Additive` cell (grad and vjp, not jvp).
    """
    x = x.swapaxes(0, 1)  # [T, B, D]
    num_steps, batch_size = x.shape[:2]
    real = None
    if lengths is not None:
        real = jnp.arange(num_steps)[:, None] < lengths  # [T, B]
        x = jnp.where(real[..., None], x, 0)  # padding may hold anything, and 0 times NaN would be a gradient of NaN
    if direction != "both":
        if state is None:
            state = init_state(cell, batch_size, weights["recurrent"].shape[-2], x.dtype)
        run = partial(_run, cell, direction == "backward")
        outputs, state, gates = run(weights, project(weights, x), real, state, keep)
    else:
        if state is None:
            state = init_state(cell, batch_size, weights["recurrent"].shape[-2], x.dtype)
            state = tuple(jnp.stack([s, s], 1) for s in state)
        forward, backward = jax.vmap(project, (0, None))(weights, x)
        z = jnp.stack([forward, jnp.flip(backward, 0)])  # [2, T, B, n H]: both ways begin at place 0
        real = None if real is None else jnp.stack([real, jnp.flip(real, 0)])  # [2, T, B]
        state, keep = jax.tree.map(lambda pair: pair.swapaxes(0, 1), (state, keep))  # [2, B, H]
        outputs, state, gates = jax.vmap(partial(_run, cell, False))(weights, z, real, state, keep)
        state = tuple(s.swapaxes(0, 1) for s in state)
        outputs, gates = jax.tree.map(_in_order, (outputs, gates))
    outputs, gates = jax.tree.map(lambda steps: steps.swapaxes(0, 1), (outputs, gates))
    return outputs, state, gates


def _run(cell, reverse, weights, z, real, state, keep):
    """One way over the steps of z [T, B, n H]: outputs, the state at the end, the gates of all steps."""
    inner = {name: weight for name, weight in weights.items() if name not in ("input", "bias")}
    loop = _loop_with_derivative if isinstance(cell, Additive) else _loop
    states = loop(cell, reverse, inner, z, real, state, keep)
    _, gates = cell.step(weights, _before(state, states, reverse), z, keep)  # of all steps at once
    outputs = states[0] if real is None else jnp.where(real[..., None], states[0], 0)
    return outputs, tuple(s[0 if reverse else -1] for s in states), gates


def _loop(cell, reverse, weights, z, real, state, keep):
    """The state after each step, [T, B, H] each."""

    def advance(state, inputs):
        z, real = inputs
        new = _held(real, cell.step(weights, state, z, keep)[0], state)
        return new, new

    return lax.scan(advance, state, (z, real), reverse=reverse)[1]


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _loop_with_derivative(cell, reverse, weights, z, real, state, keep):
    """As `_loop`, of an `Additive` cell.

    Backward in time only the gradients of the state and of z are computed; that of the recurrent kernel, which
    automatic differentiation would carry through every step, is one large product after the loop.
    """
    return _loop(cell, reverse, weights, z, real, state, keep)


def _loop_forward(cell, reverse, weights, z, real, state, keep):
    def advance(state, inputs):
        z, real = inputs
        total = z + kept(state[0], keep) @ weights["recurrent"]
        new = _held(real, cell.activate(weights, state, total)[0], state)
        return new, (new, total)

    _, (states, totals) = lax.scan(advance, state, (z, real), reverse=reverse)
    return states, (weights, totals, real, keep, _before(state, states, reverse))


def _loop_backward(cell, reverse, saved, d_states):
    weights, totals, real, keep, before = saved
    others = {name: weight for name, weight in weights.items() if name != "recurrent"}
    transposed = weights["recurrent"].T  # once, not in every step

    def retreat(carry, inputs):
        d_state, d_others = carry
        d_new, state, total, real = inputs
        d_new = jax.tree.map(jnp.add, d_new, d_state)
        _, pull = jax.vjp(lambda *x: cell.activate(*x)[0], others, state, total)
        zeros = jax.tree.map(jnp.zeros_like, d_new)
        d_step, d_state, d_total = pull(_held(real, d_new, zeros))
        d_h = kept(d_total @ transposed, keep)
        d_state = (d_state[0] + d_h, *d_state[1:])
        d_state = jax.tree.map(jnp.add, d_state, _held(real, zeros, d_new)) if real is not None else d_state
        return (d_state, jax.tree.map(jnp.add, d_others, d_step)), d_total

    start = jax.tree.map(lambda d: jnp.zeros_like(d[0]), d_states), jax.tree.map(jnp.zeros_like, others)
    (d_state, d_others), d_z = lax.scan(retreat, start, (d_states, before, totals, real), reverse=not reverse)
    d_recurrent = jnp.einsum("tbh,tbk->hk", kept(before[0], keep), d_z)
    return d_others | {"recurrent": d_recurrent}, d_z, None, d_state, None


_loop_with_derivative.defvjp(_loop_forward, _loop_backward)


def _held(real, new, old):
    """The new state where a step is real, else the old one."""
    return new if real is None else jax.tree.map(lambda n, o: jnp.where(real[..., None], n, o), new, old)


def _before(state, states, reverse):
    """The state before each step, [T, B, H] each, from that before the first and those after each."""
    if reverse:
        return tuple(jnp.concatenate([after[1:], first[None]]) for first, after in zip(state, states, strict=True))
    return tuple(jnp.concatenate([first[None], after[:-1]]) for first, after in zip(state, states, strict=True))


def unroll(
    cell: Cell,
    weights: Weights,
    x: jax.Array,
    state: State | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Direction = "forward",
    keep: jax.Array | None = None,
) -> tuple[jax.Array, State]:
    """The slides' unrolled picture: a copy of the cell a step, in plain Python. Arguments and results as in `scan`."""
    if direction == "both":
        halves = [
            unroll(
                cell,
                {name: weight[way] for name, weight in weights.items()},
                x,
                None if state is None else tuple(s[:, way] for s in state),
                lengths=lengths,
                direction=name,
                keep=None if keep is None else keep[:, way],
            )
            for way, name in enumerate(("forward", "backward"))
        ]
        (forward, state_f), (backward, state_b) = halves
        return jnp.concatenate([forward, backward], -1), tuple(
            jnp.stack(pair, 1) for pair in zip(state_f, state_b, strict=True)
        )
    batch_size, num_steps = x.shape[:2]
    state = init_state(cell, batch_size, weights["recurrent"].shape[-2]) if state is None else state
    outputs = [None] * num_steps
    for t in range(num_steps) if direction == "forward" else reversed(range(num_steps)):
        new, _ = cell.step(weights, state, project(weights, x[:, t]), keep)
        real = jnp.full((batch_size, 1), True) if lengths is None else (t < lengths)[:, None]
        outputs[t] = jnp.where(real, new[0], 0)
        state = tuple(jnp.where(real, n, s) for n, s in zip(new, state, strict=True))
    return jnp.stack(outputs, 1), state


def _in_order(sequence: jax.Array) -> jax.Array:
    """Forward and backward steps [2, T, B, H], the backward ones in the order of their loop -> [T, B, 2 H]."""
    return jnp.concatenate([sequence[0], jnp.flip(sequence[1], 0)], -1)
