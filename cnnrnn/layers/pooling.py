"""Pooling: a small window moves over every channel by itself and leaves its largest or its mean value."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.convolution import Padding, explicit


class MaxPool(nn.Module):
    """The largest value of each window; padding never wins."""

    window: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: Padding = "VALID"

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', C]."""
        return _reduce_windows(self, x, -jnp.inf, lax.max)


class AvgPool(nn.Module):
    """The mean of each window over the cells that lie in the image; padding does not count."""

    window: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = (2, 2)
    padding: Padding = "VALID"

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', C]."""
        cells = _reduce_windows(self, jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0.0, lax.add)  # [1, H', W', 1]
        return _reduce_windows(self, x, 0.0, lax.add) / cells


def _reduce_windows(pool: MaxPool | AvgPool, x: jax.Array, start: float, reduce) -> jax.Array:
    padding = explicit(pool.padding)
    if not isinstance(padding, str):
        padding = ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, start, reduce, (1, *pool.window, 1), (1, *pool.strides, 1), padding)
