"""The layers of LeNet-5 as published in 1998."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnrnn.layers.convolution import convolve

BACKGROUND = -0.1  # white paper; with ink at 1.175 the mean of an image is about 0, its variance 1 (section II.B)

# Table I: a row for each channel of S2, a column for each channel of C3, and an X where they are connected.
C3_TABLE = (
    "X...XXX..XXXX.XX",
    "XX...XXX..XXXX.X",
    "XXX...XXX..X.XXX",
    ".XXX..XXXX..X.XX",
    "..XXX..XXXX.XX.X",
    "...XXX..XXXX.XXX",
)


def scaled_tanh(x: jax.Array) -> jax.Array:
    """1.7159 tanh(2 x / 3), which is -1 at -1 and 1 at 1, where its curvature is largest (appendix A)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


def uniform(fan_in: int) -> nn.initializers.Initializer:
    """The initializer of the weights of units with F inputs: uniform from -2.4 / F to 2.4 / F (appendix A)."""
    bound = 2.4 / fan_in
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def pad_background(x: jax.Array) -> jax.Array:
    """Adds two pixels of background on every side: [B, H, W, C] -> [B, H + 4, W + 4, C], 32 x 32 from 28 x 28."""
    return jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=BACKGROUND)


class Subsampling(nn.Module):
    """The sum of each 2 x 2 window times a coefficient, plus a bias, through scaled_tanh: two parameters a channel."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H/2, W/2, C]."""
        batch, height, width, channels = x.shape
        coefficient = self.param("coefficient", uniform(4), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        windows = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        return scaled_tanh(windows.sum((2, 4)) * coefficient + bias)


class TableConv(nn.Module):
    """A 5 x 5 convolution in which a connection table says which input channels an output channel sees.

    Parameters: kernel [5, 5, connected pairs of channels] and bias [C out]; unconnected pairs have no parameters.

    Attributes:
      table: a string for each input channel, with an X for each output channel that sees it.
    """

    table: tuple[str, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C in] -> [B, H - 4, W - 4, C out]."""
        table = np.array([[mark == "X" for mark in row] for row in self.table])  # [C in, C out]
        inputs, outputs = np.nonzero(table)
        fan_in = 25 * table.sum(0)[outputs]  # [pairs]
        weights = self.param("kernel", lambda key, shape: uniform(1)(key, shape) / fan_in, (5, 5, len(inputs)))
        kernel = jnp.zeros((5, 5, *table.shape)).at[:, :, inputs, outputs].set(weights)
        return convolve(x, kernel) + self.param("bias", nn.initializers.zeros_init(), (table.shape[1],))
