"""The sums of a convolution and of its two gradients in forms that XLA:CPU runs at full speed, in a loop as outside.

XLA:CPU has one fast convolution, Eigen's, for images [B, H, W, C] and kernels [F, F, C, K] as they are; the gradients
that JAX derives are not of that form, and within `lax.scan` fall to a naive loop. Here everything is that convolution
or a matrix product, by one idea, the convolution as a matrix: w neighbouring outputs of a row depend on F rows of
w + F - 1 columns, so with these as the rows of a matrix the convolution is a product with a band: a matrix of shifted
copies of the kernel and zeros between them. The zeros cost arithmetic, w = 1 has none; wider blocks copy less.

    values       few maps: blocks times the band; else Eigen's convolution
    d kernel     for each row of the kernel, blocks transposed times d values, folded back along the band
    d images     few channels: d values times the band transposed, folded onto the image; else Eigen's convolution
                 of d values with the kernel turned round

A stride s is taken out beforehand: s x s pixels become channels of one cell, and the kernel is cut alike. So the first
layer of AlexNet, 11 x 11 with stride 4 over 3 channels, is a 3 x 3 convolution over 48.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.precision import bf16_dot

Padding = tuple[tuple[int, int], tuple[int, int]]
FEW = 16  # channels, below which Eigen's convolution is slower than the band; measured with 1 to 384
WIDE = 128  # columns that a product should have: blocks are as wide as that takes
MANY_GROUPS = 8  # each is a convolution of its own; beyond that many the compiler and lax do better


def pays(x: jax.Array, kernel: jax.Array, groups: int) -> bool:
    """Whether these forms are for a convolution: on a CPU, of a batch in float32, in few groups."""
    floats = x.dtype == kernel.dtype == jnp.float32
    return jax.default_backend() == "cpu" and floats and len(x) > 1 and groups <= MANY_GROUPS


def convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding, groups: int, bf16: bool
) -> jax.Array:
    """`cnnrnn.layers.convolution.convolve` with explicit padding; bf16: of the operands of every product."""
    parts = []
    for xs, kernels in zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True):
        if strides == (1, 1):
            parts.append(_convolve(xs, kernels, padding, bf16))
        else:
            parts.append(_convolve(*_without_strides(xs, kernels, strides, padding), ((0, 0), (0, 0)), bf16))
    return parts[0] if groups == 1 else jnp.concatenate(parts, 3)


def _without_strides(x, kernel, strides, padding):
    """Images and kernel whose convolution with stride 1 and no padding is theirs with strides.

    Blocks of S x S pixels are put into the channels (space to depth), as far as the filter reaches into a block.
    """
    batch, *size, channels = x.shape
    filter_size = kernel.shape[:2]
    blocks = [-(-f // s) for f, s in zip(filter_size, strides, strict=True)]  # of a filter
    reach = [min(f, s) for f, s in zip(filter_size, strides, strict=True)]  # of a filter into a block
    cells, spread = [], []
    for n, f, s, b, (before, after) in zip(size, filter_size, strides, blocks, padding, strict=True):
        cells.append((n + before + after - f) // s + b)
        spread.append((before, cells[-1] * s - n - before))  # below 0 cuts what no filter sees
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pair, 0) for pair in spread), (0, 0, 0)))
    x = x.reshape(batch, cells[0], strides[0], cells[1], strides[1], channels)[:, :, : reach[0], :, : reach[1]]
    x = x.swapaxes(2, 3).reshape(batch, *cells, -1)
    missing = [(0, b * s - f) for f, s, b in zip(filter_size, strides, blocks, strict=True)]
    kernel = jnp.pad(kernel, (*missing, (0, 0), (0, 0)))
    kernel = kernel.reshape(blocks[0], strides[0], blocks[1], strides[1], *kernel.shape[2:])
    kernel = kernel[:, : reach[0], :, : reach[1]].swapaxes(1, 2)
    return x, kernel.reshape(*blocks, -1, kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, padding: Padding, bf16: bool) -> jax.Array:
    """[B, H, W, C] and [F, F, C, K] -> [B, H', W', K], stride 1."""
    if kernel.shape[3] >= FEW and not bf16:
        return _eigen(x, kernel, padding)
    rows, columns = _size(x, kernel, padding)
    w = _block_width(columns, kernel.shape[3])
    y = _dot(_patches(x, kernel.shape, padding, w), _band(kernel, w), bf16)  # [B, H', n, w K]
    return y.reshape(len(x), rows, columns, -1)


def _forward(x, kernel, padding, bf16):
    return _convolve(x, kernel, padding, bf16), (x, kernel)


def _backward(padding, bf16, saved, dy):
    x, kernel = saved
    return _images_gradient(dy, kernel, padding, bf16), _kernel_gradient(x, dy, kernel.shape, padding, bf16)


_convolve.defvjp(_forward, _backward)


def _kernel_gradient(x, dy, shape, padding, bf16):
    height, width, channels, maps = shape
    rows, columns = dy.shape[1:3]
    w = _block_width(columns, maps)
    dy = dy.reshape(-1, w * maps)
    if channels < FEW:  # so few columns that one product pays
        seen = [_patches(x, shape, padding, w)]
    else:
        blocks = _blocks(x, width, padding, w)  # [B, H + P, n, (w + F - 1) C]
        seen = [blocks[:, u : u + rows] for u in range(height)]
    seen = [s.reshape(len(dy), -1) for s in seen]
    band = jnp.stack([bf16_dot(s, dy, ((0,), (0,))) if bf16 else s.T @ dy for s in seen])
    band = band.reshape(height, w + width - 1, channels, w, maps)
    return sum(band[:, j : j + width, :, j] for j in range(w))


def _images_gradient(dy, kernel, padding, bf16):
    height, width, channels, maps = kernel.shape
    if channels >= FEW and not bf16:
        around = [(f - 1 - before, f - 1 - after) for f, (before, after) in zip((height, width), padding, strict=True)]
        return _eigen(dy, kernel[::-1, ::-1].swapaxes(2, 3), around)
    batch, rows, columns, _ = dy.shape
    w = columns if not bf16 else max(_block_width(columns, maps), width - 1)
    dy = jnp.pad(dy, ((0, 0), (0, 0), (0, -columns % w), (0, 0))).reshape(batch, rows, -1, w * maps)
    dx = _dot(dy, _band(kernel, w).T, bf16)  # [B, H', n, F (w + F - 1) C]
    dx = dx.reshape(batch, rows, -1, height, w + width - 1, channels)
    dx = _add_shifted([dx[:, :, :, u] for u in range(height)], 1, 1)  # [B, H' + F - 1, n, w + F - 1, C]
    dx = _add_shifted([dx[:, :, n] for n in range(dx.shape[2])], 2, w)  # [B, H' + F - 1, n w + F - 1, C]
    size = [n + f - 1 - sum(pair) for n, f, pair in zip((rows, columns), (height, width), padding, strict=True)]
    (top, _), (left, _) = padding
    return dx[:, top : top + size[0], left : left + size[1]]


def _eigen(x, kernel, padding):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _size(x, kernel, padding):
    return [n + sum(pair) - f + 1 for n, pair, f in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True)]


def _block_width(columns: int, maps: int) -> int:
    """The largest divisor of the columns whose blocks have no more than about WIDE outputs."""
    return max(w for w in range(1, columns + 1) if columns % w == 0 and w <= max(1, WIDE / maps))


def _blocks(x, width, padding, w):
    """Padded images cut into n overlapping blocks of w + F - 1 columns: [B, H + P, n, (w + F - 1) C]."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    batch, rows, columns, channels = x.shape
    starts = range(0, columns - width + 1, w)
    blocks = [x[:, :, start : start + w + width - 1].reshape(batch, rows, -1) for start in starts]
    return jnp.stack(blocks, 2)


