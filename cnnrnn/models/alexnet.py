"""AlexNet in one tower, as it has been taught and shipped since 2014."""

from functools import partial

import flax.linen as nn
import jax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.signatures import PositiveInt, Rate


class AlexNet(nn.Module):
    """Five convolutions, three overlapping max poolings and three dense layers, for one device instead of two.

    61,100,840 parameters for 224 x 224 x 3 and 1000 classes. Unlike in 2012 it has no local response normalisation and
    no groups, and fewer channels; the net of 2012 is in alexnet_2012.py. Source: Krizhevsky, "One weird trick for
    parallelizing convolutional neural networks", 2014, footnote 1.

    Attributes:
      num_classes: K.
      dropout_rate: before each of the first two dense layers.
      precision: see cnnrnn/layers/precision.py.
    """

    num_classes: PositiveInt
    dropout_rate: Rate = 0.5
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, K]; the shapes below are those of 224 x 224 images."""
        conv = partial(Conv, precision=self.precision)
        dense = partial(nn.Dense, dot_general=dot_general(self.precision))
        pool = partial(MaxPool, (3, 3), (2, 2))
        dropout = partial(nn.Dropout, self.dropout_rate, deterministic=not train)
        x = nn.relu(conv(64, (11, 11), (4, 4), padding=2, name="conv1")(x))  # [B, 55, 55, 64]
        x = pool(name="pool1")(x)  # [B, 27, 27, 64]
        x = nn.relu(conv(192, (5, 5), name="conv2")(x))  # [B, 27, 27, 192]
        x = pool(name="pool2")(x)  # [B, 13, 13, 192]
        x = nn.relu(conv(384, (3, 3), name="conv3")(x))  # [B, 13, 13, 384]
        x = nn.relu(conv(256, (3, 3), name="conv4")(x))  # [B, 13, 13, 256]
        x = nn.relu(conv(256, (3, 3), name="conv5")(x))  # [B, 13, 13, 256]
        x = pool(name="pool5")(x)  # [B, 6, 6, 256]
        x = x.reshape(x.shape[0], -1)  # [B, 9216]
        x = nn.relu(dense(4096, name="fc6")(dropout(name="dropout6")(x)))
        x = nn.relu(dense(4096, name="fc7")(dropout(name="dropout7")(x)))
        return dense(self.num_classes, name="fc8")(x)
