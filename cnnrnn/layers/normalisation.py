"""Local response normalisation."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class LocalResponseNorm(nn.Module):
    """Divides each value by a power of a sum of squares over the adjacent channels at the same position.

    y_c = x_c / (k + alpha sum over |d - c| <= n // 2 of x_d^2)^beta; the sum ends at the first and last channel.
    Frameworks that divide alpha by n (Caffe, PyTorch, cuda-convnet) need an n times larger alpha. No parameters.
    Source: Krizhevsky, Sutskever, Hinton 2012, section 3.3.

    Attributes:
      k: above 0.
      n: the number of channels in a sum, odd.
      alpha, beta: as in the equation.
    """

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., C]; derivatives in reverse mode only.

        Raises:
          ValueError: n is even.
        """
        if self.n % 2 == 0:
            raise ValueError(f"n is {self.n} - a channel and as many on either side are an odd number")
        return local_response_norm(x, self.k, self.n, self.alpha, self.beta)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def local_response_norm(x: jax.Array, k: float, n: int, alpha: float, beta: float) -> jax.Array:
    """The equation of `LocalResponseNorm`, [..., C] -> [..., C]."""
    return x * _power(k + alpha * _sum_neighbors(x * x, n), -beta)


def _forward(x, k, n, alpha, beta):
    return local_response_norm(x, k, n, alpha, beta), x  # the rest is recomputed: JAX's derivative saves 11 such arrays


def _backward(k, n, alpha, beta, x, dy):
    scale = k + alpha * _sum_neighbors(x * x, n)  # [..., C]
    direct = dy * _power(scale, -beta)
    return (direct - 2 * alpha * beta * x * _sum_neighbors(direct * x / scale, n),)


local_response_norm.defvjp(_forward, _backward)


def _sum_neighbors(values: jax.Array, n: int) -> jax.Array:
    """The sum over the n channels around each, [..., C] -> [..., C]."""
    leading, side = values.ndim - 1, n // 2
    window, padding = (1,) * leading + (n,), ((0, 0),) * leading + ((side, side),)
    return lax.reduce_window(values, 0.0, lax.add, window, (1,) * values.ndim, padding)


def _power(scale: jax.Array, exponent: float) -> jax.Array:
    """A power of positive numbers; XLA's takes three times as long on a CPU."""
    return jnp.exp(exponent * jnp.log(scale))
