"""The parts of LeNet-5 as published in 1998, which nets of its kind share."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnrnn.layers.convolution import convolve

BACKGROUND = -0.1  # of white paper; with ink at 1.175 the mean of a picture is about 0, its variance 1 (section II.B)

# Table I: a row for each map of S2, a column for each map of C3 that sees it.
C3_TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)


def squash(x: jax.Array) -> jax.Array:
    """1.7159 tanh(2 x / 3), which passes through (-1, -1) and (1, 1), where it bends most (appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """Weights from -2.4 / F to 2.4 / F, where F numbers go into a unit (appendix A)."""
    bound = 2.4 / fan_in
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def on_paper(x: jax.Array) -> jax.Array:
    """Pictures [B, H, W, C] with two pixels of background around them, [B, H + 4, W + 4, C]: 32 x 32 from 28 x 28."""
    return jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=BACKGROUND)


class Subsampling(nn.Module):
    """The sum of each 2 x 2 window times a trainable coefficient, plus a bias, squashed: two numbers for each map."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H/2, W/2, C]."""
        batch, height, width, channels = x.shape
        coefficient = self.param("coefficient", uniform(4), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        return squash(windows.sum((2, 4)) * coefficient + bias)


class PartialConv(nn.Module):
    """A 5 x 5 convolution in which each map sees only some of the maps below.

    Parameters: kernel [5, 5, connected pairs of maps] and bias [C out]; what is not connected has no parameter.

    Attributes:
      table: a string for each map below, with an X for each map above that sees it.
    """

    table: tuple[str, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C in] -> [B, H - 4, W - 4, C out]."""
        table = np.array([[mark == "X" for mark in row] for row in self.table])  # [C in, C out]
        below, above = np.nonzero(table)
        fan_in = 25 * table.sum(0)[above]  # [pairs]
        weights = self.param("kernel", lambda key, shape: uniform(1)(key, shape) / fan_in, (5, 5, len(below)))
        kernel = jnp.zeros((5, 5, *table.shape)).at[:, :, below, above].set(weights)
        return convolve(x, kernel) + self.param("bias", nn.initializers.zeros_init(), (table.shape[1],))
