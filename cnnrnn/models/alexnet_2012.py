"""AlexNet as it was published: two groups, local response normalisation, overlapping pooling, dropout."""

from functools import partial

import flax.linen as nn
import jax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.normalisation import LocalResponseNorm
from cnnrnn.layers.pooling import MaxPool
from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.signatures import NonNegativeInt, PositiveInt, Rate


class AlexNet(nn.Module):
    """Five convolutions and three dense layers. In conv2, conv4 and conv5 each half sees half of the input channels.

    60,965,224 parameters for 1000 classes, 62,378,344 without groups; 724.4 and 1135.3 million multiplications an
    image. Its smaller successor for one device is in alexnet.py. Source: Krizhevsky, Sutskever, Hinton, "ImageNet
    classification with deep convolutional neural networks", 2012, sections 3 to 5.

    Three numbers of the paper are inconsistent. A filter of 11 with stride 4 on 224 pixels makes 54.25 columns; 55 need
    227, or 2 zeros on every side. The 253,440 neurons of layer 1 are 55 x 55 x 96 = 290,400, so there are 659,272 in
    all, not 622,312. The paper does not say whether normalisation crosses the groups; here it does, as in Caffe.
    Dropout doubles the remaining values in training, where the paper halves all values in testing.

    Attributes:
      num_classes: K.
      groups: of conv2, conv4 and conv5: 2, one for each GPU of the paper, or 1.
      input_padding: zeros around the image: 2 for 224 pixels, 0 for 227.
      bias: the initial biases of conv2, conv4, conv5, fc6 and fc7. With the paper's 1 the loss of Caffe's replication
        was flat; it uses 0.1 (models/bvlc_alexnet/readme.md there).
      hidden_size: units of fc6 and of fc7.
      dropout_rate: of the outputs of fc6 and fc7.
      precision: see cnnrnn/layers/precision.py.
    """

    num_classes: PositiveInt
    groups: PositiveInt = 2
    input_padding: NonNegativeInt = 2
    bias: float = 1.0
    hidden_size: PositiveInt = 4096
    dropout_rate: Rate = 0.5
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, H, W, C] -> logits [B, K]; the shapes below are those of 224 x 224 images.

        Raises:
          ValueError: groups is neither 1 nor 2.
        """
        if self.groups not in (1, 2):
            raise ValueError(f"groups is {self.groups} - it takes 2, as published, or 1")
        normal, biased = nn.initializers.normal(0.01), nn.initializers.constant(self.bias)
        conv = partial(Conv, kernel_init=normal, precision=self.precision)
        grouped = partial(conv, groups=self.groups, bias_init=biased)
        dense = partial(nn.Dense, kernel_init=normal, dot_general=dot_general(self.precision))
        pool = partial(MaxPool, (3, 3), (2, 2))
        dropout = partial(nn.Dropout, self.dropout_rate, deterministic=not train)
        x = nn.relu(conv(96, (11, 11), (4, 4), self.input_padding, name="conv1")(x))  # [B, 55, 55, 96]
        x = pool(name="pool1")(LocalResponseNorm(name="norm1")(x))  # [B, 27, 27, 96]
        x = nn.relu(grouped(256, (5, 5), name="conv2")(x))  # [B, 27, 27, 256]
        x = pool(name="pool2")(LocalResponseNorm(name="norm2")(x))  # [B, 13, 13, 256]
        x = nn.relu(conv(384, (3, 3), name="conv3")(x))  # [B, 13, 13, 384]
        x = nn.relu(grouped(384, (3, 3), name="conv4")(x))  # [B, 13, 13, 384]
        x = nn.relu(grouped(256, (3, 3), name="conv5")(x))  # [B, 13, 13, 256]
        x = pool(name="pool5")(x)  # [B, 6, 6, 256]
        x = x.reshape(x.shape[0], -1)  # [B, 9216]
        x = dropout(name="dropout6")(nn.relu(dense(self.hidden_size, bias_init=biased, name="fc6")(x)))
        x = dropout(name="dropout7")(nn.relu(dense(self.hidden_size, bias_init=biased, name="fc7")(x)))
        return dense(self.num_classes, name="fc8")(x)
