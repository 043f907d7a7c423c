"""Recurrent layers as linen modules: one cell over time, and several layers on top of each other."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.layers.precision import Precision
from cnnrnn.layers.rnn.cells import LSTM, Carry, Cell, Weights
from cnnrnn.layers.rnn.implementation import OPERATIONS, Implementation, choose
from cnnrnn.layers.rnn.initializers import Initializer, forget_bias, uniform
from cnnrnn.layers.rnn.scan import Direction, scan


class Recurrent(nn.Module):
    """One recurrent layer.

    Its parameters are the weights of the cell: input_kernel [D, n H], recurrent_kernel [H, n H], bias [n H], and extra
    weights such as peephole [3, H]. For direction "both" each has a leading axis of 2.

    >>> layer = Recurrent(hidden_size=4, direction="both")
    >>> variables = layer.init(jax.random.key(0), jnp.ones((2, 5, 3)))
    >>> outputs, (h, c) = layer.apply(variables, jnp.ones((2, 5, 3)), lengths=jnp.array([5, 2]))
    >>> outputs.shape, h.shape, variables["params"]["input_kernel"].shape
    ((2, 5, 8), (2, 2, 4), (2, 3, 16))

    Attributes:
      hidden_size: H.
      cell: one of cnnrnn/layers/rnn/cells.py, or another `Cell`.
      direction: see `scan`.
      use_bias: whether there is a bias.
      forget_bias: added to the initial bias of the forget gate "f", if the cell has one and `bias_init` is None.
      init_scale: weights without an initialiser are initially uniform in +-init_scale; None is 1 / sqrt(H).
      kernel_init, recurrent_init, bias_init: initialisers of input_kernel, recurrent_kernel and bias, see
        cnnrnn/layers/rnn/initializers.py.
      weight_dropout_rate: of the recurrent kernel, one mask for all steps of a call (Merity, Keskar, Socher 2017).
      recurrent_dropout_rate: of what enters the products with the recurrent kernel, one mask for all steps of a call
        (Gal, Ghahramani 2016).
      precision: of the products, see cnnrnn/layers/precision.py.
      implementation: of the loop over time, see `implementation.choose`. Only "scan" computes the gates, so a caller
        who asks for them gets that.
    """

    hidden_size: int
    cell: Cell = LSTM()
    direction: Direction = "forward"
    use_bias: bool = True
    forget_bias: float = 1.0
    init_scale: float | None = None
    kernel_init: Initializer | None = None
    recurrent_init: Initializer | None = None
    bias_init: Initializer | None = None
    weight_dropout_rate: float = 0.0
    recurrent_dropout_rate: float = 0.0
    precision: Precision = "float32"
    implementation: Implementation = "auto"

    def __call__(
        self,
        x: jax.Array,
        carry: Carry | None = None,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, Carry]:
        """Runs over all steps of sequences. The gates, by name, are sown into the collection "gates".

        Args:
          x: [B, T, D].
          carry, lengths: see `scan`.
          train: whether dropout is applied.

        Returns:
          The outputs [B, T, H], for "both" [B, T, 2 H], and the carry after the last real step, see `scan`.

        Raises:
          ValueError: a condition of `implementation` does not hold.
        """
        weights, recurrent_mask = self._weights(len(x), x.shape[-1], train)
        wants_gates = self.is_mutable_collection("gates") and not self.is_initializing()
        chosen = choose(
            self.implementation,
            self.cell,
            x,
            direction=self.direction,
            has_recurrent_mask=recurrent_mask is not None,
            precision=self.precision,
        )
        if chosen in OPERATIONS and not wants_gates:
            masked = {} if recurrent_mask is None else {"recurrent_mask": recurrent_mask}
            run = OPERATIONS[chosen].run
            return run(self.cell, weights, x, carry, lengths=lengths, direction=self.direction, **masked)
        outputs, carry, gates = scan(
            self.cell,
            weights,
            x,
            carry,
            lengths=lengths,
            direction=self.direction,
            recurrent_mask=recurrent_mask,
            precision=self.precision,
        )
        if wants_gates:
            self.sow("gates", "gates", gates)
        return outputs, carry

    def step(
        self, x: jax.Array, carry: Carry | None = None, recurrent_mask: jax.Array | None = None
    ) -> tuple[jax.Array, Carry]:
        """Runs one step, without weight dropout.

        Args:
          x: [B, D].
          carry: before the step, [B, H] each; None is zeros.
          recurrent_mask: see `Cell.step`.

        Returns:
          The output [B, H] and the carry after the step.

        Raises:
          ValueError: the direction is "both".
        """
        if self.direction == "both":
            raise ValueError("direction is 'both' - a step takes one direction")
        weights, _ = self._weights(len(x), x.shape[-1], train=False)
        if carry is None:
            carry = self.cell.init_carry(len(x), self.hidden_size)
        carry, _ = self.cell.step(weights, carry, x, recurrent_mask, self.precision)
        return carry[0], carry

    @nn.compact
    def _weights(self, batch_size: int, input_size: int, train: bool) -> tuple[Weights, jax.Array | None]:
        """The weights after weight dropout, and the mask of recurrent dropout."""
        directions = (2,) if self.direction == "both" else ()
        default = uniform(self.init_scale or self.hidden_size**-0.5)
        initializers = {
            "input_kernel": self.kernel_init,
            "recurrent_kernel": self.recurrent_init,
            "bias": self.bias_init or forget_bias(self.cell.gate_names, self.forget_bias, default),
        }
        shapes = self.cell.weight_shapes(input_size, self.hidden_size, self.use_bias)
        weights = {
            name: self.param(name, initializers.get(name) or default, (*directions, *shape))
            for name, shape in shapes.items()
        }
        if train and self.weight_dropout_rate:
            dropped = nn.Dropout(self.weight_dropout_rate, deterministic=False)(weights["recurrent_kernel"])
            weights = weights | {"recurrent_kernel": dropped}
        recurrent_mask = None
        if train and self.recurrent_dropout_rate:
            ones = jnp.ones((batch_size, *directions, self.hidden_size))
            recurrent_mask = nn.Dropout(self.recurrent_dropout_rate, deterministic=False)(ones)
        return weights, recurrent_mask


class Stack(nn.Module):
    """Recurrent layers on top of each other, named layer1, layer2, ..., with dropout between them.

    Attributes:
      hidden_sizes: H of each layer, from the bottom up.
      layer: makes a layer of a size: `functools.partial(Recurrent, cell=..., ...)`.
      dropout_rate: of the outputs that enter the next layer.
      variational_dropout: one dropout mask for all steps of a call (Gal, Ghahramani 2016) instead of one for each step
        (Zaremba, Sutskever, Vinyals 2014).
    """

    hidden_sizes: tuple[int, ...]
    layer: Callable[..., Recurrent] = Recurrent
    dropout_rate: float = 0.0
    variational_dropout: bool = False

    def __call__(
        self,
        x: jax.Array,
        carry: tuple[Carry, ...] | None = None,
        lengths: jax.Array | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[Carry, ...]]:
        """[B, T, D] and the carry of each layer -> the top layer's outputs, and the carries after; see `Recurrent`."""
        return self._layers(x, carry, train, lambda layer, x, carry: layer(x, carry, lengths, train))

    def step(
        self, x: jax.Array, carry: tuple[Carry, ...] | None = None, train: bool = False
    ) -> tuple[jax.Array, tuple[Carry, ...]]:
        """One step: [B, D] and the carry of each layer -> the top layer's output, and the carries.

        Of all dropout only that between the layers is applied in training, anew at each step.
        """
        if train and self.variational_dropout:
            raise ValueError("variational_dropout has one mask for all steps - a single step has none")
        return self._layers(x, carry, train, lambda layer, x, carry: layer.step(x, carry))

    @nn.compact
    def _layers(self, x, carry, train, run):
        carries = []
        for number, hidden_size in enumerate(self.hidden_sizes, start=1):
            if number > 1:
                x = dropout(self.dropout_rate, self.variational_dropout, x, train)
            layer = self.layer(hidden_size, name=f"layer{number}")
            x, after = run(layer, x, None if carry is None else carry[number - 1])
            carries.append(after)
        return x, tuple(carries)


def dropout(rate: float, variational: bool, x: jax.Array, train: bool) -> jax.Array:
    """Dropout of sequences [B, T, D] within a module; a rate of 0 makes no submodule.

    Args:
      rate: the share of numbers that become 0 in training; the others are divided by 1 - rate.
      variational: whether all steps share one mask.
      x: [B, T, D].
      train: whether dropout is applied.
    """
    if not rate:
        return x
    return nn.Dropout(rate, broadcast_dims=(1,) if variational else ())(x, deterministic=not train)
