"""LeNet-5 as it is drawn today: the sizes of 1998 with ReLU, max pooling and a softmax."""

from functools import partial

import flax.linen as nn
import jax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.signatures import PositiveInt


class LeNet5(nn.Module):
    """Two convolutions, each followed by pooling, then dense layers, with the paper's names: C1 S2 C3 S4 C5 F6 output.

    On 28 x 28 x 1 and 10 classes it has 61,706 parameters. Unlike in 1998, every channel of C3 sees all six of S2,
    subsampling is max pooling, the nonlinearity is ReLU and the output is linear. Source: LeCun, Bottou, Bengio,
    Haffner 1998, figure 2, for the sizes.

    Attributes:
      num_classes: K.
      precision: see cnnrnn/layers/precision.py.
    """

    num_classes: PositiveInt
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, K]; the shapes below are those of 28 x 28 images."""
        conv = partial(Conv, kernel_size=(5, 5), precision=self.precision)
        dense = partial(nn.Dense, dot_general=dot_general(self.precision))
        x = nn.relu(conv(6, padding=2, name="C1")(x))  # [B, 28, 28, 6]: padded to the paper's 32 x 32
        x = MaxPool(name="S2")(x)  # [B, 14, 14, 6]
        x = nn.relu(conv(16, padding="VALID", name="C3")(x))  # [B, 10, 10, 16]
        x = MaxPool(name="S4")(x)  # [B, 5, 5, 16]
        x = x.reshape(x.shape[0], -1)  # [B, 400]
        x = nn.relu(dense(120, name="C5")(x))  # a 5 x 5 convolution of 5 x 5 pixels is a dense layer
        x = nn.relu(dense(84, name="F6")(x))
        return dense(self.num_classes, name="output")(x)
