"""Pooling: the maximum or the mean of a small window that moves over each channel.

The windows are F x F strided slices of the image, so both directions are elementwise. XLA's gradient of a maximum,
select-and-scatter, is ten times slower on a CPU.
"""

from collections.abc import Iterator
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.convolution import Padding, explicit_padding

Pair = tuple[int, int]


class MaxPool(nn.Module):
    """The maximum of each window; padding is never it. Of equal values the first, row by row, has the gradient."""

    window: Pair = (2, 2)
    strides: Pair = (2, 2)
    padding: Padding = "VALID"

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', C]."""
        return max_pool(_pad(self, x, -jnp.inf), self.window, self.strides)


class AvgPool(nn.Module):
    """The mean of each window over its pixels in the image; padding does not count."""

    window: Pair = (2, 2)
    strides: Pair = (2, 2)
    padding: Padding = "VALID"

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', C]."""
        pixels = sum_pool(_pad(self, jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0), self.window, self.strides)
        return sum_pool(_pad(self, x, 0), self.window, self.strides) / pixels  # [1, H', W', 1]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def max_pool(x: jax.Array, window: Pair, strides: Pair) -> jax.Array:
    """The maximum of each window of [B, H, W, C], without padding: [B, H', W', C]."""
    return reduce(jnp.maximum, window_slices(x, window, strides))


def _max_pool_forward(x, window, strides):
    y = max_pool(x, window, strides)
    return y, (x, y)


def _max_pool_backward(window, strides, saved, dy):
    x, y = saved
    if window == strides:
        first = jnp.full(y.shape, window[0] * window[1] - 1)  # the index of the first maximum in its window
        for index, values in reversed([*enumerate(window_slices(x, window, strides))][:-1]):
            first = jnp.where(values == y, index, first)
        index = jnp.arange(window[0])[:, None, None, None] * window[1] + jnp.arange(window[1])[:, None]  # [F, 1, F, 1]
        return (tile_windows(jnp.where(expand_windows(first) == index, expand_windows(dy), 0), x.shape),)
    parts, is_first = [], jnp.ones(y.shape, bool)
    for values in window_slices(x, window, strides):
        parts.append(jnp.where(is_first & (values == y), dy, 0))
        is_first &= values != y
    return (scatter_add_windows(parts, x.shape, window, strides),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def sum_pool(x: jax.Array, window: Pair, strides: Pair) -> jax.Array:
    """The sum of each window of [B, H, W, C], without padding: [B, H', W', C]."""
    return sum(window_slices(x, window, strides))


def _sum_pool_backward(window, strides, shape, dy):
    if window == strides:
        return (tile_windows(jnp.repeat(jnp.repeat(expand_windows(dy), window[0], 2), window[1], 4), shape),)
    return (scatter_add_windows([dy] * (window[0] * window[1]), shape, window, strides),)


sum_pool.defvjp(lambda x, window, strides: (sum_pool(x, window, strides), x.shape), _sum_pool_backward)


def window_slices(x: jax.Array, window: Pair, strides: Pair) -> Iterator[jax.Array]:
    """For each pixel of a window, row by row, its values in all windows: [B, H', W', C]."""
    _, height, width, _ = x.shape
    for u in range(window[0]):
        for v in range(window[1]):
            end = (height - window[0] + u + 1, width - window[1] + v + 1)
            yield x[:, u : end[0] : strides[0], v : end[1] : strides[1]]


def expand_windows(y: jax.Array) -> jax.Array:
    """[B, H', W', C] -> [B, H', 1, W', 1, C], which broadcasts over the pixels of a window."""
    return y[:, :, None, :, None]


def tile_windows(tiles: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Adjacent windows [B, H', F, W', F, C] -> [B, H, W, C], with zeros where there is no window."""
    batch, rows, height, columns, width, channels = tiles.shape
    missing = (0, shape[1] - rows * height), (0, shape[2] - columns * width)
    return jnp.pad(tiles.reshape(batch, rows * height, columns * width, channels), ((0, 0), *missing, (0, 0)))


def scatter_add_windows(parts: list[jax.Array], shape: tuple[int, ...], window: Pair, strides: Pair) -> jax.Array:
    """The transpose of `window_slices`: adds each part [B, H', W', C] at the pixels of its slice: [B, H, W, C]."""
    _, height, width, _ = shape
    rows, columns = parts[0].shape[1:3]
    total = jnp.zeros((), parts[0].dtype)
    for index, part in enumerate(parts):
        u, v = divmod(index, window[1])
        after = height - u - (rows - 1) * strides[0] - 1, width - v - (columns - 1) * strides[1] - 1
        pads = ((0, 0, 0), (u, after[0], strides[0] - 1), (v, after[1], strides[1] - 1), (0, 0, 0))
        total = total + lax.pad(part, jnp.zeros((), part.dtype), pads)
    return total


def _pad(pool: MaxPool | AvgPool, x: jax.Array, value: float) -> jax.Array:
    padding = explicit_padding(pool.padding, x.shape[1:3], pool.window, pool.strides)
    return jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value) if padding != ((0, 0), (0, 0)) else x
