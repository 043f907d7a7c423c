"""Between a convolution and a dense layer: small receptive fields, but different filters at each position."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.layers.convolution import Padding, explicit_padding

FILTERS_INIT = nn.initializers.variance_scaling(
    1.0, "fan_in", "truncated_normal", in_axis=(2, 3, 4), out_axis=5, batch_axis=(0, 1)
)


class LocallyConnected(nn.Module):
    """A convolution of stride 1 whose filters are not shared: each position of the output has `features` filters.

    y[b, i, j, k] = sum over u, v, c of x[b, i + u, j + v, c] kernel[i, j, u, v, c, k] + bias of i, j, k.
    Parameters: kernel [H', W', F, F, C in, features] and bias [H' W' features], H' W' times those of a convolution.
    Source: Krizhevsky, cuda-convnet, 2011, layers of type "local".
    """

    features: int
    kernel_size: tuple[int, int]
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Callable = FILTERS_INIT
    bias_init: Callable = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C in] -> [B, H', W', features]."""
        height, width = self.kernel_size
        padding = explicit_padding(self.padding, x.shape[1:3], self.kernel_size, (1, 1))
        x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
        rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
        shape = (rows, columns, height, width, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(x.dtype)
        x = x.transpose(1, 2, 0, 3)  # [H + P, W + P, B, C in]: one matrix for each position
        offsets = [(u, v) for u in range(height) for v in range(width)]  # in a filter
        y = sum(x[u : u + rows, v : v + columns] @ kernel[:, :, u, v] for u, v in offsets)  # [H', W', B, features]
        y = y.transpose(2, 0, 1, 3)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (rows * columns * self.features,))
            y = y + bias.reshape(rows, columns, self.features).astype(x.dtype)
        return y
