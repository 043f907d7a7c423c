"""Recurrent language models: what stands next, given all that stood before."""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.errors import ConfigError
from cnnrnn.layers import cudnn_lstm
from cnnrnn.layers.cells import CELLS
from cnnrnn.layers.precision import dot_general, product
from cnnrnn.layers.recurrence import State, init_state
from cnnrnn.layers.recurrent import Recurrent, Stack, dropout, uniform_within
from cnnrnn.signatures import Count, Fraction, Positive


class RecurrentLM(nn.Module):
    """Embedding, recurrent layers, softmax.

    Sources: the slides (a vanilla cell, no biases); Zaremba, Sutskever, Vinyals 2014 (the default: dropout on all that
    goes up, none on what goes on in time); Gal, Ghahramani 2016 (`same_mask`, `recurrent_dropout_rate`,
    `embedding_dropout_rate`); Press, Wolf 2017 (`tied`); Merity, Keskar, Socher 2017 (`weight_drop_rate`, and all of
    these: AWD-LSTM).

    Attributes:
      vocab_size: V.
      cell: of the layers, see cnnrnn/layers/cells.py.
      hidden_size: H of each layer.
      num_layers: how many.
      embed_size: numbers for each token; None is `hidden_size`.
      tied: the softmax uses the embedding as its kernel; the top layer then has `embed_size` units.
      use_bias: whether the cells and the softmax have biases.
      forget_bias: see `Recurrent`; 0 in Zaremba et al. and AWD-LSTM.
      init_scale: every parameter begins uniform within it, and then `forget_bias` is added; None: embedding and softmax
        within 0.1, the bias of the softmax 0, cells as `Recurrent` says.
      embedding_dropout_rate: the share of the vocabulary whose embedding is set to 0 for a whole call.
      input_dropout_rate, layer_dropout_rate, output_dropout_rate: of what goes into the first layer, from one to the
        next, and into the softmax.
      same_mask: one mask for all steps of a call for these three, instead of one for each.
      recurrent_dropout_rate, weight_drop_rate: see `Recurrent`.
      precision: of the products, see cnnrnn/layers/precision.py.
      implementation: of the layers, see `Recurrent`.
    """

    vocab_size: Count
    cell: Literal["vanilla", "lstm", "lstm_peepholes", "lstm_1997", "gru"] = "lstm"
    hidden_size: Count = 200
    num_layers: Count = 2
    embed_size: Count | None = None
    tied: bool = False
    use_bias: bool = True
    forget_bias: float = 1.0
    init_scale: Positive | None = None
    embedding_dropout_rate: Fraction = 0.0
    input_dropout_rate: Fraction = 0.0
    layer_dropout_rate: Fraction = 0.0
    output_dropout_rate: Fraction = 0.0
    same_mask: bool = False
    recurrent_dropout_rate: Fraction = 0.0
    weight_drop_rate: Fraction = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    implementation: Literal["auto", "scan", "cudnn"] = "auto"

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        carry: tuple[State, ...] | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[State, ...]]:
        """Reads tokens and says what may come behind each.

        The top layer's outputs are sown into "outputs", [B, T, H] before and after their dropout.

        Args:
          tokens: [B, T] int32.
          carry: the states of the layers before, see `init_carry`; None is zeros.
          train: whether dropout falls.

        Returns:
          Logits [B, T, V] and the states after.

        Raises:
          ConfigError: `implementation` is "cudnn" and a condition of it does not hold.
        """
        within = uniform_within(self.init_scale or 0.1)
        embed = nn.Embed(self.vocab_size, self.embed_size or self.hidden_size, embedding_init=within, name="embedding")
        x = embed(tokens)  # [B, T, E]
        if train and self.embedding_dropout_rate:
            kept = nn.Dropout(self.embedding_dropout_rate, deterministic=False)(jnp.ones(self.vocab_size))  # [V]
            x = x * kept[tokens][..., None]
        x = dropout(self.input_dropout_rate, self.same_mask, x, train)
        cell, masked = CELLS[self.cell], self.recurrent_dropout_rate > 0
        try:  # before anything is compiled, and of the training too where this call is none
            cudnn_lstm.is_chosen(self.implementation, cell, x, masked=masked, precision=self.precision)
        except ValueError as error:
            raise ConfigError(f"model.{error}") from error
        layer = functools.partial(
            Recurrent,
            cell=cell,
            use_bias=self.use_bias,
            forget_bias=self.forget_bias,
            init_scale=self.init_scale,
            weight_drop_rate=self.weight_drop_rate,
            recurrent_dropout_rate=self.recurrent_dropout_rate,
            precision=self.precision,
            implementation=self.implementation,
        )
        layers = Stack(self.hidden_sizes, layer, self.layer_dropout_rate, self.same_mask, name="layers")
        outputs, carry = layers(x, carry, train=train)  # [B, T, H]
        dropped = dropout(self.output_dropout_rate, self.same_mask, outputs, train)
        if self.is_mutable_collection("outputs") and not self.is_initializing():
            self.sow("outputs", "outputs", (outputs, dropped))
        bias_init = within if self.init_scale else nn.initializers.zeros_init()
        if not self.tied:
            softmax = nn.Dense(
                self.vocab_size,
                self.use_bias,
                kernel_init=within,
                bias_init=bias_init,
                dot_general=dot_general(self.precision),
                name="softmax",
            )
            return softmax(dropped), carry  # logits [B, T, V]
        logits = product(dropped, embed.embedding.T, self.precision)
        return logits + self.param("bias", bias_init, (self.vocab_size,)) if self.use_bias else logits, carry

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """H of each layer, from the bottom up."""
        top = (self.embed_size or self.hidden_size) if self.tied else self.hidden_size
        return (self.hidden_size,) * (self.num_layers - 1) + (top,)

    def init_carry(self, batch_size: int) -> tuple[State, ...]:
        """Zeros, for each layer a state of [B, H] each."""
        return tuple(init_state(CELLS[self.cell], batch_size, size) for size in self.hidden_sizes)
