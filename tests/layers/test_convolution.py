"""Convolution against the worked examples of the slides and a NumPy loop over the definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from cnnrnn.layers import precision
from cnnrnn.layers.convolution import Conv, bf16_convolve, convolve, explicit_padding
from cnnrnn.layers.cpu import convolution as cpu

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


def test_slide_stride_2_is_every_other_position_of_stride_1():
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


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)), filter_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)), strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
)  # fmt: skip
def test_equals_the_loops(size, filter_size, channels, strides, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, *size, channels[0])), rng.normal(size=(*filter_size, *channels))
    y = jax.jit(lambda x, kernel: convolve(x, kernel, strides, padding))(np.float32(x), np.float32(kernel))
    np.testing.assert_allclose(y, convolve_by_loops(x, kernel, strides, padding), atol=2e-5)


@pytest.mark.parametrize(("use_bias", "count"), [(True, 760), (False, 750)])
def test_layer_has_the_slides_count_of_parameters(use_bias, count):
    layer = Conv(features=10, kernel_size=(5, 5), use_bias=use_bias)  # 5 * 5 * 3 * 10 weights and 10 biases
    params = layer.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_layer_adds_one_bias_a_channel():
    layer = Conv(features=2, kernel_size=(3, 3), padding=1, bias_init=lambda *_: jnp.array([1.0, -1.0]))
    y = layer.apply(layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1))), jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_array_equal(y, np.broadcast_to([1.0, -1.0], (1, 4, 4, 2)))


GRID = dict(
    size=st.tuples(st.integers(5, 11), st.integers(5, 11)), filter_size=st.tuples(*[st.integers(1, 5)] * 2),
    channels=st.sampled_from([1, 3, 20]), features=st.sampled_from([2, 7, 40]), groups=st.sampled_from([1, 1, 2]),
    strides=st.tuples(*[st.integers(1, 3)] * 2), padding=st.tuples(*[st.tuples(*[st.integers(0, 3)] * 2)] * 2),
)  # fmt: skip


def plain(x, kernel, strides, padding, groups):
    """The same by XLA's own convolution and JAX's own derivative."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=numbers, feature_group_count=groups)


def values_and_gradients(function, x, kernel, *arguments):
    """The outputs of a convolution and its gradients for random gradients of the outputs, compiled."""

    @jax.jit
    def run(x, kernel):
        y, pull = jax.vjp(lambda x, kernel: function(x, kernel, *arguments), x, kernel)
        return y, *pull(jax.random.normal(jax.random.key(0), y.shape))

    return run(x, kernel)


def assert_near(ours, expected, tolerance):
    """To a fraction of the largest number."""
    for one, other in zip(ours, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max() + 1e-30)


@settings(max_examples=12, deadline=None)
@given(**GRID)
def test_values_and_gradients_are_those_of_lax(size, filter_size, channels, features, groups, strides, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, channels * groups)).astype(np.float32)
    kernel = rng.normal(size=(*filter_size, channels, features * groups)).astype(np.float32)
    assert cpu.is_supported(jnp.asarray(x), jnp.asarray(kernel), groups)
    ours, expected = (values_and_gradients(f, x, kernel, strides, padding, groups) for f in (convolve, plain))
    assert_near(ours, expected, 1e-5)


@pytest.mark.parametrize(("channels", "features", "strides"), [(2, 3, (1, 1)), (16, 16, (1, 1)), (3, 4, (2, 3))])
def test_the_gradient_is_that_of_finite_differences(channels, features, strides):
    rng = np.random.default_rng(1)
    x, kernel = rng.normal(size=(2, 6, 7, channels)), rng.normal(size=(3, 2, channels, features))
    function = jax.jit(lambda x, kernel: convolve(x, kernel, strides, 1))
    check_grads(function, (jnp.float32(x), jnp.float32(kernel)), order=1, modes="rev", atol=2e-2, rtol=2e-2, eps=1e-2)


