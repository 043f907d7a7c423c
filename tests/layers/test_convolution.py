"""Convolution against the worked examples of the slides and a NumPy loop over the definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnrnn.layers.convolution import Conv, convolve

X = np.array(
    [
        [4, 9, 2, 5, 8, 3],
        [5, 6, 2, 4, 0, 3],
        [2, 4, 5, 4, 5, 2],
        [5, 6, 5, 4, 7, 8],
        [5, 7, 7, 9, 2, 1],
        [5, 8, 5, 3, 8, 4],
    ],
    np.float32,
)
VERTICAL_EDGE = np.array([[1, 0, -1]] * 3, np.float32)


def convolve_by_loops(x, kernel, strides, padding):
    """The definition: x [B, H, W, C], kernel [F, F, C, K], padding ((top, bottom), (left, right))."""
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = kernel.shape[:2]
    rows, columns = ((n - f) // s + 1 for n, f, s in zip(x.shape[1:3], (height, width), strides, strict=True))
    y = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for b, i, j, k in itertools.product(*map(range, y.shape)):
        window = x[b, i * strides[0] : i * strides[0] + height, j * strides[1] : j * strides[1] + width]
        y[b, i, j, k] = (window * kernel[..., k]).sum()
    return y


def plane(x, kernel, stride=1, padding=0):
    return np.asarray(convolve(x[None, :, :, None], kernel[:, :, None, None], (stride, stride), padding))[0, :, :, 0]


def test_slide_stride_1_without_padding():
    np.testing.assert_array_equal(plane(X, VERTICAL_EDGE), [[2, 6, -4, 5], [0, 4, 0, -1], [-5, 0, 3, 6], [-2, 5, 0, 3]])


def test_slide_stride_2_with_padding_1_leaves_out_the_last_row_and_column():
    np.testing.assert_array_equal(plane(X, VERTICAL_EDGE, 2, 1), [[-15, 6, 3], [-16, 4, -1], [-21, 5, 3]])


def test_slide_stride_2_is_every_other_cell_of_stride_1():
    same = plane(X, VERTICAL_EDGE, 1, "SAME")
    assert same.shape == X.shape
    np.testing.assert_array_equal(same[0], [-15, 5, 6, -4, 3, 8])
    np.testing.assert_array_equal(same[::2, ::2], plane(X, VERTICAL_EDGE, 2, 1))
    np.testing.assert_array_equal(plane(X, VERTICAL_EDGE, 2), [[2, -4], [-5, 3]])


def test_slide_curve_detector_is_not_flipped():
    curve = np.zeros((7, 7), np.float32)
    curve[[0, 1, 2, 3, 4, 5], [5, 4, 3, 3, 3, 3]] = 30
    field = np.zeros((7, 7), np.float32)
    field[0, 6] = 30
    field[1, 4:] = field[2, 4] = 50
    field[2, 3] = 20
    field[3:, 3:5] = 50
    assert plane(field, curve) == [[6600]]
    assert plane(field, curve[::-1, ::-1]) == [[3600]]


def test_slide_four_equations():
    image, kernel = np.arange(1, 10, dtype=np.float32).reshape(3, 3), np.array([[1, 2], [3, 4]], np.float32)
    np.testing.assert_array_equal(plane(image, kernel) + 5, [[42, 52], [72, 82]])


def test_slide_zero_padding_keeps_the_size():
    image = np.arange(1, 10, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(plane(image, image), [[285]])
    np.testing.assert_array_equal(plane(image, image, 1, "SAME"), [[94, 154, 106], [186, 285, 186], [106, 154, 94]])


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)), filter_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)), strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
)  # fmt: skip
def test_equals_the_loops(size, filter_size, channels, strides, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, *size, channels[0])), rng.normal(size=(*filter_size, *channels))
    y = convolve(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), strides, padding)
    np.testing.assert_allclose(y, convolve_by_loops(x, kernel, strides, padding), atol=2e-5)


@pytest.mark.parametrize(("use_bias", "count"), [(True, 760), (False, 750)])
def test_layer_has_the_slides_count_of_parameters(use_bias, count):
    layer = Conv(features=10, kernel_size=(5, 5), use_bias=use_bias)  # 5 * 5 * 3 * 10 weights and 10 biases
    params = layer.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_layer_adds_one_bias_a_map():
    layer = Conv(features=2, kernel_size=(3, 3), padding=1, bias_init=lambda *_: jnp.array([1.0, -1.0]))
    y = layer.apply(layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1))), jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_array_equal(y, np.broadcast_to([1.0, -1.0], (1, 4, 4, 2)))
