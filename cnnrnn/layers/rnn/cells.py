"""Recurrent cells. Each is written as the equations of one step, independent of the layout of the arrays.

Shapes: D input features, H hidden units, n gates of a cell, k gates of one product. A cell has the weights

  input_kernel      [D, n H]
  recurrent_kernel  [H, n H]
  bias              [n H], optional

where gate number j of `gate_names` has the columns j H to (j + 1) H, and may have others, such as peephole [3, H].
"""

import abc
import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from cnnrnn.layers.precision import Precision, matmul
from cnnrnn.layers.rnn.initializers import Initializer, uniform

Weights = dict[str, jax.Array]
Carry = tuple[jax.Array, ...]
Gates = dict[str, jax.Array]
Preactivation = Callable[..., Sequence[jax.Array]]


class Cell(abc.ABC):
    """A recurrent cell.

    A new cell is a frozen dataclass that derives from this class and defines `gate_names` and `update`, and
    `num_carries` and `extra_shapes` if they differ from the defaults. `scan` and the layers need nothing else.

    Attributes:
      gate_names: names of the gates, in the order of their columns in the kernels.
      num_carries: number of arrays in the carry; the first one is the output h.
    """

    gate_names: tuple[str, ...]
    num_carries = 1

    @abc.abstractmethod
    def update(self, preactivation: Preactivation, carry: Carry, weights: Weights) -> tuple[Carry, Gates]:
        """The equations of one step.

        All operations but `preactivation` must be elementwise, because `step` and `scan` order the axes differently.

        Args:
          preactivation: `preactivation(value, *names)` returns W x + U value + b for each named gate, where value has
            the shape of h. Each gate must be computed exactly once.
          carry: before the step.
          weights: the extra weights. They are indexed along their leading axis: each `weights[name][k]` broadcasts
            against h.

        Returns:
          The carry after the step, and the gates and other quantities of interest, by name.
        """

    def extra_shapes(self, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights other than kernels and bias, [K, H] each."""
        return {}

    def weight_shapes(self, input_size: int, hidden_size: int, use_bias: bool = True) -> dict[str, tuple[int, ...]]:
        """Shapes of all weights, by name."""
        columns = len(self.gate_names) * hidden_size
        shapes = {"input_kernel": (input_size, columns), "recurrent_kernel": (hidden_size, columns)}
        return shapes | ({"bias": (columns,)} if use_bias else {}) | self.extra_shapes(hidden_size)

    def init(
        self, key: jax.Array, input_size: int, hidden_size: int, *, use_bias: bool = True, **initializers: Initializer
    ) -> Weights:
        """Random weights.

        Args:
          key: a JAX random key.
          input_size: D.
          hidden_size: H.
          use_bias: whether there is a bias.
          initializers: by the name of a weight, see cnnrnn/layers/rnn/initializers.py. A weight without one is uniform
            in +-1 / sqrt(H).

        Returns:
          {name: float32 array}, see the top of this file.

        Raises:
          ValueError: an initialiser is named after no weight of this cell.
        """
        shapes = self.weight_shapes(input_size, hidden_size, use_bias)
        if unknown := initializers.keys() - shapes:
            raise ValueError(f"{type(self).__name__} has no {', '.join(sorted(unknown))} - it has {', '.join(shapes)}")
        default = uniform(hidden_size**-0.5)
        return {
            name: initializers.get(name, default)(key, shape)
            for key, (name, shape) in zip(jax.random.split(key, len(shapes)), shapes.items(), strict=True)
        }

    def init_carry(self, batch_size: int, hidden_size: int, dtype=jnp.float32) -> Carry:
        """Zeros, [B, H] each."""
        return tuple(jnp.zeros((batch_size, hidden_size), dtype) for _ in range(self.num_carries))

    def step(
        self,
        weights: Weights,
        carry: Carry,
        x: jax.Array,
        recurrent_mask: jax.Array | None = None,
        precision: Precision = "float32",
    ) -> tuple[Carry, Gates]:
        """One step.

        Args:
          weights: see the top of this file.
          carry: before the step, [..., H] each.
          x: input, [..., D].
          recurrent_mask: [..., H], multiplies what enters the products with the recurrent kernel, but not the carry
            itself: recurrent dropout (Gal, Ghahramani 2016, equation 7). None is ones.
          precision: of the products, see cnnrnn/layers/precision.py.

        Returns:
          The carry after the step, and the gates by name, [..., H] each.
        """
        projected = matmul(x, weights["input_kernel"], precision)  # [..., n H]
        projected = projected + weights["bias"] if "bias" in weights else projected

        def preactivation(value, *names):
            value = value if recurrent_mask is None else value * recurrent_mask
            kernel = select_gates(weights["recurrent_kernel"], self.gate_names, names)  # [H, k H]
            pre = select_gates(projected, self.gate_names, names) + matmul(value, kernel, precision)  # [..., k H]
            return jnp.split(pre, len(names), axis=-1)

        return self.update(preactivation, carry, weights)


@dataclasses.dataclass(frozen=True)
class VanillaRNN(Cell):
    """h' = tanh(W x + U h + b). Some texts exchange W and U: S_t = f(U x_t + W S_{t-1}). Source: Elman 1990."""

    gate_names = ("h",)

    def update(self, preactivation, carry, weights):
        """See `Cell`."""
        (h,) = carry
        (h,) = preactivation(h, "h")
        h = jnp.tanh(h)
        return (h,), {"h": h}


@dataclasses.dataclass(frozen=True)
class LSTM(Cell):
    """The LSTM with a forget gate and, optionally, peepholes.

      i = sigmoid(W_i x + U_i h + b_i)      input gate
      f = sigmoid(W_f x + U_f h + b_f)      forget gate
      g = tanh(W_g x + U_g h + b_g)         candidate
      o = sigmoid(W_o x + U_o h + b_o)      output gate
      c' = f c + i g,   h' = o tanh(c')

    Peepholes, the weights `peephole` [3, H], add p_i c and p_f c to the pre-activations of i and f, and p_o c' to that
    of o.

    Sources: Gers, Schmidhuber, Cummins 2000; for peepholes Gers, Schraudolph, Schmidhuber 2002, who
    have h' = o c'. The tanh of c' is usual today (Greff et al. 2017).

    >>> cell = LSTM()
    >>> weights = cell.init(jax.random.key(0), input_size=3, hidden_size=2)
    >>> (h, c), gates = cell.step(weights, cell.init_carry(batch_size=1, hidden_size=2), jnp.ones((1, 3)))
    >>> bool(jnp.allclose(c, gates["i"] * gates["g"])), bool(jnp.allclose(h, gates["o"] * jnp.tanh(c)))
    (True, True)

    Attributes:
      peepholes: whether there are peepholes.
    """

    gate_names = ("i", "f", "g", "o")
    num_carries = 2
    peepholes: bool = False

    def extra_shapes(self, hidden_size):
        """See `Cell`."""
        return {"peephole": (3, hidden_size)} if self.peepholes else {}

    def update(self, preactivation, carry, weights):
        """See `Cell`."""
        h, c = carry
        i, f, g, o = preactivation(h, "i", "f", "g", "o")
        if self.peepholes:
            p_i, p_f, p_o = weights["peephole"]
            i, f = i + p_i * c, f + p_f * c
        i, f, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g)
        c = f * c + i * g
        o = jax.nn.sigmoid(o + p_o * c if self.peepholes else o)
        h = o * jnp.tanh(c)
        return (h, c), {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


@dataclasses.dataclass(frozen=True)
class LSTM1997(Cell):
    """The LSTM without a forget gate: c' = c + i g, h' = o tanh(c').

    Source: Hochreiter, Schmidhuber 1997, section 4, whose functions g and h have the shape of tanh but other slopes
    and ranges. Greff et al. 2017 call it "no forget gate".
    """

    gate_names = ("i", "g", "o")
    num_carries = 2

    def update(self, preactivation, carry, weights):
        """See `Cell`."""
        h, c = carry
        i, g, o = preactivation(h, "i", "g", "o")
        i, g, o = jax.nn.sigmoid(i), jnp.tanh(g), jax.nn.sigmoid(o)
        c = c + i * g
        h = o * jnp.tanh(c)
        return (h, c), {"i": i, "g": g, "o": o, "c": c, "h": h}


@dataclasses.dataclass(frozen=True)
class GRU(Cell):
    """The gated recurrent unit.

      r = sigmoid(W_r x + U_r h + b_r)      reset gate
      z = sigmoid(W_z x + U_z h + b_z)      update gate: the share of h that remains
      n = tanh(W_n x + U_n (r h) + b_n)     candidate
      h' = z h + (1 - z) n

    Source: Cho et al. 2014, equations 5 to 8.
    """

    gate_names = ("r", "z", "n")

    def update(self, preactivation, carry, weights):
        """See `Cell`."""
        (h,) = carry
        r, z = map(jax.nn.sigmoid, preactivation(h, "r", "z"))
        (n,) = preactivation(r * h, "n")
        n = jnp.tanh(n)
        h = z * h + (1 - z) * n
        return (h,), {"r": r, "z": z, "n": n, "h": h}


CELLS: dict[str, Cell] = {
    "vanilla": VanillaRNN(),
    "lstm": LSTM(),
    "lstm_peepholes": LSTM(peepholes=True),
    "lstm_1997": LSTM1997(),
    "gru": GRU(),
}


def select_gates(array: jax.Array, present: tuple[str, ...], wanted: tuple[str, ...]) -> jax.Array:
    """The columns [..., k H] of the wanted gates, in their order, of an array [..., n H] that has the present ones."""
    if wanted == present:
        return array
    blocks = dict(zip(present, jnp.split(array, len(present), axis=-1), strict=True))
    return jnp.concatenate([blocks[name] for name in wanted], axis=-1)
