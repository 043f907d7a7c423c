"""Pooling: a small window moves over every channel by itself and leaves its largest or its mean value.

A window is taken as F x F shifted and thinned copies of the maps, so both directions are elementwise: XLA's own
gradient of a maximum, select-and-scatter, is ten times slower on a CPU.
"""

from collections.abc import Iterator
from functools import partial, reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.convolution import Padding, explicit

Pair = tuple[int, int]


class MaxPool(nn.Module):
    """The largest value of each window; padding never wins. Of equal values the first, by rows, has the gradient."""

    window: Pair = (2, 2)
    strides: Pair = (2, 2)
    padding: Padding = "VALID"

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', C]."""
        return _largest(_padded(self, x, -jnp.inf), self.window, self.strides)


class AvgPool(nn.Module):
    """The mean of each window over the cells that lie in the image; padding does not count."""

    window: Pair = (2, 2)
    strides: Pair = (2, 2)
    padding: Padding = "VALID"

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H', W', C]."""
        cells = _padded(self, jnp.ones((1, *x.shape[1:3], 1), x.dtype), 0)
        cells = _sum(cells, self.window, self.strides)  # [1, H', W', 1]
        return _sum(_padded(self, x, 0), self.window, self.strides) / cells


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _largest(x: jax.Array, window: Pair, strides: Pair) -> jax.Array:
    return reduce(jnp.maximum, _shifted(x, window, strides))


def _largest_forward(x, window, strides):
    y = _largest(x, window, strides)
    return y, (x, y)


def _largest_backward(window, strides, saved, dy):
    x, y = saved
    if window == strides:
        place = jnp.full(y.shape, window[0] * window[1] - 1)  # of the first largest value in its window, by rows
        for number, values in reversed([*enumerate(_shifted(x, window, strides))][:-1]):
            place = jnp.where(values == y, number, place)
        here = jnp.arange(window[0])[:, None, None, None] * window[1] + jnp.arange(window[1])[:, None]  # [F, 1, F, 1]
        return (_laid_out(jnp.where(_wide(place) == here, _wide(dy), 0), x.shape),)
    parts, free = [], jnp.ones(y.shape, bool)
    for values in _shifted(x, window, strides):
        parts.append(jnp.where(free & (values == y), dy, 0))
        free &= values != y
    return (_put_back(parts, x.shape, window, strides),)


_largest.defvjp(_largest_forward, _largest_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _sum(x: jax.Array, window: Pair, strides: Pair) -> jax.Array:
    return sum(_shifted(x, window, strides))


def _sum_backward(window, strides, shape, dy):
    if window == strides:
        return (_laid_out(jnp.repeat(jnp.repeat(_wide(dy), window[0], 2), window[1], 4), shape),)
    return (_put_back([dy] * (window[0] * window[1]), shape, window, strides),)


_sum.defvjp(lambda x, window, strides: (_sum(x, window, strides), x.shape), _sum_backward)


def _padded(pool: MaxPool | AvgPool, x: jax.Array, value: float) -> jax.Array:
    padding = explicit(pool.padding, x.shape[1:3], pool.window, pool.strides)
    return jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value) if padding != ((0, 0), (0, 0)) else x


def _shifted(x: jax.Array, window: Pair, strides: Pair) -> Iterator[jax.Array]:
    """For each place in a window, by rows, what stands there in every window: [B, H', W', C]."""
    _, height, width, _ = x.shape
    for u in range(window[0]):
        for v in range(window[1]):
            end = (height - window[0] + u + 1, width - window[1] + v + 1)
            yield x[:, u : end[0] : strides[0], v : end[1] : strides[1]]


def _wide(y: jax.Array) -> jax.Array:
    """[B, H', W', C] -> [B, H', 1, W', 1, C], for what every place of a window shares."""
    return y[:, :, None, :, None]


def _laid_out(tiles: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Windows beside each other, [B, H', F, W', F, C] -> [B, H, W, C], with zeros where none reaches."""
    batch, rows, height, columns, width, channels = tiles.shape
    missing = (0, shape[1] - rows * height), (0, shape[2] - columns * width)
    return jnp.pad(tiles.reshape(batch, rows * height, columns * width, channels), ((0, 0), *missing, (0, 0)))


def _put_back(parts: list[jax.Array], shape: tuple[int, ...], window: Pair, strides: Pair) -> jax.Array:
    """The transposition of `_shifted`: each part goes where it came from, and what meets is added."""
    _, height, width, _ = shape
    rows, columns = parts[0].shape[1:3]
    total = jnp.zeros((), parts[0].dtype)
    for number, part in enumerate(parts):
        u, v = divmod(number, window[1])
        after = height - u - (rows - 1) * strides[0] - 1, width - v - (columns - 1) * strides[1] - 1
        spread = ((0, 0, 0), (u, after[0], strides[0] - 1), (v, after[1], strides[1] - 1), (0, 0, 0))
        total = total + lax.pad(part, jnp.zeros((), part.dtype), spread)
    return total
