"""Recurrent layers: a cell and its weights, scanned over time, and layers on top of each other."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.layers import cudnn_lstm
from cnnrnn.layers.cells import LSTM
from cnnrnn.layers.cudnn_lstm import Implementation
from cnnrnn.layers.precision import Precision
from cnnrnn.layers.recurrence import Cell, State, Weights
from cnnrnn.layers.scan import Direction, scan


class Recurrent(nn.Module):
    """One recurrent layer.

    Parameters: input [D, n H], recurrent [H, n H], bias [n H], peephole [3 H], each as far as the cell has it, and with
    a leading axis of 2 for direction "both". All begin uniform in +-`init_scale`, by default in +-1 / sqrt(H).

    Attributes:
      hidden_size: H.
      cell: one of cnnrnn/layers/cells.py.
      direction: see `scan`.
      use_bias: whether there is a bias; the slides' vanilla cell has none.
      forget_bias: is added to the bias of the forget gate, if it has one, at the start, so that the cell begins by
        remembering (Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015 for 1).
      init_scale: see above.
      weight_drop_rate: the share of recurrent weights set to 0 for all steps of a call in training (Merity, Keskar,
        Socher 2017).
      recurrent_dropout_rate: the share of units whose way back into the gates is cut, for all steps of a call in
        training (Gal, Ghahramani 2016).
      precision: of the products, see cnnrnn/layers/precision.py.
      implementation: "scan" is the loop of cnnrnn/layers/scan.py; "cudnn" the operation of cnnrnn/layers/cudnn_lstm.py,
        refused where its conditions do not hold; "auto" that operation where they do, which is on one NVIDIA GPU,
        and the loop elsewhere. Both compute the same, but only the loop the gates, so whoever asks for these gets it.
    """

    hidden_size: int
    cell: Cell = LSTM()
    direction: Direction = "forward"
    use_bias: bool = True
    forget_bias: float = 1.0
    init_scale: float | None = None
    weight_drop_rate: float = 0.0
    recurrent_dropout_rate: float = 0.0
    precision: Precision = "float32"
    implementation: Implementation = "auto"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        state: State | None = None,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, State]:
        """[B, T, D] and a state -> outputs and the state after; see `scan`. The gates are sown into "gates".

        Raises:
          ValueError: `implementation` is "cudnn" and a condition of it does not hold.
        """
        ways = (2,) if self.direction == "both" else ()
        weights = self._weights(ways, x.shape[-1])
        if train and self.weight_drop_rate:
            dropped = nn.Dropout(self.weight_drop_rate, deterministic=False)(weights["recurrent"])
            weights = weights | {"recurrent": dropped}
        keep = None
        if train and self.recurrent_dropout_rate:
            ones = jnp.ones((x.shape[0], *ways, self.hidden_size), x.dtype)
            keep = nn.Dropout(self.recurrent_dropout_rate, deterministic=False)(ones)
        asked_for_gates = self.is_mutable_collection("gates") and not self.is_initializing()
        in_cudnn = cudnn_lstm.is_chosen(
            self.implementation,
            self.cell,
            x,
            direction=self.direction,
            masked=keep is not None,
            precision=self.precision,
        )
        if in_cudnn and not asked_for_gates:
            return cudnn_lstm.lstm(weights, x, state, lengths=lengths, direction=self.direction)
        outputs, state, gates = scan(
            self.cell,
            weights,
            x,
            state,
            lengths=lengths,
            direction=self.direction,
            keep=keep,
            precision=self.precision,
        )
        if asked_for_gates:
            self.sow("gates", "gates", gates)
        return outputs, state

    def _weights(self, ways: tuple[int, ...], input_size: int) -> Weights:
        size, columns = self.hidden_size, len(self.cell.blocks) * self.hidden_size
        uniform = uniform_within(self.init_scale or size**-0.5)

        def bias_init(key, shape, dtype=jnp.float32):
            bias = uniform(key, shape, dtype)
            if "f" not in self.cell.blocks:
                return bias
            at = self.cell.blocks.index("f") * size
            return bias.at[..., at : at + size].add(self.forget_bias)

        weights = {
            "input": self.param("input", uniform, (*ways, input_size, columns)),
            "recurrent": self.param("recurrent", uniform, (*ways, size, columns)),
        }
        if self.use_bias:
            weights["bias"] = self.param("bias", bias_init, (*ways, columns))
        if getattr(self.cell, "peepholes", False):
            weights["peephole"] = self.param("peephole", uniform, (*ways, 3 * size))
        return weights


class Stack(nn.Module):
    """Recurrent layers on top of each other, with dropout between them.

    Attributes:
      hidden_sizes: H of each layer, from the bottom up.
      layer: makes a layer of a size, `functools.partial(Recurrent, cell=..., ...)`.
      dropout_rate: of what goes from one layer to the next.
      same_mask: one dropout mask for all steps of a call (Gal, Ghahramani 2016) instead of one for each (Zaremba,
        Sutskever, Vinyals 2014).
    """

    hidden_sizes: tuple[int, ...]
    layer: Callable[..., Recurrent] = Recurrent
    dropout_rate: float = 0.0
    same_mask: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        state: tuple[State, ...] | None = None,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """[B, T, D] and a state for each layer -> the top layer's outputs, and the states after."""
        states = [None] * len(self.hidden_sizes) if state is None else state
        after = []
        for number, (size, before) in enumerate(zip(self.hidden_sizes, states, strict=True), start=1):
            if number > 1:
                x = dropout(self.dropout_rate, self.same_mask, x, train)
            x, new = self.layer(size, name=f"layer{number}")(x, before, lengths, train)
            after.append(new)
        return x, tuple(after)


def dropout(rate: float, same_mask: bool, x: jax.Array, train: bool) -> jax.Array:
    """Dropout of a sequence [B, T, D] within a module: a mask for each step, or one for all steps of it.

    What is kept in training is divided by 1 - rate; a rate of 0 makes no layer.
    """
    if not rate:
        return x
    return nn.Dropout(rate, broadcast_dims=(1,) if same_mask else ())(x, deterministic=not train)


def uniform_within(scale: float) -> Callable:
    """An initialiser: uniform from -scale to scale."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -scale, scale)
