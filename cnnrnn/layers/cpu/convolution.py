"""A convolution and its two gradients in forms that XLA:CPU runs fast, in a loop as outside.

XLA:CPU has one fast convolution, Eigen's, for images [B, H, W, C] and kernels [F, F, C, K] in this layout. The
gradients that JAX derives have other layouts, and inside `lax.scan` they run as a naive loop. Here everything is
Eigen's convolution or a matrix product. The products use the convolution's matrix form: w adjacent outputs of a row
depend on F rows of w + F - 1 input columns. These are one row of a matrix. Its product with a banded matrix, shifted
copies of the kernel with zeros between them, is the convolution. The zeros cost arithmetic; w = 1 has none. Larger w
copy less.

    outputs         few output channels: patches times the banded kernel; else Eigen's convolution
    kernel gradient for each row of the kernel: patches transposed times the output gradient, summed along the band
    image gradient  few input channels: output gradient times the banded kernel transposed, added at its positions;
                    else Eigen's convolution of the output gradient with the flipped kernel

A stride s is removed first (space to depth): s x s pixels become the channels of one position, and the kernel is
reshaped likewise. So the first layer of AlexNet, 11 x 11 with stride 4 over 3 channels, becomes a 3 x 3 convolution
over 48 channels.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.precision import bf16_dot

Padding = tuple[tuple[int, int], tuple[int, int]]
FEW_CHANNELS = 16  # below it Eigen's convolution is slower than the banded product; measured from 1 to 384
PRODUCT_COLUMNS = 128  # of a banded matrix, at most: this decides w
MAX_GROUPS = 8  # each group is one convolution; for more groups lax's own grouped convolution is better


def is_supported(x: jax.Array, kernel: jax.Array, groups: int) -> bool:
    """Whether these forms are for a convolution: on a CPU, of more than one image, in float32, in few groups."""
    is_float32 = x.dtype == kernel.dtype == jnp.float32
    return jax.default_backend() == "cpu" and is_float32 and len(x) > 1 and groups <= MAX_GROUPS


def convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding, groups: int, bf16: bool
) -> jax.Array:
    """`cnnrnn.layers.convolution.convolve` with explicit padding.

    Args:
      bf16: whether the operands of every product are rounded to bf16.
    """
    outputs = []
    for x_group, kernel_group in zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True):
        if strides == (1, 1):
            outputs.append(_convolve(x_group, kernel_group, padding, bf16))
        else:
            outputs.append(_convolve(*space_to_depth(x_group, kernel_group, strides, padding), ((0, 0), (0, 0)), bf16))
    return outputs[0] if groups == 1 else jnp.concatenate(outputs, 3)


def space_to_depth(x, kernel, strides, padding):
    """Images and a kernel whose convolution with stride 1 and no padding equals that of the given ones with strides.

    Blocks of S x S pixels become channels, as far as the filter reaches into a block.
    """
    batch, *size, channels = x.shape
    filter_size = kernel.shape[:2]
    blocks = [-(-f // s) for f, s in zip(filter_size, strides, strict=True)]  # of a filter
    reach = [min(f, s) for f, s in zip(filter_size, strides, strict=True)]  # of a filter into a block
    positions, pads = [], []
    for n, f, s, b, (before, after) in zip(size, filter_size, strides, blocks, padding, strict=True):
        positions.append((n + before + after - f) // s + b)
        pads.append((before, positions[-1] * s - n - before))  # negative: removes what no filter sees
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pair, 0) for pair in pads), (0, 0, 0)))
    x = x.reshape(batch, positions[0], strides[0], positions[1], strides[1], channels)
    x = x[:, :, : reach[0], :, : reach[1]].swapaxes(2, 3).reshape(batch, *positions, -1)
    missing = [(0, b * s - f) for f, s, b in zip(filter_size, strides, blocks, strict=True)]
    kernel = jnp.pad(kernel, (*missing, (0, 0), (0, 0)))
    kernel = kernel.reshape(blocks[0], strides[0], blocks[1], strides[1], *kernel.shape[2:])
    kernel = kernel[:, : reach[0], :, : reach[1]].swapaxes(1, 2)
    return x, kernel.reshape(*blocks, -1, kernel.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: jax.Array, kernel: jax.Array, padding: Padding, bf16: bool) -> jax.Array:
    """[B, H, W, C] and [F, F, C, K] -> [B, H', W', K], stride 1."""
    if kernel.shape[3] >= FEW_CHANNELS and not bf16:
        return _eigen(x, kernel, padding)
    rows, columns = _output_size(x, kernel, padding)
    w = _block_width(columns, kernel.shape[3])
    y = _dot(_patches(x, kernel.shape, padding, w), banded_kernel(kernel, w), bf16)  # [B, H', n, w K]
    return y.reshape(len(x), rows, columns, -1)


def _forward(x, kernel, padding, bf16):
    return _convolve(x, kernel, padding, bf16), (x, kernel)


def _backward(padding, bf16, saved, dy):
    x, kernel = saved
    return _image_grad(dy, kernel, padding, bf16), _kernel_grad(x, dy, kernel.shape, padding, bf16)


_convolve.defvjp(_forward, _backward)


def _kernel_grad(x, dy, shape, padding, bf16):
    height, width, channels, features = shape
    rows, columns = dy.shape[1:3]
    w = _block_width(columns, features)
    dy = dy.reshape(-1, w * features)
    if channels < FEW_CHANNELS:  # one product of all rows of the kernel is fast
        patches = [_patches(x, shape, padding, w)]
    else:
        blocks = _blocks(x, width, padding, w)  # [B, H + P, n, (w + F - 1) C]
        patches = [blocks[:, u : u + rows] for u in range(height)]
    patches = [p.reshape(len(dy), -1) for p in patches]
    band = jnp.stack([bf16_dot(p, dy, ((0,), (0,))) if bf16 else p.T @ dy for p in patches])
    band = band.reshape(height, w + width - 1, channels, w, features)
    return sum(band[:, j : j + width, :, j] for j in range(w))


def _image_grad(dy, kernel, padding, bf16):
    height, width, channels, features = kernel.shape
    if channels >= FEW_CHANNELS and not bf16:
        pads = [(f - 1 - before, f - 1 - after) for f, (before, after) in zip((height, width), padding, strict=True)]
        return _eigen(dy, kernel[::-1, ::-1].swapaxes(2, 3), pads)
    batch, rows, columns, _ = dy.shape
    w = columns if not bf16 else max(_block_width(columns, features), width - 1)
    dy = jnp.pad(dy, ((0, 0), (0, 0), (0, -columns % w), (0, 0))).reshape(batch, rows, -1, w * features)
    dx = _dot(dy, banded_kernel(kernel, w).T, bf16)  # [B, H', n, F (w + F - 1) C]
    dx = dx.reshape(batch, rows, -1, height, w + width - 1, channels)
    dx = _add_shifted([dx[:, :, :, u] for u in range(height)], 1, 1)  # [B, H' + F - 1, n, w + F - 1, C]
    dx = _add_shifted([dx[:, :, n] for n in range(dx.shape[2])], 2, w)  # [B, H' + F - 1, n w + F - 1, C]
    size = [n + f - 1 - sum(pair) for n, f, pair in zip((rows, columns), (height, width), padding, strict=True)]
    (top, _), (left, _) = padding
    return dx[:, top : top + size[0], left : left + size[1]]


def _eigen(x, kernel, padding):
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _output_size(x, kernel, padding):
    return [n + sum(pair) - f + 1 for n, pair, f in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True)]


def _block_width(columns: int, features: int) -> int:
    """The largest divisor w of the columns for which w outputs have at most about PRODUCT_COLUMNS numbers."""
    return max(w for w in range(1, columns + 1) if columns % w == 0 and w <= max(1, PRODUCT_COLUMNS / features))


def _blocks(x, width, padding, w):
    """Padded images in n overlapping blocks of w + F - 1 columns: [B, H + P, n, (w + F - 1) C]."""
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    batch, rows, columns, _ = x.shape
    starts = range(0, columns - width + 1, w)
    blocks = [x[:, :, start : start + w + width - 1].reshape(batch, rows, -1) for start in starts]
    return jnp.stack(blocks, 2)


def _patches(x, shape, padding, w):
    """The inputs of each block of w outputs, as rows of a matrix: [B, H', n, F (w + F - 1) C]."""
    height, width = shape[:2]
    blocks = _blocks(x, width, padding, w)
    return jnp.concatenate([blocks[:, u : blocks.shape[1] - height + 1 + u] for u in range(height)], 3)


def banded_kernel(kernel, w):
    """[F, F, C, K] -> [F (w + F - 1) C, w K]: one copy of the kernel for each output, each one column further."""
    copies = [jnp.pad(kernel, ((0, 0), (j, w - 1 - j), (0, 0), (0, 0))) for j in range(w)]
    return jnp.stack(copies, 3).reshape(-1, w * kernel.shape[3])


def _dot(a, b, bf16):
    return bf16_dot(a, b, ((a.ndim - 1,), (0,))) if bf16 else a @ b


def _add_shifted(parts, axis, step):
    """The sum of arrays, each of which starts `step` positions after the one before along an axis."""
    last = (len(parts) - 1) * step
    pads = [[(0, 0)] * axis + [(n * step, last - n * step)] for n in range(len(parts))]
    return sum(jnp.pad(part, pad + [(0, 0)] * (part.ndim - axis - 1)) for part, pad in zip(parts, pads, strict=True))
