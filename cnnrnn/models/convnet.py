"""The slides' classic net: Conv ReLU Conv ReLU Pool ReLU Conv ReLU Pool, fully connected."""

from functools import partial

import flax.linen as nn
import jax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.signatures import PositiveInt


class ConvNet(nn.Module):
    """Three 3 x 3 convolutions, two 2 x 2 max poolings, and a linear layer. The receptive field is 12 pixels wide.

    Attributes:
      num_classes: K.
      features: the number of filters of each convolution.
      precision: see cnnrnn/layers/precision.py.
    """

    num_classes: PositiveInt
    features: tuple[PositiveInt, PositiveInt, PositiveInt] = (32, 32, 64)
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, K]."""
        first, second, third = self.features
        conv = partial(Conv, kernel_size=(3, 3), precision=self.precision)
        x = nn.relu(conv(first, name="conv1")(x))  # [B, H, W, first]
        x = nn.relu(conv(second, name="conv2")(x))  # [B, H, W, second]
        x = nn.relu(MaxPool(name="pool1")(x))  # [B, H/2, W/2, second]; after a ReLU this one changes nothing
        x = nn.relu(conv(third, name="conv3")(x))  # [B, H/2, W/2, third]
        x = MaxPool(name="pool2")(x)  # [B, H/4, W/4, third]
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(self.num_classes, dot_general=dot_general(self.precision), name="fully_connected")(x)
