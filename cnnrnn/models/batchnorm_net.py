"""A small net of today: the same few convolutions as ever, each with batch normalisation."""

from functools import partial
from typing import Literal

import flax.linen as nn
import jax

from cnnrnn.errors import ConfigError
from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.layers.precision import dot_general
from cnnrnn.signatures import Count, Fraction


class BatchNormNet(nn.Module):
    """3 x 3 convolutions, each normalised, rectified and pooled, then one normalised dense layer with dropout.

    Normalisation is over the batch, of all devices under `jit`; in testing by running means. On 28 x 28 x 1 and
    10 classes it has 390,890 parameters. Source: Ioffe, Szegedy, "Batch normalization", 2015.

    Attributes:
      num_classes: K.
      features: the filters of the convolutions, one or more.
      hidden_size: units of the dense layer.
      dropout_rate: behind it.
      momentum: of the running means and variances.
      precision: see cnnrnn/layers/precision.py.
    """

    num_classes: int
    features: tuple[Count, ...] = (32, 64, 128)
    hidden_size: Count = 256
    dropout_rate: Fraction = 0.5
    momentum: Fraction = 0.9
    precision: Literal["float32", "bf16"] = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, K].

        Raises:
          ConfigError: the poolings leave nothing of pictures that small.
        """
        if min(x.shape[1:3]) < 2 ** len(self.features):
            raise ConfigError(
                f"pictures of {x.shape[1]} x {x.shape[2]} are halved {len(self.features)} times, once for each of "
                "model.features - take larger ones, or fewer features"
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
