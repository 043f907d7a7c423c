"""A small modern net: a few convolutions, each with batch normalisation."""

from functools import partial

import flax.linen as nn
import jax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.signatures import PositiveInt, Rate


class BatchNormNet(nn.Module):
    """3 x 3 convolutions, each with batch normalisation, ReLU and max pooling, then a dense layer with dropout.

    In training the statistics are those of the batch, over all devices under `jit`; in evaluation they are running
    means. On 28 x 28 x 1 and 10 classes it has 390,890 parameters. Source: Ioffe, Szegedy, "Batch normalization", 2015.

    Attributes:
      num_classes: K.
      features: the number of filters of each convolution, one or more.
      hidden_size: units of the dense layer.
      dropout_rate: after the dense layer.
      momentum: of the running means and variances.
      precision: see cnnrnn/layers/precision.py.
    """

    num_classes: PositiveInt
    features: tuple[PositiveInt, ...] = (32, 64, 128)
    hidden_size: PositiveInt = 256
    dropout_rate: Rate = 0.5
    momentum: Rate = 0.9
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, K].

        Raises:
          ValueError: the images are too small for as many poolings.
        """
        if min(x.shape[1:3]) < 2 ** len(self.features):
            raise ValueError(
                f"images of {x.shape[1]} x {x.shape[2]} are halved {len(self.features)} times, once for each of "
                "features - take larger images, or fewer features"
            )
        conv = partial(Conv, kernel_size=(3, 3), use_bias=False, precision=self.precision)
        dense = partial(nn.Dense, dot_general=dot_general(self.precision))
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=self.momentum)
        for number, features in enumerate(self.features, start=1):
            x = conv(features, kernel_init=nn.initializers.he_normal(), name=f"conv{number}")(x)
            x = nn.relu(norm(name=f"norm{number}")(x))  # [B, H, W, features]
            x = MaxPool(name=f"pool{number}")(x)  # [B, H/2, W/2, features]
        x = x.reshape(x.shape[0], -1)
        x = dense(self.hidden_size, use_bias=False, name="hidden")(x)
        x = nn.relu(norm(name="norm_hidden")(x))  # [B, hidden_size]
        x = nn.Dropout(self.dropout_rate, deterministic=not train, name="dropout")(x)
        return dense(self.num_classes, name="output")(x)
