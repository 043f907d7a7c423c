"""Stacked bidirectional recurrent layers with a softmax over labels and blank in each frame."""

from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.layers.rnn.cells import CELLS
from cnnrnn.layers.rnn.implementation import Implementation
from cnnrnn.layers.rnn.layer import Recurrent, Stack
from cnnrnn.signatures import PositiveInt, Rate, Resumable


class BiLstmCtc(nn.Module):
    """From frames of sound to the logits of labels, for CTC.

    Source: Graves, Mohamed, Hinton 2013, "Speech recognition with deep recurrent neural networks". The convolutions are
    an addition: with them the net has both halves of a course on convolutional and recurrent nets.

    Attributes:
      num_classes: V, the labels and the blank.
      cell: of all layers, see cnnrnn/layers/rnn/cells.py.
      hidden_size: H of each layer in each direction.
      num_layers: the number of recurrent layers.
      conv_features: the channels of each 3 x 3 convolution before them; it halves the bands and keeps the frames.
      input_dropout_rate: of the frames.
      layer_dropout_rate: of what enters each recurrent layer but the first, and the softmax.
      precision: of the products, see cnnrnn/layers/precision.py.
      implementation: of the recurrent layers, see `Recurrent`.
    """

    num_classes: PositiveInt
    cell: Literal["lstm", "gru", "vanilla"] = "lstm"
    hidden_size: PositiveInt = 128
    num_layers: PositiveInt = 2
    conv_features: tuple[PositiveInt, ...] = ()
    input_dropout_rate: Rate = 0.0
    layer_dropout_rate: Rate = 0.0
    precision: Precision = "float32"
    implementation: Resumable[Implementation] = "auto"

    @nn.compact
    def __call__(self, frames: jax.Array, lengths: jax.Array, train: bool = False) -> jax.Array:
        """Frames [B, T, M] of which `lengths` [B] are real -> logits [B, T, V]."""
        x = nn.Dropout(self.input_dropout_rate, name="input_dropout")(frames, deterministic=not train)
        if self.conv_features:
            x = self._convolve(x, lengths)
        layer = partial(
            Recurrent,
            cell=CELLS[self.cell],
            direction="both",
            precision=self.precision,
            implementation=self.implementation,
        )
        sizes = (self.hidden_size,) * self.num_layers
        x, _ = Stack(sizes, layer, self.layer_dropout_rate, name="recurrent")(x, None, lengths, train)  # [B, T, 2 H]
        x = nn.Dropout(self.layer_dropout_rate, name="output_dropout")(x, deterministic=not train)
        return nn.Dense(self.num_classes, dot_general=dot_general(self.precision), name="softmax")(x)

    def _convolve(self, frames: jax.Array, lengths: jax.Array) -> jax.Array:
        is_frame = (jnp.arange(frames.shape[1]) < lengths[:, None])[..., None, None]
        x = frames[..., None]  # [B, T, M, 1]: time and frequency are the height and the width
        for number, features in enumerate(self.conv_features, start=1):
            x = jnp.where(is_frame, x, 0)  # a filter sees zeros after the last frame, as after the end of a batch
            conv = Conv(features, (3, 3), strides=(1, 2), precision=self.precision, name=f"conv{number}")
            x = nn.relu(conv(x))  # [B, T, M / 2, features]
        return x.reshape(*x.shape[:2], -1)
