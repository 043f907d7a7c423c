"""Pooling against the worked examples of the slides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from test_convolution import X

from cnnrnn.layers.pooling import AvgPool, MaxPool


def plane(layer, x=X):
    return np.asarray(layer.apply({}, jnp.asarray(x)[None, :, :, None]))[0, :, :, 0]


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (MaxPool(), [[9, 5, 8], [6, 5, 8], [8, 9, 8]]),
        (AvgPool(), [[6, 3.25, 3.5], [4.25, 4.5, 5.5], [6.25, 6, 3.75]]),
        (MaxPool((3, 3), (1, 1)), [[9, 9, 8, 8], [6, 6, 7, 8], [7, 9, 9, 9], [8, 9, 9, 9]]),
        (MaxPool((3, 3), (2, 2)), [[9, 8], [7, 9]]),
    ],
)
def test_slides(layer, expected):
    np.testing.assert_allclose(plane(layer), expected)


def test_padding_is_no_maximum_and_not_in_a_mean():
    x = -np.ones((4, 4), np.float32)
    for layer in (MaxPool((3, 3), (1, 1), 1), AvgPool((3, 3), (1, 1), 1), AvgPool((3, 3), (1, 1), "SAME")):
        np.testing.assert_allclose(plane(layer, x), x, rtol=1e-6)


def test_only_the_maximum_has_a_gradient():
    x = jnp.asarray(X)[None, :, :, None]
    gradient = np.asarray(jax.grad(lambda x: MaxPool().apply({}, x).sum())(x))[0, :, :, 0]
    assert gradient.sum() == 9 and set(np.unique(gradient)) == {0, 1}
    assert gradient[0, 1] == 1 and gradient[0, 0] == 0


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(*[st.integers(4, 9)] * 2), window=st.tuples(*[st.integers(1, 4)] * 2),
    strides=st.tuples(*[st.integers(1, 4)] * 2), padding=st.sampled_from(["VALID", "SAME", 0, 1]),
)  # fmt: skip
def test_values_and_gradients_are_those_of_lax(size, window, strides, padding):
    x = np.random.default_rng(0).permutation(2 * np.prod(size) * 3).reshape(2, *size, 3) / np.float32(
        10
    )  # no two equal
    pads = padding if isinstance(padding, str) else ((0, 0), (padding, padding), (padding, padding), (0, 0))

    def windows(x, start, function):
        return lax.reduce_window(x, start, function, (1, *window, 1), (1, *strides, 1), pads)

    def mean(x):
        return windows(x, 0.0, lax.add) / windows(jnp.ones_like(x), 0.0, lax.add)

    largest = (lambda x: MaxPool(window, strides, padding).apply({}, x), lambda x: windows(x, -jnp.inf, lax.max))
    for ours, expected in (largest, (lambda x: AvgPool(window, strides, padding).apply({}, x), mean)):
        results = []
        for function in (ours, expected):
            y, pull = jax.vjp(jax.jit(function), x)
            results.append((y, *pull(jax.random.normal(jax.random.key(1), y.shape))))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), *results)


def test_of_equal_values_the_first_has_the_gradient():
    gradient = np.asarray(jax.grad(lambda x: MaxPool((2, 2), (1, 1)).apply({}, x).sum())(jnp.zeros((1, 3, 3, 1))))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("layer", [MaxPool(), AvgPool(), MaxPool((3, 3), (2, 2))], ids=str)
def test_it_composes_with_jit_grad_vmap_and_scan(layer):
    """Three batches one by one, at once and in a loop have the same values and gradients."""
    x = jnp.float32(np.random.default_rng(0).normal(size=(3, 2, 8, 8, 6)))
    value_and_grad = jax.value_and_grad(lambda x: jnp.sum(layer.apply({}, x) ** 2))
    expected = jax.tree.map(lambda *parts: jnp.stack(parts), *[value_and_grad(one) for one in x])
    together = jax.jit(jax.vmap(value_and_grad))(x)
    _, in_loop = jax.jit(lambda x: lax.scan(lambda _, one: (None, value_and_grad(one)), None, x))(x)
    for found in (together, in_loop):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
