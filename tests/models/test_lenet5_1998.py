"""LeNet-5 of 1998 and Harley's net have the tables, counts and units of their sources."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.errors import ConfigError
from cnnrnn.layers.lenet import BACKGROUND, C3_TABLE, PartialConv, Subsampling, squash
from cnnrnn.models.harley import HarleyNet
from cnnrnn.models.lenet5_1998 import CODES, LeNet5
from cnnrnn.training.model_table import model_rows

PICTURE = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)


def test_60_000_parameters_and_340_908_connections():
    rows = {row.path: row for row in model_rows(LeNet5(num_classes=10), (PICTURE,))}
    parameters = {path: row.parameters for path, row in rows.items()}
    assert parameters == {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48_120, "F6": 10_164}
    assert sum(parameters.values()) == 60_000
    pairs = sum(row.count("X") for row in C3_TABLE)
    cells = {path: int(np.prod(row.shape[1:3])) for path, row in rows.items()}  # of a map
    connections = {
        "C1": cells["C1"] * 6 * (25 + 1),
        "S2": cells["S2"] * 6 * (4 + 1),
        "C3": cells["C3"] * (25 * pairs + 16),
        "S4": cells["S4"] * 16 * (4 + 1),
        "C5": 120 * (400 + 1),
        "F6": 84 * (120 + 1),
        "output": CODES.size,
    }
    assert list(connections.values()) == [122_304, 5_880, 151_600, 2_000, 48_120, 10_164, 840]
    assert sum(connections.values()) == 340_908


def test_harleys_net_has_table_one_and_62_902_parameters():
    rows = model_rows(HarleyNet(num_classes=10), (PICTURE,))
    assert [row.parameters for row in rows] == [156, 0, 1516, 0, 48_120, 12_100, 1_010]
    nodes = 32 * 32 + sum(int(np.prod(row.shape[1:])) for row in rows)
    assert nodes == 9_134


def test_the_table_is_that_of_the_paper():
    """Six maps see three in a row, nine see four, one sees all; every map below is seen by ten."""
    table = np.array([[mark == "X" for mark in row] for row in C3_TABLE])
    assert table.sum(0).tolist() == [3] * 6 + [4] * 9 + [6] and table.sum(1).tolist() == [10] * 6
    rings = [[(start + step) % 6 for step in range(count)] for count in (3, 4) for start in range(6)]
    assert all(table[ring, column].all() for column, ring in enumerate(rings))
    pairs = [[0, 1, 3, 4], [1, 2, 4, 5], [0, 2, 3, 5]]  # not in a row
    assert all(table[four, 12 + number].all() for number, four in enumerate(pairs))


def test_a_partial_convolution_sees_what_the_table_says_and_as_a_convolution_does():
    layer, x = PartialConv(("X.X", ".XX")), jax.random.normal(jax.random.key(0), (2, 9, 8, 2))
    variables = layer.init(jax.random.key(1), x)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"] + jnp.arange(3.0)
    variables["params"]["bias"] = bias
    assert kernel.shape == (5, 5, 4)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x), (5, 5), axis=(1, 2))  # [2, 5, 4, C, 5, 5]
    pairs = {0: [(0, 0)], 1: [(1, 2)], 2: [(0, 1), (1, 3)]}  # map above: (map below, place in the kernel)
    wanted = [
        sum(np.einsum("bijuv,uv->bij", windows[:, :, :, below], kernel[..., place]) for below, place in seen) + bias[k]
        for k, seen in pairs.items()
    ]
    np.testing.assert_allclose(layer.apply(variables, x), np.stack(wanted, -1), atol=1e-5)


def test_weights_begin_within_2_4_over_the_fan_in():
    x = jnp.zeros((1, 9, 9, 6))
    kernel = np.asarray(PartialConv(C3_TABLE).init(jax.random.key(0), x)["params"]["kernel"])
    _, above = np.nonzero(np.array([[mark == "X" for mark in row] for row in C3_TABLE]))
    largest = np.abs(kernel).max((0, 1))  # [60]
    for maps, count in (((0, 6), 3), ((6, 15), 4), ((15, 16), 6)):
        of = largest[(above >= maps[0]) & (above < maps[1])]
        assert 0.8 * 2.4 / (25 * count) < of.max() <= 2.4 / (25 * count)


def test_subsampling_by_hand():
    x = jnp.arange(8.0).reshape(1, 2, 4, 1)
    variables = {"params": {"coefficient": jnp.array([0.1]), "bias": jnp.array([-1.0])}}
    sums = np.array([0 + 1 + 4 + 5, 2 + 3 + 6 + 7])
    wanted = 1.7159 * np.tanh(2 / 3 * (0.1 * sums - 1))
    np.testing.assert_allclose(Subsampling().apply(variables, x)[0, 0, :, 0], wanted, rtol=1e-6)


def test_squash_passes_through_one():
    np.testing.assert_allclose(squash(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-4)


def test_every_digit_has_a_drawing_of_its_own():
    assert CODES.shape == (10, 84) and set(np.unique(CODES)) == {-1.0, 1.0}
    assert min((one != other).sum() for one, other in itertools.combinations(CODES, 2)) >= 5


def test_what_shows_a_drawing_exactly_is_that_digit():
    net = LeNet5(num_classes=10)
    variables = net.init(jax.random.key(0), jnp.zeros(PICTURE.shape))
    params = variables["params"]["F6"]
    params["kernel"] = jnp.zeros_like(params["kernel"])
    params["bias"] = jnp.asarray(CODES[3])  # squash(1) = 1
    distances = -net.apply(variables, jnp.zeros(PICTURE.shape))[0]
    np.testing.assert_allclose(distances, ((CODES - CODES[3]) ** 2).sum(1), atol=1e-2)


@pytest.mark.parametrize("net", [LeNet5, HarleyNet])
def test_beyond_the_border_there_is_paper(net):
    """A picture of nothing but paper looks to the first layer like an endless page."""
    model = net(num_classes=10)
    blank = jnp.full(PICTURE.shape, BACKGROUND)
    variables = model.init(jax.random.key(0), blank)
    _, state = model.apply(variables, blank, capture_intermediates=True, mutable=["intermediates"])
    first = np.asarray(next(v for k, v in state["intermediates"].items() if k in ("C1", "conv1"))["__call__"][0])
    assert first.shape == (1, 28, 28, 6)
    np.testing.assert_allclose(first, np.broadcast_to(first[:, :1, :1], first.shape), atol=1e-6)


@pytest.mark.parametrize("net", [LeNet5, HarleyNet])
def test_another_size_is_refused(net):
    with pytest.raises(ConfigError, match="sees 28 x 28 x 1"):
        net(num_classes=10).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    if net is LeNet5:
        with pytest.raises(ConfigError, match="10 classes"):
            net(num_classes=11).init(jax.random.key(0), jnp.zeros(PICTURE.shape))
