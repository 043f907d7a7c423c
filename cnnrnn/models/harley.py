"""The net of the interactive visualisation that the slides link to: LeNet-5 of 1998 with max pooling and logits."""

import flax.linen as nn
import jax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.lenet import C3_TABLE, TableConv, pad_background, scaled_tanh, uniform
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.signatures import PositiveInt


class HarleyNet(nn.Module):
    """Two convolutions with max pooling and three dense layers, 120-100-K: 62,902 parameters for ten classes.

    As in 1998 the second convolution follows table I, and the nonlinearity is the scaled tanh. Here the outputs are
    logits; in the original they pass through the tanh too. Source: Harley, "An interactive node-link visualization of
    convolutional neural networks", 2015, and the weights that its page shows.

    Attributes:
      num_classes: K.
    """

    num_classes: PositiveInt

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, 28, 28, 1], paper -0.1 and ink 1.175 -> logits [B, K].

        Raises:
          ValueError: images of another size.
        """
        if x.shape[1:] != (28, 28, 1):
            raise ValueError(f"Harley's net sees 28 x 28 x 1, not {' x '.join(map(str, x.shape[1:]))}")
        x = pad_background(x)  # [B, 32, 32, 1]
        x = scaled_tanh(Conv(6, (5, 5), padding="VALID", kernel_init=uniform(25), name="conv1")(x))  # [B, 28, 28, 6]
        x = MaxPool(name="pool1")(x)  # [B, 14, 14, 6]
        x = scaled_tanh(TableConv(C3_TABLE, name="conv2")(x))  # [B, 10, 10, 16]
        x = MaxPool(name="pool2")(x)  # [B, 5, 5, 16]
        x = x.reshape(x.shape[0], -1)  # [B, 400]
        x = scaled_tanh(nn.Dense(120, kernel_init=uniform(400), name="fc1")(x))
        x = scaled_tanh(nn.Dense(100, kernel_init=uniform(120), name="fc2")(x))
        return nn.Dense(self.num_classes, kernel_init=uniform(100), name="output")(x)
