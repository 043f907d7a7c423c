"""Recurrent language models: the next token, given all tokens before it."""

import functools
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.layers.precision import Precision, dot_general, matmul
from cnnrnn.layers.rnn import initializers
from cnnrnn.layers.rnn.cells import CELLS, Carry
from cnnrnn.layers.rnn.implementation import Implementation, choose
from cnnrnn.layers.rnn.layer import Recurrent, Stack, dropout
from cnnrnn.signatures import PositiveFloat, PositiveInt, Rate, Resumable

RECURRENT_INITS = {
    "uniform": None,  # that of all other weights
    "orthogonal": initializers.orthogonal(),
    "identity": initializers.identity(),
}


class RecurrentLM(nn.Module):
    """Embedding, recurrent layers, softmax.

    Sources: the slides (a vanilla cell, no biases); Zaremba, Sutskever, Vinyals 2014 (the default: dropout between
    layers, none from step to step); Gal, Ghahramani 2016 (`variational_dropout`, `recurrent_dropout_rate`,
    `embedding_dropout_rate`); Press, Wolf 2017 (`tie_embeddings`); Merity, Keskar, Socher 2017 (`weight_dropout_rate`,
    and all of these: AWD-LSTM).

    Attributes:
      vocab_size: V.
      cell: of the layers, see cnnrnn/layers/rnn/cells.py.
      hidden_size: H of each layer.
      num_layers: number of recurrent layers.
      embed_size: E, numbers for each token; None is `hidden_size`.
      tie_embeddings: whether the kernel of the softmax is the embedding; the top layer then has E units.
      use_bias: whether the cells and the softmax have biases.
      forget_bias: see `Recurrent`; 0 in Zaremba et al. and AWD-LSTM.
      init_scale: every parameter begins uniform in +-init_scale. None is 1 / sqrt(H) for the cells and 0.1 for
        embedding and softmax, whose bias is then 0.
      recurrent_init: of the recurrent kernels: "uniform" as the others, or for each gate an orthogonal matrix or the
        identity, see cnnrnn/layers/rnn/initializers.py.
      embedding_dropout_rate: the share of the vocabulary whose embedding is set to 0 for a whole call.
      input_dropout_rate: of what enters the first layer.
      layer_dropout_rate: of what enters each other layer.
      output_dropout_rate: of what enters the softmax.
      variational_dropout: whether these three have one mask for all steps of a call instead of one for each step.
      recurrent_dropout_rate, weight_dropout_rate: see `Recurrent`.
      precision: of the products, see cnnrnn/layers/precision.py.
      implementation: of the layers, see `Recurrent`.
    """

    vocab_size: PositiveInt
    cell: Literal["vanilla", "lstm", "lstm_peepholes", "lstm_1997", "gru"] = "lstm"
    hidden_size: PositiveInt = 200
    num_layers: PositiveInt = 2
    embed_size: PositiveInt | None = None
    tie_embeddings: bool = False
    use_bias: bool = True
    forget_bias: float = 1.0
    init_scale: PositiveFloat | None = None
    recurrent_init: Literal["uniform", "orthogonal", "identity"] = "uniform"
    embedding_dropout_rate: Rate = 0.0
    input_dropout_rate: Rate = 0.0
    layer_dropout_rate: Rate = 0.0
    output_dropout_rate: Rate = 0.0
    variational_dropout: bool = False
    recurrent_dropout_rate: Rate = 0.0
    weight_dropout_rate: Rate = 0.0
    precision: Precision = "float32"
    implementation: Resumable[Implementation] = "auto"

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        carry: tuple[Carry, ...] | None = None,
        train: bool = False,
    ) -> tuple[jax.Array, tuple[Carry, ...]]:
        """Reads tokens and predicts the next one after each.

        The top layer's outputs, [B, T, H] before and after their dropout, are sown into the collection "outputs".

        Args:
          tokens: [B, T] int32.
          carry: of each layer before the first token, see `init_carry`; None is zeros.
          train: whether dropout is applied.

        Returns:
          Logits [B, T, V] and the carry of each layer after the last token.

        Raises:
          ValueError: a condition of `implementation` does not hold.
        """
        weight_init = initializers.uniform(self.init_scale or 0.1)
        embed_size = self.embed_size or self.hidden_size
        embed = nn.Embed(self.vocab_size, embed_size, embedding_init=weight_init, name="embedding")
        x = embed(tokens)  # [B, T, E]
        if train and self.embedding_dropout_rate:
            mask = nn.Dropout(self.embedding_dropout_rate, deterministic=False)(jnp.ones(self.vocab_size))  # [V]
            x = x * mask[tokens][..., None]
        x = dropout(self.input_dropout_rate, self.variational_dropout, x, train)
        cell = CELLS[self.cell]
        # Checked as in training, so that initialising a model already finds what training could not run.
        choose(
            self.implementation,
            cell,
            x,
            has_recurrent_mask=self.recurrent_dropout_rate > 0,
            precision=self.precision,
        )
        layer = functools.partial(
            Recurrent,
            cell=cell,
            use_bias=self.use_bias,
            forget_bias=self.forget_bias,
            init_scale=self.init_scale,
            recurrent_init=RECURRENT_INITS[self.recurrent_init],
            weight_dropout_rate=self.weight_dropout_rate,
            recurrent_dropout_rate=self.recurrent_dropout_rate,
            precision=self.precision,
            implementation=self.implementation,
        )
        layers = Stack(self.hidden_sizes, layer, self.layer_dropout_rate, self.variational_dropout, name="layers")
        outputs, carry = layers(x, carry, train=train)  # [B, T, H]
        dropped = dropout(self.output_dropout_rate, self.variational_dropout, outputs, train)
        if self.is_mutable_collection("outputs") and not self.is_initializing():
            self.sow("outputs", "outputs", (outputs, dropped))
        bias_init = weight_init if self.init_scale else nn.initializers.zeros_init()
        if not self.tie_embeddings:
            softmax = nn.Dense(
                self.vocab_size,
                self.use_bias,
                kernel_init=weight_init,
                bias_init=bias_init,
                dot_general=dot_general(self.precision),
                name="softmax",
            )
            return softmax(dropped), carry  # logits [B, T, V]
        logits = matmul(dropped, embed.embedding.T, self.precision)
        return logits + self.param("bias", bias_init, (self.vocab_size,)) if self.use_bias else logits, carry

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """H of each layer, from the bottom up."""
        top = (self.embed_size or self.hidden_size) if self.tie_embeddings else self.hidden_size
        return (self.hidden_size,) * (self.num_layers - 1) + (top,)

    def init_carry(self, batch_size: int) -> tuple[Carry, ...]:
        """Zeros, for each layer a carry of [B, H] each."""
        return tuple(CELLS[self.cell].init_carry(batch_size, size) for size in self.hidden_sizes)
