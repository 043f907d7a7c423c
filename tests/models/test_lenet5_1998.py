"""LeNet-5 of 1998 and Harley's net have the tables, counts and units of their sources."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.analysis.summary import summarize
from cnnrnn.layers.lenet import BACKGROUND, C3_TABLE, Subsampling, TableConv, scaled_tanh
from cnnrnn.models.harley import HarleyNet
from cnnrnn.models.lenet5_1998 import CODES, LeNet5

IMAGE = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)


def test_60_000_parameters_and_340_908_connections():
    rows = {row.path: row for row in summarize(LeNet5(num_classes=10), (IMAGE,))}
    parameters = {path: row.parameters for path, row in rows.items()}
    assert parameters == {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48_120, "F6": 10_164}
    assert sum(parameters.values()) == 60_000
    pairs = sum(row.count("X") for row in C3_TABLE)
    positions = {path: int(np.prod(row.shape[1:3])) for path, row in rows.items()}  # of a channel
    connections = {
        "C1": positions["C1"] * 6 * (25 + 1),
        "S2": positions["S2"] * 6 * (4 + 1),
        "C3": positions["C3"] * (25 * pairs + 16),
        "S4": positions["S4"] * 16 * (4 + 1),
        "C5": 120 * (400 + 1),
        "F6": 84 * (120 + 1),
        "output": CODES.size,
    }
    assert list(connections.values()) == [122_304, 5_880, 151_600, 2_000, 48_120, 10_164, 840]
    assert sum(connections.values()) == 340_908


def test_harleys_net_has_table_one_and_62_902_parameters():
    rows = summarize(HarleyNet(num_classes=10), (IMAGE,))
    assert [row.parameters for row in rows] == [156, 0, 1516, 0, 48_120, 12_100, 1_010]
    nodes = 32 * 32 + sum(int(np.prod(row.shape[1:])) for row in rows)
    assert nodes == 9_134


def test_the_table_is_that_of_the_paper():
    """Six outputs see three adjacent inputs, nine see four, one sees all; every input is seen by ten."""
    table = np.array([[mark == "X" for mark in row] for row in C3_TABLE])
    assert table.sum(0).tolist() == [3] * 6 + [4] * 9 + [6] and table.sum(1).tolist() == [10] * 6
    rings = [[(start + step) % 6 for step in range(count)] for count in (3, 4) for start in range(6)]
    assert all(table[ring, column].all() for column, ring in enumerate(rings))
    pairs = [[0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5]]  # not adjacent
    assert all(table[four, 12 + number].all() for number, four in enumerate(pairs))


def test_a_table_convolution_is_the_convolution_of_the_connected_channels():
    layer, x = TableConv(("X.X", ".XX")), jax.random.normal(jax.random.key(0), (2, 9, 8, 2))
    variables = layer.init(jax.random.key(1), x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"] + jnp.arange(3.0)
    variables["params"]["bias"] = bias
    assert kernel.shape == (5, 5, 4)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x), (5, 5), axis=(1, 2))  # [2, 5, 4, C, 5, 5]
    pairs = {0: [(0, 0)], 1: [(1, 2)], 2: [(0, 1), (1, 3)]}  # output: (input, index in the kernel)
    wanted = [
        sum(np.einsum("bijuv,uv->bij", windows[:, :, :, c], kernel[..., index]) for c, index in seen) + bias[k]
        for k, seen in pairs.items()
    ]
    np.testing.assert_allclose(layer.apply(variables, x), np.stack(wanted, -1), atol=1e-5)


def test_initial_weights_are_within_2_4_over_the_fan_in():
    x = jnp.zeros((1, 9, 9, 6))
    kernel = np.asarray(TableConv(C3_TABLE).init(jax.random.key(0), x)["params"]["kernel"])
    _, outputs = np.nonzero(np.array([[mark == "X" for mark in row] for row in C3_TABLE]))
    largest = np.abs(kernel).max((0, 1))  # [60]
    for (first, end), count in (((0, 6), 3), ((6, 15), 4), ((15, 16), 6)):
        bound = 2.4 / (25 * count)
        assert 0.8 * bound < largest[(outputs >= first) & (outputs < end)].max() <= bound


def test_subsampling_by_hand():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    variables = {"params": {"coefficient": jnp.array([0.1]), "bias": jnp.array([-1.0])}}
    sums = np.array([0 + 1 + 4 + 5, 2 + 3 + 6 + 7])
    wanted = 1.7159 * np.tanh(2 / 3 * (0.1 * sums - 1))
    np.testing.assert_allclose(Subsampling().apply(variables, x)[0, 0, :, 0], wanted, rtol=1e-6)


def test_scaled_tanh_passes_through_one():
    np.testing.assert_allclose(scaled_tanh(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_every_digit_has_another_drawing():
    assert CODES.shape == (10, 84) and set(np.unique(CODES)) == {-1.0, 1.0}
    assert min((one != other).sum() for one, other in itertools.combinations(CODES, 2)) >= 5


def test_the_distance_to_the_drawing_of_the_digit_is_zero():
    net = LeNet5(num_classes=10)
    variables = net.init(jax.random.key(0), jnp.zeros(IMAGE.shape))
    params = variables["params"]["F6"]
    params["kernel"] = jnp.zeros_like(params["kernel"])
    params["bias"] = jnp.asarray(CODES[3])  # scaled_tanh(1) = 1
    distances = -net.apply(variables, jnp.zeros(IMAGE.shape))[0]
    np.testing.assert_allclose(distances, ((CODES - CODES[3]) ** 2).sum(1), atol=1e-2)


@pytest.mark.parametrize("net", [LeNet5, HarleyNet])
def test_the_padding_is_background(net):
    """The first layer cannot see the border of a blank image."""
    model = net(num_classes=10)
    blank = jnp.full(IMAGE.shape, BACKGROUND)
    variables = model.init(jax.random.key(0), blank)
    _, state = model.apply(variables, blank, capture_intermediates=True, mutable=["intermediates"])
    first = np.asarray(next(v for k, v in state["intermediates"].items() if k in ("C1", "conv1"))["__call__"][0])
    assert first.shape == (1, 28, 28, 6)
    np.testing.assert_allclose(first, np.broadcast_to(first[:, :1, :1], first.shape), atol=1e-6)


@pytest.mark.parametrize("net", [LeNet5, HarleyNet])
def test_another_size_is_refused(net):
    with pytest.raises(ValueError, match="sees 28 x 28 x 1"):
        net(num_classes=10).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    if net is LeNet5:
        with pytest.raises(ValueError, match="10 classes"):
            net(num_classes=11).init(jax.random.key(0), jnp.zeros(IMAGE.shape))
