"""Local response normalisation against a loop over the definition, and its gradient against the formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from cnnrnn.layers.normalisation import LocalResponseNorm

CASES = [
    (dict(), 7),
    (dict(k=1.0, n=9, alpha=0.3, beta=0.5), 12),
    (dict(k=0.5, n=5, alpha=0.2), 3),  # fewer channels than in a sum
    (dict(k=3.0, n=1, alpha=1.0, beta=1.0), 4),
]


def sums_by_loops(values, n):
    """For each channel the sum over the channels at most n // 2 from it."""
    sums = np.zeros_like(values)
    channels = values.shape[-1]
    for c in range(channels):
        for d in range(max(0, c - n // 2), min(channels - 1, c + n // 2) + 1):
            sums[..., c] += values[..., d]
    return sums


@pytest.mark.parametrize(("settings", "channels"), CASES)
def test_values_and_gradient_are_those_of_the_definition(settings, channels):
    layer = LocalResponseNorm(**settings)
    x, dy = np.random.default_rng(0).normal(scale=3, size=(2, 2, 3, 4, channels))
    scale = layer.k + layer.alpha * sums_by_loops(x * x, layer.n)
    shared = sums_by_loops(dy * x * scale ** (-layer.beta - 1), layer.n)
    y, pull = jax.vjp(jax.jit(lambda x: layer.apply({}, x)), jnp.float32(x))
    np.testing.assert_allclose(y, x * scale**-layer.beta, rtol=2e-6)
    expected = dy * scale**-layer.beta - 2 * layer.alpha * layer.beta * x * shared
    np.testing.assert_allclose(pull(jnp.float32(dy))[0], expected, rtol=1e-5, atol=1e-5)


def test_gradient_by_finite_differences():
    x = jnp.float32(np.random.default_rng(0).normal(size=(2, 2, 2, 6)))
    check_grads(lambda x: LocalResponseNorm(k=1.0, alpha=0.5).apply({}, x), (x,), 1, ("rev",), 2e-2, 2e-2)


def test_alpha_is_not_divided_by_the_number_of_channels():
    y = LocalResponseNorm(k=2.0, n=3, alpha=1.0, beta=1.0).apply({}, jnp.ones((1, 1, 1, 4)))
    np.testing.assert_allclose(y[0, 0, 0], [1 / 4, 1 / 5, 1 / 5, 1 / 4], rtol=1e-6)


def test_an_even_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="odd"):
        LocalResponseNorm(n=4).apply({}, jnp.ones((1, 1, 1, 8)))


def test_it_composes_with_jit_grad_vmap_and_scan():
    """Three batches one by one, at once and in a loop have the same values and gradients."""
    x, layer = jnp.float32(np.random.default_rng(0).normal(size=(3, 2, 8, 8, 6))), LocalResponseNorm(k=1.0, alpha=0.5)
    value_and_grad = jax.value_and_grad(lambda x: jnp.sum(layer.apply({}, x) ** 2))
    expected = jax.tree.map(lambda *parts: jnp.stack(parts), *[value_and_grad(one) for one in x])
    together = jax.jit(jax.vmap(value_and_grad))(x)
    _, in_loop = jax.jit(lambda x: lax.scan(lambda _, one: (None, value_and_grad(one)), None, x))(x)
    for found in (together, in_loop):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
