"""Recurrent cells as pure functions of one step: weights, a state and a multiplied input go in, a state comes out.

Every cell has the weights
  input [D, n H], recurrent [H, n H], bias [n H] (may be left out), and those that it names itself,
where the columns of the kernels are n blocks of H, one for each name in `blocks`. A state is a tuple of arrays [..., H]
of which the first is the output h. A step also returns all that it computed, by name. `step` is the definition; a loop
runs `advance`, the same with the units first, and its derivative `retreat` (cnnrnn/layers/scan.py).
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

Weights = dict[str, jax.Array]
State = tuple[jax.Array, ...]
Gates = dict[str, jax.Array]


class Cell(Protocol):
    """What a scan needs of a cell.

    Attributes:
      blocks: the names of the blocks of columns in the kernels.
      state_size: how many arrays a state has.
    """

    blocks: tuple[str, ...]
    state_size: int

    def step(self, weights: Weights, state: State, z: jax.Array, keep: jax.Array | None = None) -> tuple[State, Gates]:
        """One step.

        Args:
          weights: see above; of them `input` and `bias` are in z already.
          state: before the step, [..., H] each.
          z: the input times its kernel, and the bias, [..., n H].
          keep: multiplies what goes from h into the products, [..., H], but not h itself: the mask of recurrent
            dropout (Gal, Ghahramani 2016, equation 7).

        Returns:
          The state after the step, and every gate by name, [..., H] each.
        """
        ...

    def advance(
        self, weights: Weights, state: State, x: jax.Array, keep: jax.Array | None, dot: Callable
    ) -> tuple[State, Gates]:
        """`step` as the loop takes it, of the input itself and with the units first.

        So a kernel is the left factor of its product and its blocks are rows, which a CPU runs up to twice as fast.

        Args:
          weights: all, and `kernel`, that of the input beside the recurrent one, [n H, D + H], in a tuple: of every
            direction that the loop runs in.
          state: [H, B] each.
          x: [D, B]; or, if `kernel` is [n H, H], the recurrent one alone, all that the input adds to z, [n H, B].
          dot: makes the product of kernels and a matrix.
        """
        ...

    def retreat(
        self,
        weights: Weights,
        before: State,
        gates: Gates,
        after: State,
        d_after: State,
        keep: jax.Array | None,
        dot: Callable,
    ) -> tuple[State, jax.Array, jax.Array]:
        """The derivative of `advance`: of the state before a step, its input [D, B], and its z [n H, B].

        Shapes are those of `advance`, but `kernel` is [D + H, n H] or [H, n H], and then the gradient of the input has
        no rows; d_after is the gradient of the state after.
        """
        ...

    def recurrent_gradient(
        self, before: State, gates: Gates, d_z: jax.Array, keep: jax.Array | None, dot: Callable
    ) -> jax.Array:
        """The gradient of the recurrent kernel, [H, n H], from all steps at once.

        Args:
          before: the states before each step, [T, H, B].
          gates: of each step; d_z: the gradient of each z, [T, n H, B].
          dot: sums over the first and the last axis of two arrays, [T, H, B] and [T, K, B] -> [H, K].
        """
        ...


@dataclasses.dataclass(frozen=True)
class Additive(abc.ABC):
    """A cell that sees the state only through one product that joins the input's, z + h U, and then unit by unit.

    What is unit by unit is written for arrays of any one shape, `[..., H]` or `[H, B]`, and so is its derivative.
    """

    @abc.abstractmethod
    def activate(self, state: State, z: State, peephole: State | None) -> tuple[State, Gates]:
        """The state after and the gates from the blocks of z, which hold the product with the state already."""

    @abc.abstractmethod
    def derivative(self, before: State, gates: Gates, after: State, d_after: State, peephole: State | None):
        """The gradients of the state before, as far as it comes unit by unit, and of each block of z.

        Args:
          before, after: the state; gates: as `activate` returned them; d_after: the gradient of the state after.
        """

    def step(self, weights, state, z, keep=None):
        """See `Cell`."""
        z = jnp.split(z + kept(state[0], keep) @ weights["recurrent"], len(self.blocks), axis=-1)
        return self.activate(state, z, _peephole(weights, axis=-1))

    def advance(self, weights, state, x, keep, dot):
        """See `Cell`."""
        z = _multiplied(weights["kernel"], x, kept(state[0], keep), dot)
        z = z + weights["bias"][:, None] if "bias" in weights else z
        return self.activate(state, jnp.split(z, len(self.blocks)), _peephole(weights, axis=0))

    def retreat(self, weights, before, gates, after, d_after, keep, dot):
        """See `Cell`."""
        (d_h, *rest), d_z = self.derivative(before, gates, after, d_after, _peephole(weights, axis=0))
        d_z = _stack(d_z)  # [n H, B]
        d_xh = dot(weights["kernel"], d_z)  # [D + H, B]
        d_x, d_kept = d_xh[: -len(d_h)], d_xh[-len(d_h) :]
        return (d_h + kept(d_kept, keep), *rest), d_x, d_z

    def recurrent_gradient(self, before, gates, d_z, keep, dot):
        """See `Cell`."""
        return dot(kept(before[0], keep), d_z)


@dataclasses.dataclass(frozen=True)
class Vanilla(Additive):
    """S_t = f(U x_t + W S_{t-1}) with f = tanh: the slides' cell if it has no bias. Source: Elman 1990."""

    blocks: tuple[str, ...] = ("h",)
    state_size: int = 1

    def activate(self, state, z, peephole):
        """See `Additive`."""
        h = jnp.tanh(z[0])
        return (h,), {"h": h}

    def derivative(self, before, gates, after, d_after, peephole):
        """See `Additive`."""
        return (jnp.zeros_like(d_after[0]),), (d_after[0] * (1 - gates["h"] ** 2),)


