"""Recurrent cells as pure functions of one step: weights, a state and a multiplied input go in, a state comes out.

What their weights and states are, and what a loop asks of them, stands in cnnrnn/layers/recurrence.py.
"""

import dataclasses

import jax
import jax.numpy as jnp

from cnnrnn.layers.recurrence import Additive, Cell, kept, multiplied, split, stacked


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
        k_gates, k_candidate = split(weights["kernel"], 2 * size, axis=0)
        b_gates, b_candidate = jnp.split(weights["bias"][:, None], [2 * size]) if "bias" in weights else (0, 0)
        x_gates, x_candidate = (x, x) if k_gates[0].shape[1] > size else jnp.split(x, [2 * size])
        r, u = jnp.split(jax.nn.sigmoid(multiplied(k_gates, x_gates, kept(h, keep), dot) + b_gates), 2)
        n = jnp.tanh(multiplied(k_candidate, x_candidate, kept(r * h, keep), dot) + b_candidate)
        return self._mix(h, r, u, n)

    def retreat(self, weights, before, gates, after, d_after, keep, dot):
        """See `Cell`."""
        (h,), (d_h,), size = before, d_after, len(before[0])
        k_gates, k_candidate = split(weights["kernel"], 2 * size, axis=1)  # [D + H, 2 H], [D + H, H]
        r, u, n = (gates[name] for name in self.blocks)
        d_n = d_h * (1 - u) * (1 - n**2)
        from_n = dot(k_candidate, d_n)  # [D + H, B]
        d_rh = kept(from_n[-size:], keep)
        d_r, d_u = d_rh * h * r * (1 - r), d_h * (h - n) * u * (1 - u)
        d_z = stacked((d_r, d_u, d_n))
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
