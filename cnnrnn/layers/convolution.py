"""Convolution as the field means it: the kernel is laid on the image without being flipped (cross-correlation)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
from jax import lax

Padding = str | int | Sequence[tuple[int, int]]


def convolve(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), padding: Padding = "VALID"
) -> jax.Array:
    """Slides a kernel over images: y[b, i, j, k] = sum over u, v, c of x[b, i s + u, j s + v, c] kernel[u, v, c, k].

    Args:
      x: images [B, H, W, C in].
      kernel: [F, F, C in, C out]; the height and width of the filter may differ.
      strides: cells by which the filter moves down and right.
      padding: "VALID" none; "SAME" so much that stride 1 keeps the size; a number of zeros on every side; or ((top,
        bottom), (left, right)).

    Returns:
      [B, H', W', C out] with H' = floor((H - F + 2 P) / S) + 1, and W' likewise.
    """
    return lax.conv_general_dilated(x, kernel, strides, explicit(padding), dimension_numbers=("NHWC", "HWIO", "NHWC"))


def explicit(padding: Padding) -> str | Sequence[tuple[int, int]]:
    """A padding as lax takes it: one number stands for that many cells on all four sides."""
    return ((padding, padding), (padding, padding)) if isinstance(padding, int) else padding


class Conv(nn.Module):
    """A convolutional layer: `features` filters that each see all input channels, and a bias for each.

    Parameters: kernel [F, F, C in, features], bias [features]: (F F C in) features + features numbers.
    Source: LeCun, Bottou, Bengio, Haffner 1998, section II.A.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C in] -> [B, H', W', features]."""
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, x.shape[-1], self.features))
        y = convolve(x, kernel.astype(x.dtype), self.strides, self.padding)
        return y + self.param("bias", self.bias_init, (self.features,)).astype(x.dtype) if self.use_bias else y