@dataclasses.dataclass(frozen=True)
class LSTM(Additive):
    """The LSTM with a forget gate and, if asked for, peepholes.

      i = sigmoid(W_i x + U_i h + b_i)      input gate
      f = sigmoid(W_f x + U_f h + b_f)      forget gate
      g = tanh(W_g x + U_g h + b_g)         what might be written
      o = sigmoid(W_o x + U_o h + b_o)      output gate
      c' = f c + i g,   h' = o tanh(c')

    With peepholes, weights `peephole` [3 H], p_i c and p_f c join i and f, and p_o c' joins o, within the sigmoid.
    Sources: Gers, Schmidhuber, Cummins 2000; for peepholes Gers, Schraudolph, Schmidhuber 2002, who left out the
    tanh of c' that later nets have (Greff et al. 2017).
    """

    peepholes: bool = False
    blocks: tuple[str, ...] = ("i", "f", "g", "o")
    state_size: int = 2

    def activate(self, state, z, peephole):
        """See `Additive`."""
        (_, c), (i, f, g, o) = state, z
        if peephole:
            i, f = i + peephole[0] * c, f + peephole[1] * c
        i, f, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g)
        c = f * c + i * g
        o = jax.nn.sigmoid(o + peephole[2] * c if peephole else o)
        h = o * jnp.tanh(c)
        return (h, c), {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}

    def derivative(self, before, gates, after, d_after, peephole):
        """See `Additive`."""
        i, f, g, o = (gates[name] for name in self.blocks)
        d_h, d_c = d_after
        squashed = jnp.tanh(after[1])
        d_o = d_h * squashed * o * (1 - o)
        d_c = d_c + d_h * o * (1 - squashed**2)
        if peephole:
            d_c = d_c + d_o * peephole[2]
        d_i, d_f, d_g = d_c * g * i * (1 - i), d_c * before[1] * f * (1 - f), d_c * i * (1 - g**2)
        d_before = d_c * f
        if peephole:
            d_before = d_before + d_i * peephole[0] + d_f * peephole[1]
        return (jnp.zeros_like(d_h), d_before), (d_i, d_f, d_g, d_o)


@dataclasses.dataclass(frozen=True)
class LSTM1997(Additive):
    """The LSTM before it could forget: c' = c + i g, h' = o tanh(c').

    Source: Hochreiter, Schmidhuber 1997, section 4, with tanh for its squashing functions g and h, which are tanh with
    other slopes and ranges (Greff et al. 2017 call this variant "no forget gate").
    """

    blocks: tuple[str, ...] = ("i", "g", "o")
    state_size: int = 2

    def activate(self, state, z, peephole):
        """See `Additive`."""
        (_, c), (i, g, o) = state, z
        i, g, o = jax.nn.sigmoid(i), jnp.tanh(g), jax.nn.sigmoid(o)
        c = c + i * g
        h = o * jnp.tanh(c)
        return (h, c), {"i": i, "g": g, "o": o, "c": c, "h": h}

    def derivative(self, before, gates, after, d_after, peephole):
        """See `Additive`."""
        i, g, o = (gates[name] for name in self.blocks)
        d_h, d_c = d_after
        squashed = jnp.tanh(after[1])
        d_c = d_c + d_h * o * (1 - squashed**2)
        blocks = d_c * g * i * (1 - i), d_c * i * (1 - g**2), d_h * squashed * o * (1 - o)
        return (jnp.zeros_like(d_h), d_c), blocks


