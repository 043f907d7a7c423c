"""Filters that are not shared, against a loop over the definition and against those that are."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.layers.convolution import convolve
from cnnrnn.layers.locally_connected import LocallyConnected


@pytest.mark.parametrize(
    ("filter_size", "padding", "positions"),
    [((3, 3), "SAME", (5, 6)), ((2, 3), "VALID", (4, 4)), ((3, 2), ((0, 1), (2, 0)), (4, 7)), ((1, 1), 1, (7, 8))],
)
def test_equals_the_loops(filter_size, padding, positions):
    rng, layer = np.random.default_rng(0), LocallyConnected(4, filter_size, padding)
    x = rng.normal(size=(2, 5, 6, 3))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert shapes["kernel"].shape == (*positions, *filter_size, 3, 4)
    params = {name: rng.normal(size=leaf.shape) for name, leaf in shapes.items()}
    bias = params["bias"].reshape(*positions, 4)
    margins = {"SAME": ((1, 1), (1, 1)), "VALID": ((0, 0), (0, 0)), 1: ((1, 1), (1, 1))}.get(padding, padding)
    padded, expected = np.pad(x, ((0, 0), *margins, (0, 0))), np.zeros((2, *positions, 4))
    for b, i, j, k in itertools.product(*map(range, expected.shape)):
        window = padded[b, i : i + filter_size[0], j : j + filter_size[1]]
        expected[b, i, j, k] = (window * params["kernel"][i, j, ..., k]).sum() + bias[i, j, k]
    y = jax.jit(layer.apply)({"params": jax.tree.map(jnp.float32, params)}, jnp.float32(x))
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_equal_filters_at_all_positions_are_a_convolution():
    rng = np.random.default_rng(0)
    x, shared = (jnp.float32(rng.normal(size=shape)) for shape in ((3, 6, 7, 4), (3, 3, 4, 5)))
    layer = LocallyConnected(5, (3, 3), use_bias=False)

    def local(x, shared):
        return layer.apply({"params": {"kernel": jnp.broadcast_to(shared, (6, 7, *shared.shape))}}, x)

    results = []
    for function in (local, lambda x, shared: convolve(x, shared, padding="SAME")):
        y, pull = jax.vjp(jax.jit(function), x, shared)
        results.append((y, *pull(jnp.cos(y))))
    for ours, expected in zip(*results, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_initial_weights_are_those_of_a_convolution_and_the_bias_has_one_dimension():
    params = LocallyConnected(8, (3, 3)).init(jax.random.key(0), jnp.zeros((1, 12, 12, 16)))["params"]
    assert params["bias"].shape == (12 * 12 * 8,)
    np.testing.assert_allclose(params["kernel"].std(), (3 * 3 * 16) ** -0.5, rtol=0.02)
