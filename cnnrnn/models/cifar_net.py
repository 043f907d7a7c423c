"""The four-layer net of the AlexNet paper's experiment with local response normalisation on CIFAR-10."""

from functools import partial

import flax.linen as nn
import jax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.locally_connected import LocallyConnected
from cnnrnn.layers.normalisation import LocalResponseNorm
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.signatures import PositiveInt


class CifarNet(nn.Module):
    """Two convolutions with overlapping pooling, two locally connected layers, and a linear one.

    2,112,970 parameters for 24 x 24 x 3 and 10 classes, 3,672,906 for 32 x 32. Its initial weights are small, for raw
    pixels: 0 to 255 minus their mean. Sources: Krizhevsky, Sutskever, Hinton 2012, section 3.3, which names the
    code, cuda-convnet, for the layers; layers-cifar10-11pct.cfg there.

    Attributes:
      num_classes: K.
      normalise: whether there is local response normalisation: 11 % error with it, 13 % without.
      precision: of the convolutions and the linear layer, see cnnrnn/layers/precision.py.
    """

    num_classes: PositiveInt
    normalise: bool = True
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, K]; the shapes below are those of 24 x 24 images."""
        normal = nn.initializers.normal
        conv = partial(Conv, 64, (5, 5), precision=self.precision)
        local = partial(LocallyConnected, kernel_size=(3, 3), kernel_init=normal(0.04))
        # as in cuda-convnet, the last window may extend beyond the edge, and the scale, 0.001, is divided by n
        pool = partial(MaxPool, (3, 3), (2, 2), ((0, 1), (0, 1)))
        norm = partial(LocalResponseNorm, k=1.0, n=9, alpha=0.001 / 9, beta=0.75)
        x = nn.relu(conv(kernel_init=normal(1e-4), name="conv1")(x))  # [B, 24, 24, 64]
        x = pool(name="pool1")(x)  # [B, 12, 12, 64]
        x = norm(name="norm1")(x) if self.normalise else x
        x = nn.relu(conv(kernel_init=normal(0.01), name="conv2")(x))  # [B, 12, 12, 64]
        x = norm(name="norm2")(x) if self.normalise else x
        x = pool(name="pool2")(x)  # [B, 6, 6, 64]
        x = nn.relu(local(64, name="local3")(x))  # [B, 6, 6, 64]
        x = nn.relu(local(32, name="local4")(x))  # [B, 6, 6, 32]
        dense = partial(nn.Dense, kernel_init=normal(0.01), dot_general=dot_general(self.precision))
        return dense(self.num_classes, name="fc10")(x.reshape(x.shape[0], -1))  # [B, 1152] -> [B, K]