@dataclasses.dataclass(frozen=True)
class GRU:
    """The gated recurrent unit.

      r = sigmoid(W_r x + U_r h + b_r)      reset gate
      z = sigmoid(W_z x + U_z h + b_z)      update gate: how much of the state stays
      n = tanh(W_n x + U_n (r h) + b_n)     the candidate
      h' = z h + (1 - z) n

    Source: Cho et al. 2014, equations 5 to 8.
    """

    blocks: tuple[str, ...] = ("r", "z", "n")
    state_size: int = 1

    def step(self, weights, state, z, keep=None):
        """See `Cell`."""
        (h,) = state
        size = h.shape[-1]
        kernel_gates, kernel_candidate = jnp.split(weights["recurrent"], [2 * size], axis=-1)  # [H, 2 H], [H, H]
        z_gates, z_candidate = jnp.split(z, [2 * size], axis=-1)
        r, u = jnp.split(jax.nn.sigmoid(z_gates + kept(h, keep) @ kernel_gates), 2, axis=-1)
        n = jnp.tanh(z_candidate + kept(r * h, keep) @ kernel_candidate)
        return self._mix(h, r, u, n)

    def _mix(self, h, r, u, n):
        h = u * h + (1 - u) * n
        return (h,), {"r": r, "z": u, "n": n, "h": h}

    def advance(self, weights, state, x, keep, dot):
        """See `Cell`."""
        (h,), size = state, len(state[0])
        k_gates, k_candidate = _split(weights["kernel"], 2 * size, axis=0)
        b_gates, b_candidate = jnp.split(weights["bias"][:, None], [2 * size]) if "bias" in weights else (0, 0)
        x_gates, x_candidate = (x, x) if k_gates[0].shape[1] > size else jnp.split(x, [2 * size])
        r, u = jnp.split(jax.nn.sigmoid(_multiplied(k_gates, x_gates, kept(h, keep), dot) + b_gates), 2)
        n = jnp.tanh(_multiplied(k_candidate, x_candidate, kept(r * h, keep), dot) + b_candidate)
        return self._mix(h, r, u, n)

    def retreat(self, weights, before, gates, after, d_after, keep, dot):
        """See `Cell`."""
        (h,), (d_h,), size = before, d_after, len(before[0])
        k_gates, k_candidate = _split(weights["kernel"], 2 * size, axis=1)  # [D + H, 2 H], [D + H, H]
        r, u, n = (gates[name] for name in self.blocks)
        d_n = d_h * (1 - u) * (1 - n**2)
        from_n = dot(k_candidate, d_n)  # [D + H, B]
        d_rh = kept(from_n[-size:], keep)
        d_r, d_u = d_rh * h * r * (1 - r), d_h * (h - n) * u * (1 - u)
        d_z = _stack((d_r, d_u, d_n))
        from_gates = dot(k_gates, d_z[: 2 * size])
        d_h = d_h * u + d_rh * r + kept(from_gates[-size:], keep)
        return (d_h,), from_n[:-size] + from_gates[:-size], d_z

    def recurrent_gradient(self, before, gates, d_z, keep, dot):
        """See `Cell`."""
        (h,), size = before, before[0].shape[1]
        seen = dot(kept(h, keep), d_z[:, : 2 * size]), dot(kept(gates["r"] * h, keep), d_z[:, 2 * size :])
        return jnp.concatenate(seen, 1)


CELLS: dict[str, Cell] = {
    "vanilla": Vanilla(),
    "lstm": LSTM(),
    "lstm_peepholes": LSTM(peepholes=True),
    "lstm_1997": LSTM1997(),
    "gru": GRU(),
}


def project(weights: Weights, x: jax.Array) -> jax.Array:
    """The input's part of every gate, [..., D] -> [..., n H]: it waits for no state, so one product does all steps."""
    z = x @ weights["input"]
    return z + weights["bias"] if "bias" in weights else z


def init_state(cell: Cell, batch_size: int, hidden_size: int, dtype=jnp.float32) -> State:
    """Zeros, [B, H] each."""
    return tuple(jnp.zeros((batch_size, hidden_size), dtype) for _ in range(cell.state_size))


def _peephole(weights: Weights, axis: int) -> State | None:
    """The peepholes of i, f and o, shaped for states whose units lie along an axis."""
    if "peephole" not in weights:
        return None
    parts = jnp.split(weights["peephole"], 3, axis=-1)
    return tuple(parts) if axis == -1 else tuple(part[:, None] for part in parts)


def _multiplied(kernels: tuple[jax.Array, ...], x: jax.Array, h: jax.Array, dot: Callable) -> jax.Array:
    """What input and state add to z: in one product, unless x has been multiplied before, see `Cell.advance`."""
    return x + dot(kernels, h) if kernels[0].shape[1] == len(h) else dot(kernels, jnp.concatenate([x, h]))


def _split(kernels: tuple[jax.Array, ...], at: int, axis: int) -> Iterator[tuple[jax.Array, ...]]:
    """Both parts of every kernel."""
    return zip(*(jnp.split(kernel, [at], axis) for kernel in kernels), strict=True)


def _stack(blocks: tuple[jax.Array, ...]) -> jax.Array:
    """Blocks [H, B] under each other, written one by one: of a concatenation XLA makes a choice for every element."""
    stacked = jnp.zeros((len(blocks) * len(blocks[0]), blocks[0].shape[1]), blocks[0].dtype)
    for number, block in enumerate(blocks):
        stacked = lax.dynamic_update_slice(stacked, block, (number * len(block), 0))
    return stacked


def kept(h: jax.Array, keep: jax.Array | None) -> jax.Array:
    """What goes from h into the products: all of it, or what a mask keeps."""
    return h if keep is None else h * keep
