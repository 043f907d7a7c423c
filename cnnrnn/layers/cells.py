"""Recurrent cells as pure functions of one step: weights, a state and a multiplied input go in, a state comes out.

Every cell has the weights
  input [D, n H], recurrent [H, n H], bias [n H] (may be left out), and those that it names itself,
where the columns of the kernels are n blocks of H, one for each name in `blocks`. The product with the input needs no
state, so it is made for all steps at once before the loop (`project`). A state is a tuple of arrays [..., H] of which
the first is the output h. A step also returns all that it computed, by name: the gates are read out of the very code
that trains.
"""

import abc
import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp

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


@dataclasses.dataclass(frozen=True)
class Additive(abc.ABC):
    """A cell that sees the state only through one product that joins the input's, z + h U, and unit by unit.

    So the loop can have a derivative of its own, in which the gradient of U is one product over all steps.
    """

    @abc.abstractmethod
    def activate(self, weights: Weights, state: State, z: jax.Array) -> tuple[State, Gates]:
        """As `Cell.step`, but z holds the product with the state already."""

    def step(self, weights, state, z, keep=None):
        """See `Cell`."""
        return self.activate(weights, state, z + kept(state[0], keep) @ weights["recurrent"])


@dataclasses.dataclass(frozen=True)
class Vanilla(Additive):
    """S_t = f(U x_t + W S_{t-1}) with f = tanh: the slides' cell if it has no bias. Source: Elman 1990."""

    blocks: tuple[str, ...] = ("h",)
    state_size: int = 1

    def activate(self, weights, state, z):
        """See `Additive`."""
        h = jnp.tanh(z)
        return (h,), {"h": h}


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

    def activate(self, weights, state, z):
        """See `Additive`."""
        _, c = state
        i, f, g, o = jnp.split(z, 4, axis=-1)
        if self.peepholes:
            p_i, p_f, p_o = jnp.split(weights["peephole"], 3, axis=-1)
            i, f = i + p_i * c, f + p_f * c
        i, f, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g)
        c = f * c + i * g
        o = jax.nn.sigmoid(o + p_o * c if self.peepholes else o)
        h = o * jnp.tanh(c)
        return (h, c), {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


@dataclasses.dataclass(frozen=True)
class LSTM1997(Additive):
    """The LSTM before it could forget: c' = c + i g, h' = o tanh(c').

    Source: Hochreiter, Schmidhuber 1997, section 4, with tanh for its squashing functions g and h, which are tanh with
    other slopes and ranges (Greff et al. 2017 call this variant "no forget gate").
    """

    blocks: tuple[str, ...] = ("i", "g", "o")
    state_size: int = 2

    def activate(self, weights, state, z):
        """See `Additive`."""
        _, c = state
        i, g, o = jnp.split(z, 3, axis=-1)
        i, g, o = jax.nn.sigmoid(i), jnp.tanh(g), jax.nn.sigmoid(o)
        c = c + i * g
        h = o * jnp.tanh(c)
        return (h, c), {"i": i, "g": g, "o": o, "c": c, "h": h}


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
        h = u * h + (1 - u) * n
        return (h,), {"r": r, "z": u, "n": n, "h": h}


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


def kept(h: jax.Array, keep: jax.Array | None) -> jax.Array:
    """What goes from h into the products: all of it, or what a mask keeps."""
    return h if keep is None else h * keep
