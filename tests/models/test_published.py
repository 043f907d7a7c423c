"""Every architecture has the parameters, the arithmetic and the shapes that its source gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.analysis.summary import summarize
from cnnrnn.models.alexnet import AlexNet
from cnnrnn.models.convnet import ConvNet
from cnnrnn.models.lenet5 import LeNet5

MNIST = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)


def test_lenet5_as_drawn_today():
    rows = summarize(LeNet5(num_classes=10), (MNIST,))
    assert [row.parameters for row in rows] == [156, 0, 2416, 0, 48_120, 10_164, 850]
    assert sum(row.parameters for row in rows) == 61_706
    assert sum(row.flops for row in rows) == 2 * 416_520
    assert [row.shape[1:] for row in rows[:4]] == [(28, 28, 6), (14, 14, 6), (10, 10, 16), (5, 5, 16)]


def test_alexnet_in_one_tower():
    rows = summarize(AlexNet(num_classes=1000), (jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32),))
    assert sum(row.parameters for row in rows) == 61_100_840
    assert sum(row.flops for row in rows) == 2 * 714_188_480
    shapes = {row.path: row.shape[1:] for row in rows}
    assert (shapes["conv1"], shapes["pool1"], shapes["pool5"]) == ((55, 55, 64), (27, 27, 64), (6, 6, 256))


def test_the_slides_net():
    rows = summarize(ConvNet(num_classes=10), (MNIST,))
    assert [row.type for row in rows] == ["Conv", "Conv", "MaxPool", "Conv", "MaxPool", "Dense"]
    assert [row.parameters for row in rows] == [320, 9248, 0, 18_496, 0, 31_370]
    assert rows[-2].shape == (1, 7, 7, 64)


def test_the_slides_net_sees_12_pixels():
    """The receptive field of one position before the linear layer, by its gradient."""
    net = ConvNet(num_classes=1, features=(2, 2, 2))
    variables = net.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    weights = np.zeros((8, 8, 2), np.float32)
    weights[4, 4] = 1
    variables["params"]["fully_connected"]["kernel"] = weights.reshape(-1, 1)
    seen = np.zeros((32, 32), bool)
    for seed in range(20):  # maxima hide some pixels of any one image
        image = jax.random.normal(jax.random.key(seed), (1, 32, 32, 1))
        seen |= np.asarray(jax.grad(lambda x: net.apply(variables, x).sum())(image))[0, ..., 0] != 0
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 12


@pytest.mark.parametrize("model", [LeNet5, ConvNet])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 40, 3)])
def test_any_image_size_and_number_of_classes(model, shape):
    net = model(num_classes=7)
    logits, _ = net.init_with_output(jax.random.key(0), jnp.zeros((2, *shape)))
    assert logits.shape == (2, 7)
