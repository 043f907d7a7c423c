"""Normalisation of what a layer makes."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class LocalResponseNorm(nn.Module):
    """Each value is divided by a power of the squares of its neighbours among the maps, at the same place.

    y_c = x_c / (k + alpha sum over |d - c| <= n // 2 of x_d^2)^beta; the sum ends where the maps end. Frameworks that
    divide alpha by n (Caffe, PyTorch, cuda-convnet) mean the same by a number n times as large. No parameters. Source:
    Krizhevsky, Sutskever, Hinton 2012, section 3.3.

    Attributes:
      k: above 0.
      n: maps in a sum, odd.
      alpha, beta: see above.
    """

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., C]; derivatives in reverse mode alone.

        Raises:
          ValueError: n is even, so that no map stands in the middle.
        """
        if self.n % 2 == 0:
            raise ValueError(f"n is {self.n} - a map and as many on either side are an odd number")
        return _normalise(x, self.k, self.n, self.alpha, self.beta)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _normalise(x: jax.Array, k: float, n: int, alpha: float, beta: float) -> jax.Array:
    return x * _power(k + alpha * _neighbours(x * x, n), -beta)


def _forward(x, k, n, alpha, beta):
    return _normalise(x, k, n, alpha, beta), x  # all else is made again: JAX's own derivative keeps 11 arrays like x


def _backward(k, n, alpha, beta, x, dy):
    scale = k + alpha * _neighbours(x * x, n)  # [..., C]
    direct = dy * _power(scale, -beta)
    return (direct - 2 * alpha * beta * x * _neighbours(direct * x / scale, n),)


_normalise.defvjp(_forward, _backward)


def _neighbours(values: jax.Array, n: int) -> jax.Array:
    """The sum over the n maps around each, [..., C] -> [..., C]."""
    before, side = values.ndim - 1, n // 2
    window, padding = (1,) * before + (n,), ((0, 0),) * before + ((side, side),)
    return lax.reduce_window(values, 0.0, lax.add, window, (1,) * values.ndim, padding)


def _power(scale: jax.Array, exponent: float) -> jax.Array:
    """Of numbers above 0; XLA's own takes three times as long on a CPU."""
    return jnp.exp(exponent * jnp.log(scale))
