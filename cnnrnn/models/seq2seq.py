"""Recurrent encoder and decoder with attention: one sequence in, another out."""

import functools
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.layers.attention import Attention, Memory
from cnnrnn.layers.precision import Precision, dot_general, matmul
from cnnrnn.layers.rnn import initializers
from cnnrnn.layers.rnn.cells import CELLS
from cnnrnn.layers.rnn.implementation import Implementation
from cnnrnn.layers.rnn.layer import Recurrent, Stack
from cnnrnn.signatures import PositiveInt, Rate, Resumable


class DecoderState(NamedTuple):
    """What a decoder step hands to the next.

    K hypotheses of each source are followed at once.

    Attributes:
      carry: of each layer, [B, K, H] each.
      input_feed: [B, K, O] with input feeding, the output that enters the next step beside its token; else [B, K, 0].
    """

    carry: Any
    input_feed: jax.Array


class Seq2Seq(nn.Module):
    """An encoder reads the source; a decoder writes the target token by token, and looks back at the source.

    Sources: Sutskever, Vinyals, Le 2014 (encoder "reversed", no attention); Bahdanau, Cho, Bengio 2015 (encoder
    "bidirectional", attention "additive": the query is the decoder's state before the step, and the context enters the
    step; the output is that of Luong et al. in place of a maxout); Luong, Pham, Manning 2015 (attention "dot" or
    "general": the query is the decoder's output, which is combined with the context by equation 5; `input_feeding`,
    section 3.3); Press, Wolf 2017 (tied embeddings).

    Without "additive" and `input_feeding` no step of the decoder depends on the attention of the step before, so that
    all its steps are one call of a recurrent layer, and the attention of all steps one product.

    Attributes:
      source_vocab_size, target_vocab_size: the numbers of tokens.
      cell: of all layers, see cnnrnn/layers/rnn/cells.py.
      hidden_size: H of each layer; of a bidirectional encoder, of each direction.
      num_layers: of the encoder, and of the decoder.
      embed_size: E, numbers for each token; None is `hidden_size`.
      encoder: the direction in which the source is read: "forward", "reversed", or "bidirectional".
      attention: see the sources; "none" gives the decoder nothing but the encoder's carry.
      input_feeding: whether the output of "dot" or "general" attention enters the next step.
      tie_embeddings: "target" makes the embedding of the target the kernel of the softmax; "all" makes it the embedding
        of the source too, whose vocabulary must be the same.
      input_dropout_rate: of the embeddings.
      layer_dropout_rate: of what enters each layer but the first.
      output_dropout_rate: of what enters the softmax.
      precision: of the products, see cnnrnn/layers/precision.py.
      implementation: of the recurrent layers, see `Recurrent`.
    """

    source_vocab_size: PositiveInt
    target_vocab_size: PositiveInt
    cell: Literal["lstm", "gru", "vanilla"] = "lstm"
    hidden_size: PositiveInt = 256
    num_layers: PositiveInt = 1
    embed_size: PositiveInt | None = None
    encoder: Literal["forward", "reversed", "bidirectional"] = "bidirectional"
    attention: Literal["none", "dot", "general", "additive"] = "general"
    input_feeding: bool = False
    tie_embeddings: Literal["none", "target", "all"] = "none"
    input_dropout_rate: Rate = 0.0
    layer_dropout_rate: Rate = 0.0
    output_dropout_rate: Rate = 0.0
    precision: Precision = "float32"
    implementation: Resumable[Implementation] = "auto"

    def setup(self):
        self._check()
        embed_size = self.embed_size or self.hidden_size
        embed = functools.partial(nn.Embed, features=embed_size, embedding_init=initializers.uniform(0.1))
        self.target_embedding = embed(self.target_vocab_size, name="target_embedding")
        if self.tie_embeddings != "all":
            self.own_source_embedding = embed(self.source_vocab_size, name="source_embedding")
        layer = functools.partial(
            Recurrent,
            cell=CELLS[self.cell],
            precision=self.precision,
            implementation=self.implementation,
        )
        direction = {"forward": "forward", "reversed": "backward", "bidirectional": "both"}[self.encoder]
        sizes = (self.hidden_size,) * self.num_layers
        encoder_layer = functools.partial(layer, direction=direction)
        self.encoder_layers = Stack(sizes, encoder_layer, self.layer_dropout_rate, name="encoder")
        self.decoder_layers = Stack(sizes, layer, self.layer_dropout_rate, name="decoder")
        dense = functools.partial(nn.Dense, dot_general=dot_general(self.precision))
        if self.encoder == "bidirectional":
            self.bridge = [
                [dense(self.hidden_size, name=f"bridge{number}_{part}") for part in range(CELLS[self.cell].num_carries)]
                for number in range(1, self.num_layers + 1)
            ]
        if self.attention != "none":
            self.attend = Attention(self.attention, self.hidden_size, self.precision, name="attention")
        if self.attention != "none" or self._output_size != self.hidden_size:
            self.combine = dense(self._output_size, use_bias=False, name="combine")
        self.input_dropout = nn.Dropout(self.input_dropout_rate)
        self.output_dropout = nn.Dropout(self.output_dropout_rate)
        if self.tie_embeddings == "none":
            self.softmax = dense(self.target_vocab_size, name="softmax")
        else:
            self.bias = self.param("bias", nn.initializers.zeros_init(), (self.target_vocab_size,))

    def __call__(
        self,
        source: jax.Array,
        source_lengths: jax.Array,
        target: jax.Array,
        target_lengths: jax.Array,
        train: bool = False,
    ) -> jax.Array:
        """Predicts each token of the target from the source and the tokens before it (teacher forcing).

        Args:
          source: [B, S] int32.
          source_lengths: [B]; what follows is padding.
          target: [B, T] int32, the token before each that is predicted.
          target_lengths: [B].
          train: whether dropout is applied.

        Returns:
          Logits [B, T, V].
        """
        memory, state = self.encode(source, source_lengths, train)
        embedded = self.input_dropout(self.target_embedding(target), deterministic=not train)  # [B, T, E]
        if self._is_sequential:
            outputs = self._decode_in_turn(embedded, memory, state, train)
        else:
            carry = jax.tree.map(lambda part: part[:, 0], state.carry)
            outputs, _ = self.decoder_layers(embedded, carry, target_lengths, train)
            outputs, _ = self._combine(outputs, memory)
        return self._logits(self.output_dropout(outputs, deterministic=not train))

    def encode(self, source: jax.Array, lengths: jax.Array, train: bool = False) -> tuple[Memory, DecoderState]:
        """Reads the source [B, S]: what the decoder looks back at, and its state before the first step, with K = 1."""
        embed = self.target_embedding if self.tie_embeddings == "all" else self.own_source_embedding
        embedded = self.input_dropout(embed(source), deterministic=not train)  # [B, S, E]
        states, carries = self.encoder_layers(embedded, None, lengths, train)  # [B, S, M]
        if self.encoder == "bidirectional":
            carries = tuple(map(self._bridge, self.bridge, carries))
        carry = jax.tree.map(lambda part: part[:, None], carries)
        mask = jnp.arange(source.shape[1]) < lengths[:, None]
        memory = Memory(states, states, mask) if self.attention == "none" else self.attend.make_memory(states, mask)
        return memory, DecoderState(carry, jnp.zeros((len(source), 1, self._output_size if self.input_feeding else 0)))

    def step(self, tokens: jax.Array, state: DecoderState, memory: Memory) -> tuple[jax.Array, DecoderState, jax.Array]:
        """Predicts one token of each of K hypotheses for a source.

        Args:
          tokens: [B, K], the one before.
          state: of the decoder before the step.
          memory: of the source.

        Returns:
          The logits [B, K, V], the next state, and the weights of the attention [B, K, S]; without attention zeros.
        """
        outputs, state, weights = self._decode_step(self.target_embedding(tokens), state, memory, False)
        return self._logits(outputs), state, weights

    @property
    def _is_sequential(self) -> bool:
        """Whether a step of the decoder depends on the attention of the step before."""
        return self.attention == "additive" or self.input_feeding

    @property
    def _output_size(self) -> int:
        """Numbers that enter the softmax."""
        return self.hidden_size if self.tie_embeddings == "none" else self.embed_size or self.hidden_size

    def _check(self) -> None:
        if self.tie_embeddings == "all" and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                f"tie_embeddings is 'all', but the source has {self.source_vocab_size} tokens and the target "
                f"{self.target_vocab_size} - set data.joint_vocabulary, or take 'target'"
            )
        if self.attention == "dot" and self.encoder == "bidirectional":
            raise ValueError(
                "attention is 'dot', which takes states of the size of the decoder's, but encoder is 'bidirectional', "
                "whose states have twice that - take 'general'"
            )
        if self.input_feeding and self.attention not in ("dot", "general"):
            raise ValueError(
                f"input_feeding is for 'dot' and 'general', and attention is {self.attention!r} - turn it off"
            )

    def _bridge(self, layers: list, carry: tuple) -> tuple:
        """The first carry of a decoder layer from that of both directions, [B, 2, H] each."""
        h, *rest = (layer(part.reshape(len(part), -1)) for layer, part in zip(layers, carry, strict=True))
        return jnp.tanh(h), *rest

    def _combine(self, outputs: jax.Array, memory: Memory) -> tuple[jax.Array, jax.Array]:
        """The decoder's outputs [B, T, H] with what they attend to, and the weights [B, T, S]."""
        if self.attention == "none":
            outputs = self.combine(outputs) if self._output_size != self.hidden_size else outputs
            return outputs, jnp.zeros((*outputs.shape[:2], memory.mask.shape[1]))
        contexts, weights = self.attend(outputs, memory)
        return jnp.tanh(self.combine(jnp.concatenate([contexts, outputs], -1))), weights

    def _decode_step(self, embedded, state, memory, train):
        """One step on the embeddings of tokens [B, K, E]: the outputs [B, K, H], the state and the weights."""
        if self.attention == "additive":
            context, weights = self.attend(state.carry[-1][0], memory)
            outputs, carry = self.decoder_layers.step(jnp.concatenate([embedded, context], -1), state.carry, train)
            outputs = jnp.tanh(self.combine(jnp.concatenate([context, outputs], -1)))
            return outputs, DecoderState(carry, state.input_feed), weights
        x = jnp.concatenate([embedded, state.input_feed], -1)
        outputs, carry = self.decoder_layers.step(x, state.carry, train)
        outputs, weights = self._combine(outputs, memory)
        return outputs, DecoderState(carry, outputs if self.input_feeding else state.input_feed), weights

    def _decode_in_turn(self, embedded, memory, state, train):
        """The outputs of all steps [B, T, H], one after the other, from the embeddings [B, T, E]."""

        def body(self, state, x):
            outputs, state, _ = self._decode_step(x[:, None], state, memory, train)
            return state, outputs[:, 0]

        scan = nn.scan(
            body, variable_broadcast="params", split_rngs={"params": False, "dropout": True}, in_axes=1, out_axes=1
        )
        return scan(self, state, embedded)[1]

    def _logits(self, outputs: jax.Array) -> jax.Array:
        if self.tie_embeddings == "none":
            return self.softmax(outputs)
        return matmul(outputs, self.target_embedding.embedding.T, self.precision) + self.bias