def _patches(x, shape, padding, w):
    """What blocks of w outputs see, a row of a matrix each: [B, H', n, F (w + F - 1) C]."""
    height, width = shape[:2]
    blocks = _blocks(x, width, padding, w)
    return jnp.concatenate([blocks[:, u : blocks.shape[1] - height + 1 + u] for u in range(height)], 3)


def _band(kernel, w):
    """[F, F, C, K] -> [F (w + F - 1) C, w K]: the kernel once for each output, a column further each time."""
    copies = [jnp.pad(kernel, ((0, 0), (j, w - 1 - j), (0, 0), (0, 0))) for j in range(w)]
    return jnp.stack(copies, 3).reshape(-1, w * kernel.shape[3])


def _dot(a, b, bf16):
    return bf16_dot(a, b, ((a.ndim - 1,), (0,))) if bf16 else a @ b


def _add_shifted(parts, axis, step):
    """The sum of arrays of which each begins `step` places after the last one along an axis."""
    beyond = (len(parts) - 1) * step
    spread = [[(0, 0)] * axis + [(n * step, beyond - n * step)] for n in range(len(parts))]
    return sum(
        jnp.pad(part, pads + [(0, 0)] * (part.ndim - axis - 1)) for part, pads in zip(parts, spread, strict=True)
    )
