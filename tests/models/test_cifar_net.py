"""The CIFAR-10 net has the parameters and shapes of cuda-convnet's layer file."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.analysis.summary import summarize
from cnnrnn.models.cifar_net import CifarNet


@pytest.mark.parametrize(
    ("size", "after_pooling", "total"), [(24, (12, 6), 2_112_970), (32, (16, 8), 3_672_906), (25, (12, 6), 2_112_970)]
)
def test_parameters_and_shapes(size, after_pooling, total):
    rows = summarize(CifarNet(10), (jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),))
    parameters = {row.path: row.parameters for row in rows if row.parameters}
    positions = after_pooling[1] ** 2
    assert parameters == {
        "conv1": 5 * 5 * 3 * 64 + 64,
        "conv2": 5 * 5 * 64 * 64 + 64,
        "local3": positions * (3 * 3 * 64 * 64 + 64),
        "local4": positions * (3 * 3 * 64 * 32 + 32),
        "fc10": positions * 32 * 10 + 10,
    }
    assert sum(parameters.values()) == total
    shapes = {row.path: row.shape[1:] for row in rows}
    assert [shapes[layer] for layer in ("pool1", "pool2")] == [(side, side, 64) for side in after_pooling]
    assert shapes["local4"] == (after_pooling[1], after_pooling[1], 32)


@pytest.mark.parametrize(("normalise", "types"), [
    (True, ["Conv", "MaxPool", "LocalResponseNorm", "Conv", "LocalResponseNorm", "MaxPool"]),
    (False, ["Conv", "MaxPool", "Conv", "MaxPool"]),
])  # fmt: skip
def test_the_order_of_the_layers(normalise, types):
    rows = summarize(CifarNet(10, normalise), (jax.ShapeDtypeStruct((1, 24, 24, 3), jnp.float32),))
    assert [row.type for row in rows] == [*types, "LocallyConnected", "LocallyConnected", "Dense"]


def test_the_initial_parameters():
    params = jax.jit(CifarNet(10).init)(jax.random.key(0), jnp.zeros((1, 24, 24, 3)))["params"]
    stds = {"conv1": 1e-4, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "fc10": 0.01}
    for layer, std in stds.items():
        np.testing.assert_allclose(params[layer]["kernel"].std(), std, rtol=0.05)
        assert not params[layer]["bias"].any()