def test_every_convolution_is_fast_in_a_loop():
    """A convolution that XLA:CPU runs fast within a loop has these labels; another would be 20 times slower."""
    x, kernels = jnp.ones((2, 12, 12, 1)), (jnp.ones((5, 5, 1, 20)), jnp.ones((3, 3, 20, 24)))

    def loss(kernels):
        return jnp.sum(convolve(convolve(x, kernels[0], (1, 1), 2), kernels[1], (2, 2), 1) ** 2)

    def descend(kernels, _):
        return jax.tree.map(lambda k, g: k - 1e-3 * g, kernels, jax.grad(loss)(kernels)), None

    program = jax.jit(lambda kernels: lax.scan(descend, kernels, length=10)[0]).lower(kernels).compile().as_text()
    lines = [line for line in program.splitlines() if " convolution(" in line]
    assert lines and all("dim_labels=b01f_01io->b01f" in line and "rhs_reversal" not in line for line in lines)


@pytest.mark.parametrize("batch_size", [2, 1])  # in the forms for CPUs, and in lax's as on an accelerator
def test_bf16_is_near_and_its_sums_are_float32(batch_size, monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_amx", lambda: True)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(batch_size, 9, 10, 20)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 20, 24)).astype(np.float32)
    ours = values_and_gradients(convolve, x, kernel, (1, 1), 1, 1, "bf16")
    expected = values_and_gradients(plain, x, kernel, (1, 1), ((1, 1), (1, 1)), 1)
    assert all(array.dtype == jnp.float32 for array in ours)
    assert_near(ours, expected, 1e-2)
    assert np.abs(ours[0] - expected[0]).max() > 1e-4  # it was bf16
    assert all((array != array.astype(jnp.bfloat16)).any() for array in ours)


@pytest.mark.parametrize(
    ("size", "channels", "features", "filter_size", "stride", "padding", "groups"),
    [
        (9, 4, 6, 3, 1, "SAME", 1),
        (11, 4, 6, 5, 2, "VALID", 2),
        (12, 3, 5, 4, 3, 2, 1),
        (13, 2, 4, 3, 2, ((1, 2), (0, 1)), 2),
        (11, 3, 4, 2, 3, "VALID", 1),
    ],
)
def test_bf16_products_are_summed_in_float32_on_an_accelerator(
    size, channels, features, filter_size, stride, padding, groups
):
    """Operands that bf16 represents exactly have the values and gradients of float32; rounded sums would not."""
    rng, strides = np.random.default_rng(0), (stride, stride)

    def exact(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.bfloat16).astype(jnp.float32)

    x, kernel = exact(3, size, size + 1, channels), exact(filter_size, filter_size, channels // groups, features)
    padding = explicit_padding(padding, x.shape[1:3], kernel.shape[:2], strides)
    y, vjp = jax.vjp(lambda x, kernel: bf16_convolve(x, kernel, strides, padding, groups), x, kernel)
    expected, expected_vjp = jax.vjp(lambda x, kernel: plain(x, kernel, strides, padding, groups), x, kernel)
    dy = exact(*y.shape)
    for ours, other in zip((y, *vjp(dy)), (expected, *expected_vjp(dy)), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, kernel: convolve(x, kernel, (2, 2), 1),
        lambda x, kernel: bf16_convolve(x, kernel, (2, 2), ((1, 1), (1, 1)), 1),
    ],
    ids=["float32", "bf16"],
)
def test_it_composes_with_jit_grad_vmap_and_scan(function):
    """Four batches and kernels one by one, at once and in a loop have the same values and gradients."""
    rng = np.random.default_rng(3)
    x, kernels = (jnp.float32(rng.normal(size=shape)) for shape in ((4, 2, 8, 8, 3), (4, 3, 3, 3, 5)))
    value_and_grad = jax.value_and_grad(lambda x, kernel: jnp.sum(function(x, kernel) ** 2), (0, 1))
    each = [value_and_grad(*pair) for pair in zip(x, kernels, strict=True)]
    expected = jax.tree.map(lambda *parts: jnp.stack(parts), *each)
    together = jax.jit(jax.vmap(value_and_grad))(x, kernels)
    _, in_loop = jax.jit(lambda *xs: lax.scan(lambda _, pair: (None, value_and_grad(*pair)), None, xs))(x, kernels)
    for found in (together, in_loop):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def test_a_kernel_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        convolve(jnp.ones((2, 5, 5, 4)), jnp.ones((3, 3, 4, 6)), groups=2)
    with pytest.raises(ValueError, match="precision"):
        convolve(jnp.ones((2, 5, 5, 4)), jnp.ones((3, 3, 4, 6)), precision="fp8")
