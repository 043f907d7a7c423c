"""Convolution as the field means it: the kernel is laid on the image without being flipped (cross-correlation)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers import cpu_convolution
from cnnrnn.layers.precision import Precision, computes_in_bf16

Padding = str | int | Sequence[tuple[int, int]]


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "VALID",
    groups: int = 1,
    precision: Precision = "float32",
) -> jax.Array:
    """Slides a kernel over images: y[b, i, j, k] = sum over u, v, c of x[b, i s + u, j s + v, c] kernel[u, v, c, k].

    On a GPU or a TPU, and for a single picture, this is `lax.conv_general_dilated`; on a CPU the same sum in forms that
    are faster there, with a derivative of their own (reverse mode alone), see cnnrnn/layers/cpu_convolution.py.

    Args:
      x: images [B, H, W, C in].
      kernel: [F, F, C in / groups, C out]; the height and width of the filter may differ.
      strides: cells by which the filter moves down and right.
      padding: "VALID" none; "SAME" so much that stride 1 keeps the size; a number of zeros on every side; or ((top,
        bottom), (left, right)).
      groups: the channels are cut into so many, and the maps of a group see the channels of that group alone.
      precision: see cnnrnn/layers/precision.py.

    Returns:
      [B, H', W', C out] with H' = floor((H - F + 2 P) / S) + 1, and W' likewise.

    Raises:
      ValueError: groups does not divide the channels, or the kernel does not fit them.
    """
    if kernel.shape[2] * groups != x.shape[3] or kernel.shape[3] % groups:
        raise ValueError(f"a kernel {kernel.shape} in {groups} groups does not fit {x.shape[3]} channels")
    padding = explicit(padding, x.shape[1:3], kernel.shape[:2], strides)
    bf16 = computes_in_bf16(precision)
    if cpu_convolution.pays(x, kernel, groups):
        return cpu_convolution.convolve(x, kernel, strides, padding, groups, bf16)
    if bf16:
        x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    ).astype(jnp.promote_types(x.dtype, jnp.float32) if bf16 else x.dtype)


def explicit(
    padding: Padding, size: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """A padding as zeros before and behind each axis of a size, for a window that moves by strides.

    Raises:
      ValueError: a word that is neither VALID nor SAME.
    """
    if isinstance(padding, int):
        return ((padding, padding),) * len(size)
    if isinstance(padding, str):
        return tuple(lax.padtype_to_pads(tuple(size), tuple(window), tuple(strides), padding))
    return tuple(tuple(pair) for pair in padding)


class Conv(nn.Module):
    """A convolutional layer: `features` filters that each see all input channels of their group, and a bias for each.

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
