"""A recurrent cell over time: the compiled loop with a derivative of its own, and the unrolled picture of the same."""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.precision import Precision, bf16_dot, computes_in_bf16
from cnnrnn.layers.recurrence import Cell, Gates, State, Weights, init_state, project

Direction = Literal["forward", "backward", "both"]
LARGE = 10 << 20  # bytes: a joint kernel beyond it leaves the cache, and each step pays for reading it again


def scan(
    cell: Cell,
    weights: Weights,
    x: jax.Array,
    state: State | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Direction = "forward",
    keep: jax.Array | None = None,
    precision: Precision = "float32",
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
      precision: of the products, see cnnrnn/layers/precision.py.

    Returns:
      The outputs [B, T, H], for "both" [B, T, 2 H], forward before backward; the state after the last real step;
      every gate by name, shaped as the outputs: they cost nothing under `jit` if they are not used. Only gradients in
      reverse mode can be had (grad and vjp, not jvp).
    """
    way = _Way(cell, direction == "backward", computes_in_bf16(precision))
    batch_size, num_steps = x.shape[:2]
    if lengths is not None:
        real = jnp.arange(num_steps) < lengths[:, None]  # [B, T]
        x = jnp.where(real[..., None], x, 0)  # padding may hold anything, and 0 times NaN would be a gradient of NaN
        real = real.T[:, None]  # [T, 1, B]
    else:
        real = None
    if state is None:
        state = init_state(cell, batch_size, weights["recurrent"].shape[-2], x.dtype)
        state = tuple(jnp.stack([s, s], 1) for s in state) if direction == "both" else state
    halves = [weights] if direction != "both" else [{name: w[half] for name, w in weights.items()} for half in (0, 1)]
    kernels = tuple(map(_kernel, halves))
    x = x.transpose(1, 2, 0)  # [T, D, B]: units first, see `Cell.advance`
    state, keep = jax.tree.map(lambda s: jnp.moveaxis(s, 0, -1), (state, keep))  # [H, B] or [2, H, B]
    if direction != "both":
        outputs, state, gates = _run(way, kernels, weights, x, real, state, keep)
    else:
        x = jnp.stack([x, jnp.flip(x, 0)])  # [2, T, D, B]: both ways begin at place 0
        real = None if real is None else jnp.stack([real, jnp.flip(real, 0)])
        both = jax.vmap(partial(_run, way, kernels))
        outputs, state, gates = both(weights, x, real, state, keep)
        outputs, gates = jax.tree.map(_in_order, (outputs, gates))
    state = jax.tree.map(lambda s: jnp.moveaxis(s, -1, 0), state)  # [B, H] or [B, 2, H]
    outputs, gates = jax.tree.map(lambda steps: steps.transpose(2, 0, 1), (outputs, gates))  # [B, T, H]
    return outputs, state, gates


class _Way(NamedTuple):
    """How a loop runs: its cell, whether it begins at the end, whether its products are of bf16 operands."""

    cell: Cell
    reverse: bool
    bf16: bool

    def dot(self, kernels, b):
        """The kernel [M, K] of each direction and [K, N] -> [M, N]."""
        return _product(self.bf16, kernels, b)

    def sum_dot(self, a, b):
        """[T, H, B] and [T, K, B] -> [H, K]."""
        a, b = (jnp.moveaxis(s, 1, 2).reshape(-1, s.shape[1]) for s in (a, b))  # [T B, H], [T B, K]
        return _product(self.bf16, a.T, b)

    def each_dot(self, a, b):
        """[M, K] and [T, K, B] -> [T, M, B], in one product."""
        columns = jnp.moveaxis(b, 1, 0).reshape(b.shape[1], -1)  # [K, T B]
        return jnp.moveaxis(_product(self.bf16, a, columns).reshape(-1, len(b), b.shape[2]), 0, 1)

    def place_before(self, t):
        """Of the step that comes before step t in this way."""
        return t + 1 if self.reverse else t - 1


def _product(bf16, a, b):
    """A product of matrices; of both directions at once two: XLA:CPU runs a batch of products at half speed.

    a may be a tuple of matrices, one for each direction: a loop would cut them out of one array again in every step.
    """

    @jax.custom_batching.custom_vmap
    def product(a, b):
        a = a[0] if isinstance(a, tuple) else a
        return bf16_dot(a, b, ((1,), (0,))) if bf16 else a @ b

    @product.def_vmap
    def each(axis_size, batched, a, b):
        lefts = a if isinstance(a, tuple) or batched[0] else [a] * axis_size
        rights = b if batched[1] else [b] * axis_size
        return jnp.stack([_product(bf16, *pair) for pair in zip(lefts, rights, strict=True)]), True

    return product(a, b)


def _run(way, kernels, weights, x, real, state, keep):
    """One way over the steps of x [T, D, B]: outputs, the state at the end, the gates of all steps, [T, H, B] each.

    kernels: what the loop multiplies with, see `_kernel`, of each direction.
    """
    states = _loop(way, kernels, weights, x, real, state, keep)
    rows = lambda steps: steps.swapaxes(-1, -2)  # noqa: E731
    before = tuple(rows(s) for s in _before(way, state, states))  # [T, B, H]
    _, gates = way.cell.step(weights, before, project(weights, rows(x)), None if keep is None else rows(keep))
    outputs = states[0] if real is None else jnp.where(real, states[0], 0)
    return outputs, tuple(s[0 if way.reverse else -1] for s in states), jax.tree.map(rows, gates)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loop(way, kernels, weights, x, real, state, keep):
    """The state after each step, [T, H, B] each.

    Its derivative keeps the gates; backward in time only the gradients of the state and of z are computed, and those of
    the kernels, which automatic differentiation would carry through every step, are large products after the loop.
    """
    return _loop_forward(way, kernels, weights, x, real, state, keep)[0]


def _loop_forward(way, kernels, weights, x, real, state, keep):
    multiplied = way.each_dot(weights["input"].T, x) if _is_apart(weights) else x  # [T, n H, B] or [T, D, B]
    turned = weights | {"kernel": tuple(kernel.T for kernel in kernels)}

    def advance(state, inputs):
        x, real = inputs
        new, gates = way.cell.advance(turned, state, x, keep, way.dot)
        new = _held(real, new, state)
        return new, (new, tuple(gates[name] for name in way.cell.blocks))

    _, (states, gates) = lax.scan(advance, state, (multiplied, real), reverse=way.reverse)
    return states, (kernels, weights, x, real, state, keep, states, gates)


def _loop_backward(way, saved, d_states):
    kernels, weights, x, real, start, keep, states, gates = saved
    inner = weights | {"kernel": kernels}
    first = len(x) - 1 if way.reverse else 0

    def retreat(carry, inputs):
        d_state, after = carry
        t, d_new, gates, real = inputs
        at = jnp.where(t == first, t, way.place_before(t))
        before = tuple(
            jnp.where(t == first, s, lax.dynamic_index_in_dim(all_steps, at, keepdims=False))
            for s, all_steps in zip(start, states, strict=True)
        )
        d_new = jax.tree.map(jnp.add, d_new, d_state)
        d_step = _held(real, d_new, jax.tree.map(jnp.zeros_like, d_new))
        by_name = dict(zip(way.cell.blocks, gates, strict=True))
        d_state, d_x, d_z = way.cell.retreat(inner, before, by_name, after, d_step, keep, way.dot)
        if real is not None:  # a step of padding hands the gradient on as it is
            d_state = jax.tree.map(lambda d, new: jnp.where(real, d, new), d_state, d_new)
        return (d_state, before), (d_x, d_z)

    zeros = jax.tree.map(jnp.zeros_like, start)
    end = tuple(s[0 if way.reverse else -1] for s in states)
    inputs = jnp.arange(len(x)), d_states, gates, real
    (d_state, _), (d_x, d_z) = lax.scan(retreat, (zeros, end), inputs, reverse=not way.reverse)
    if _is_apart(weights):
        d_x = way.each_dot(weights["input"], d_z)
    before, by_name = _before(way, start, states), dict(zip(way.cell.blocks, gates, strict=True))
    d_weights = {
        "input": way.sum_dot(x, d_z),
        "recurrent": way.cell.recurrent_gradient(before, by_name, d_z, keep, way.sum_dot),
    }
    if "bias" in weights:
        d_weights["bias"] = d_z.sum((0, 2))
    if "peephole" in weights:
        d_i, d_f, _, d_o = jnp.split(d_z, 4, 1)
        pairs = (d_i, before[1]), (d_f, before[1]), (d_o, states[1])
        d_weights["peephole"] = jnp.concatenate([jnp.sum(d * c, (0, 2)) for d, c in pairs])
    return None, d_weights, d_x, None, d_state, None  # the kernels are weights again


_loop.defvjp(_loop_forward, _loop_backward)


def _is_apart(weights):
    """Whether the input is multiplied before the loop, for all steps in one product, instead of within it."""
    return sum(weights[name].size * weights[name].dtype.itemsize for name in ("input", "recurrent")) > LARGE


def _kernel(weights):
    """What the loop multiplies with: the kernel of the input above the recurrent one, [D + H, n H], or that alone."""
    if _is_apart(weights):
        return weights["recurrent"]
    return jnp.concatenate([weights["input"], weights["recurrent"]])


def _held(real, new, old):
    """The new state where a step is real, else the old one."""
    return new if real is None else jax.tree.map(lambda n, o: jnp.where(real, n, o), new, old)


def _before(way, state, states):
    """The state before each step, [T, H, B] each, from that before the first and those after each."""
    if way.reverse:
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
    """Forward and backward steps [2, T, H, B], the backward ones in the order of their loop -> [T, 2 H, B]."""
    return jnp.concatenate([sequence[0], jnp.flip(sequence[1], 0)], 1)
