"""Products of bf16 operands: near those of float32, under every transformation, on a CPU too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.layers import precision
from cnnrnn.layers.precision import bf16_dot, computes_in_bf16, dot_general, matmul


@pytest.fixture
def amx(monkeypatch):
    """As on a CPU with units for bf16."""
    monkeypatch.setattr(precision, "_cpu_has_amx", lambda: True)


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def close(ours, expected):
    """To the rounding of bf16, and not closer."""
    assert ours.shape == expected.shape and ours.dtype == jnp.float32
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    assert 1e-5 < error < 2e-2


def test_only_a_device_with_units_computes_in_bf16(monkeypatch):
    for has_amx in (True, False):
        monkeypatch.setattr(precision, "_cpu_has_amx", lambda has_amx=has_amx: has_amx)
        assert computes_in_bf16("bf16") == has_amx and not computes_in_bf16("float32")
    x, kernel = arrays((3, 4), (4, 5))
    np.testing.assert_array_equal(matmul(x, kernel, "bf16"), x @ kernel)
    with pytest.raises(ValueError, match="precision is 'fp8' - it takes float32 or bf16"):
        computes_in_bf16("fp8")


def test_a_product_and_its_gradients(amx):
    x, kernel, cotangent = arrays((2, 3, 40), (40, 30), (2, 3, 30))

    def run(kind):
        value, vjp = jax.vjp(lambda x, kernel: matmul(x, kernel, kind), x, kernel)
        return value, *vjp(cotangent)

    for ours, expected in zip(jax.jit(run, static_argnums=0)("bf16"), run("float32"), strict=True):
        close(ours, expected)
    np.testing.assert_array_equal(dot_general("bf16")(x, kernel, None), matmul(x, kernel, "bf16"))


@pytest.mark.parametrize(("a_axis", "b_axis"), [(0, 0), (0, None), (None, 0), (1, 2)])
@pytest.mark.parametrize("dimensions", [((1,), (0,)), ((0,), (1,)), ((0, 1), (1, 2))])
def test_vmap(a_axis, b_axis, dimensions):
    """XLA:CPU has no batched product of bf16 operands, so a plain batching rule fails when it runs."""
    sizes, axes_a, axes_b = (4, 5), *dimensions
    a_shape = list(sizes) if len(axes_a) == 2 else [6, 4] if axes_a == (1,) else [4, 6]
    b_shape = [7, *sizes] if len(axes_b) == 2 else [4, 7] if axes_b == (0,) else [7, 4]
    for shape, axis in ((a_shape, a_axis), (b_shape, b_axis)):
        if axis is not None:
            shape.insert(axis, 3)
    a, b = arrays(a_shape, b_shape)
    ours = jax.jit(jax.vmap(lambda a, b: bf16_dot(a, b, dimensions), (a_axis, b_axis)))(a, b)
    close(ours, jax.vmap(lambda a, b: jnp.tensordot(a, b, dimensions), (a_axis, b_axis))(a, b))


def test_vmap_of_vmap_and_jacrev(amx):
    x, kernel = arrays((2, 3, 4, 20), (2, 3, 20, 6))
    close(jax.jit(jax.vmap(jax.vmap(lambda x, k: matmul(x, k, "bf16"))))(x, kernel), x @ kernel)
    ours, expected = (
        jax.jit(jax.jacrev(lambda x, k, kind=kind: jnp.sin(matmul(x, k, kind)), (0, 1)))(x[0, 0], kernel[0, 0])
        for kind in ("bf16", "float32")
    )
    jax.tree.map(close, ours, expected)
