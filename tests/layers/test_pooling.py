"""Pooling against the worked examples of the slides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
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


def test_padding_never_wins_and_never_counts():
    x = -np.ones((4, 4), np.float32)
    for layer in (MaxPool((3, 3), (1, 1), 1), AvgPool((3, 3), (1, 1), 1), AvgPool((3, 3), (1, 1), "SAME")):
        np.testing.assert_allclose(plane(layer, x), x, rtol=1e-6)


def test_gradient_of_the_maximum_goes_to_the_largest_alone():
    x = jnp.asarray(X)[None, :, :, None]
    gradient = np.asarray(jax.grad(lambda x: MaxPool().apply({}, x).sum())(x))[0, :, :, 0]
    assert gradient.sum() == 9 and set(np.unique(gradient)) == {0, 1}
    assert gradient[0, 1] == 1 and gradient[0, 0] == 0
