"""LeNet-5 as it was published in 1998, with the 7 x 12 drawings of digits that its output is compared with."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.lenet import C3_TABLE, Subsampling, TableConv, pad_background, scaled_tanh, uniform
from cnnrnn.signatures import PositiveInt

# The target of F6 for each digit. The paper prints its drawings (figure 3) but not as numbers: these are ours.
BITMAPS = """
 .#####. ...##.. .#####. .#####. #....#. ####### .#####. ####### .#####. .#####.
 ##...## ..###.. ##...## ##...## #....#. #...... ##...## .....## ##...## ##...##
 #.....# .####.. #.....# ......# #....#. #...... #...... .....#. #.....# #.....#
 #.....# ...##.. ......# ......# #....#. #...... #...... ....##. #.....# #.....#
 #.....# ...##.. .....## .....## #....#. #.####. #...... ....#.. ##...## #.....#
 #.....# ...##.. ....##. ..####. ####### ##...## #.####. ...##.. .#####. ##...##
 #.....# ...##.. ...##.. .....## .....#. ......# ##...## ...#... ##...## .####.#
 #.....# ...##.. ..##... ......# .....#. ......# #.....# ..##... #.....# ......#
 #.....# ...##.. .##.... ......# .....#. ......# #.....# ..#.... #.....# ......#
 #.....# ...##.. ##..... #.....# .....#. #.....# #.....# .##.... #.....# ......#
 ##...## ...##.. #...... ##...## .....#. ##...## ##...## .#..... ##...## ##...##
 .#####. .###### ####### .#####. .....#. .#####. .#####. ##..... .#####. .#####.
"""
CODES = np.array(
    [
        [1.0 if point == "#" else -1.0 for row in BITMAPS.split("\n")[1:-1] for point in row.split()[digit]]
        for digit in range(10)
    ],
    np.float32,
)  # [10, 84]


class LeNet5(nn.Module):
    """C1 S2 C3 S4 C5 F6 and Euclidean distances: 60,000 parameters, 340,908 connections, for ten classes.

    The published outputs are y_i = |F6 - code of class i|^2, small for the right class. This returns -y, so that larger
    is better and its softmax is the paper's probability. `task.rubbish` gives the paper's criterion.
    Source: LeCun, Bottou, Bengio, Haffner 1998, section II.B, table I, equations 4 to 9.

    Attributes:
      num_classes: K, at most 10, the number of codes.
    """

    num_classes: PositiveInt

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Images [B, 28, 28, 1], paper -0.1 and ink 1.175 -> negative distances [B, K].

        Raises:
          ValueError: images of another size, or more classes than codes.
        """
        if x.shape[1:] != (28, 28, 1) or self.num_classes > len(CODES):
            raise ValueError(
                f"LeNet-5 of 1998 sees 28 x 28 x 1 and {len(CODES)} classes, not {' x '.join(map(str, x.shape[1:]))} "
                f"and {self.num_classes} - take lenet5.LeNet5"
            )
        x = pad_background(x)  # [B, 32, 32, 1]
        x = scaled_tanh(Conv(6, (5, 5), padding="VALID", kernel_init=uniform(25), name="C1")(x))  # [B, 28, 28, 6]
        x = Subsampling(name="S2")(x)  # [B, 14, 14, 6]
        x = scaled_tanh(TableConv(C3_TABLE, name="C3")(x))  # [B, 10, 10, 16]
        x = Subsampling(name="S4")(x)  # [B, 5, 5, 16]
        x = x.reshape(x.shape[0], -1)  # [B, 400]: a 5 x 5 convolution of 5 x 5 pixels is a dense layer
        x = scaled_tanh(nn.Dense(120, kernel_init=uniform(400), name="C5")(x))
        x = scaled_tanh(nn.Dense(84, kernel_init=uniform(120), name="F6")(x))  # [B, 84]
        return -jnp.sum((x[:, None] - CODES[: self.num_classes]) ** 2, axis=-1)  # [B, K], equation 7
