"""Convolution as the field means it: the kernel is not flipped (cross-correlation)."""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.cpu import convolution as cpu
from cnnrnn.layers.precision import Precision, computes_in_bf16

Padding = str | int | Sequence[tuple[int, int]]
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "VALID",
    groups: int = 1,
    precision: Precision = "float32",
) -> jax.Array:
    """Slides a kernel over images: y[b, i, j, k] = sum over u, v, c of x[b, i s + u, j s + v, c] kernel[u, v, c, k].

    On a GPU or TPU, and for a single image, this is `lax.conv_general_dilated`. On a CPU it is the same sum in faster
    forms with a custom derivative (reverse mode only), see cnnrnn/layers/cpu/convolution.py.

    >>> image = jnp.arange(9.0).reshape(1, 3, 3, 1)
    >>> difference = jnp.array([-1.0, 1.0]).reshape(1, 2, 1, 1)  # of neighbors in a row
    >>> convolve(image, difference)[0, :, :, 0]
    Array([[1., 1.],
           [1., 1.],
           [1., 1.]], dtype=float32)

    Args:
      x: images [B, H, W, C in].
      kernel: [F, F, C in / groups, C out]; height and width of the filter may differ.
      strides: pixels by which the filter moves down and right.
      padding: "VALID" for none; "SAME" for the same size at stride 1; a number of zeros on every side; or ((top,
        bottom), (left, right)).
      groups: the number of groups of input channels; an output channel sees only the input channels of its group.
      precision: see cnnrnn/layers/precision.py.

    Returns:
      [B, H', W', C out] with H' = floor((H - F + 2 P) / S) + 1, and W' likewise.

    Raises:
      ValueError: groups does not divide the channels, or the kernel does not fit them.
    """
    if kernel.shape[2] * groups != x.shape[3] or kernel.shape[3] % groups:
        raise ValueError(f"a kernel {kernel.shape} in {groups} groups does not fit {x.shape[3]} channels")
    strides, padding = tuple(strides), explicit_padding(padding, x.shape[1:3], kernel.shape[:2], strides)
    bf16 = computes_in_bf16(precision)
    if cpu.is_supported(x, kernel, groups):
        return cpu.convolve(x, kernel, strides, padding, groups, bf16)
    if bf16:
        return bf16_convolve(x.astype(jnp.float32), kernel.astype(jnp.float32), strides, padding, groups)
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=DIMENSIONS, feature_group_count=groups
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def bf16_convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: tuple[tuple[int, int], ...], groups: int
) -> jax.Array:
    """`convolve` of float32 operands that are rounded to bf16, summed in float32; its gradients likewise."""
    return _bf16_sum(x, kernel, window_strides=strides, padding=padding, feature_group_count=groups)


def _bf16_forward(x, kernel, strides, padding, groups):
    saved = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return bf16_convolve(x, kernel, strides, padding, groups), saved


def _bf16_backward(strides, padding, groups, saved, dy):
    # written out, because lax derives no gradient of a result that has another type than its operands
    x, kernel = saved
    height, width, channels, features = kernel.shape
    sizes = list(zip(x.shape[1:3], (height, width), strides, padding, dy.shape[1:3], strict=True))
    spans = [(n - 1) * s + 1 for _, _, s, _, n in sizes]  # of dy with s - 1 zeros between its rows
    x_pads, kernel_pads = [], []  # so that the gradients have the sizes of x and of the kernel
    for (size, f, _, (before, _), _), span in zip(sizes, spans, strict=True):
        x_pads.append((f - 1 - before, size - span + before))
        kernel_pads.append((before, f - 1 + span - size - before))
    flipped = kernel[::-1, ::-1].reshape(height, width, channels, groups, -1)
    flipped = flipped.transpose(0, 1, 4, 3, 2).reshape(height, width, features // groups, -1)  # [F, F, K / groups, C]
    d_x = _bf16_sum(
        dy, flipped, window_strides=(1, 1), padding=x_pads, lhs_dilation=strides, feature_group_count=groups
    )
    d_kernel = _bf16_sum(
        x.transpose(3, 1, 2, 0),  # [C, H, W, B]: the sum is over the examples
        dy.transpose(1, 2, 0, 3),  # [H', W', B, K]
        window_strides=(1, 1),
        padding=kernel_pads,
        rhs_dilation=strides,
        batch_group_count=groups,
    )  # [C / groups, F, F, K]
    return d_x, d_kernel.transpose(1, 2, 0, 3)


bf16_convolve.defvjp(_bf16_forward, _bf16_backward)


def _bf16_sum(x, kernel, **arguments):
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return lax.conv_general_dilated(
        x, kernel, dimension_numbers=DIMENSIONS, preferred_element_type=jnp.float32, **arguments
    )


def explicit_padding(
    padding: Padding, size: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """A padding as the numbers of zeros before and after each axis.

    Args:
      padding: as in `convolve`.
      size: of the image along each axis.
      window: the size of the window along each axis.
      strides: of the window along each axis.

    Raises:
      ValueError: the padding is a word other than VALID and SAME.
    """
    if isinstance(padding, int):
        return ((padding, padding),) * len(size)
    if isinstance(padding, str):
        return tuple(lax.padtype_to_pads(tuple(size), tuple(window), tuple(strides), padding))
    return tuple(tuple(pair) for pair in padding)


class Conv(nn.Module):
    """A convolutional layer: `features` filters over the input channels of their group, and one bias each.

    Parameters: kernel [F, F, C in / groups, features] and bias [features], (F F C in / groups + 1) features numbers.
    Source: LeCun, Bottou, Bengio, Haffner 1998, section II.A; groups: Krizhevsky, Sutskever, Hinton 2012.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    groups: int = 1
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros_init()
    precision: Precision = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C in] -> [B, H', W', features]."""
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(x.dtype)
        y = convolve(x, kernel, self.strides, self.padding, self.groups, self.precision)
        return y + self.param("bias", self.bias_init, (self.features,)).astype(x.dtype) if self.use_bias else y
