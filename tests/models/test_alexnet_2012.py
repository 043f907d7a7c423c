"""AlexNet has the parameters, the arithmetic, the shapes and the groups of the paper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn import config as configs
from cnnrnn import signatures
from cnnrnn.analysis.summary import summarize
from cnnrnn.models.alexnet_2012 import AlexNet

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
DENSE = [37_752_832, 16_781_312, 4_097_000]
SMALL = jnp.zeros((1, 63, 63, 3))  # the smallest image of which pool5 leaves a pixel


def rows_of(size=224, **settings):
    return summarize(AlexNet(1000, **settings), (jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),))


@pytest.mark.parametrize(
    ("groups", "convolutions", "total", "multiplications"),
    [
        (2, [34_944, 307_456, 885_120, 663_936, 442_624], 60_965_224, 724_406_816),
        (1, [34_944, 614_656, 885_120, 1_327_488, 884_992], 62_378_344, 1_135_256_096),
    ],
)
def test_parameters_and_multiplications(groups, convolutions, total, multiplications):
    rows = rows_of(groups=groups)
    parameters = {row.path: row.parameters for row in rows}
    assert [parameters[layer] for layer in LAYERS] == convolutions + DENSE
    assert sum(parameters.values()) == total
    assert sum(row.flops for row in rows) == 2 * multiplications


@pytest.mark.parametrize(("size", "input_padding"), [(224, 2), (227, 0)])
def test_shapes_and_neurons(size, input_padding):
    shapes = {row.path: row.shape[1:] for row in rows_of(size, input_padding=input_padding)}
    assert [shapes[layer][0] for layer in ("conv1", "pool1", "pool2", "pool5")] == [55, 27, 13, 6]
    neurons = [int(np.prod(shapes[layer])) for layer in LAYERS]
    assert neurons == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    assert sum(neurons) == 659_272


def test_the_order_of_the_layers():
    first = ["Conv", "LocalResponseNorm", "MaxPool"]
    rest = ["Conv", "Conv", "Conv", "MaxPool", "Dense", "Dropout", "Dense", "Dropout", "Dense"]
    assert [row.type for row in rows_of()] == first + first + rest


def test_224_pixels_alone_would_make_54_columns():
    assert {row.path: row.shape[1:3] for row in rows_of(input_padding=0)}["conv1"] == (54, 54)


def test_each_half_of_conv2_sees_its_half_of_the_input_channels():
    """Normalisation comes first: through it, two channels of the other half are seen too."""
    net, rng = AlexNet(2), np.random.default_rng(0)
    shapes = jax.eval_shape(net.init, jax.random.key(0), SMALL)["params"]
    params = {
        layer: jax.tree.map(
            lambda leaf, used=layer in ("conv1", "conv2"): random_or_zeros(rng, leaf.shape, used), leaves
        )
        for layer, leaves in shapes.items()
    }
    image = jnp.float32(rng.normal(size=SMALL.shape))

    def half_of_conv2(bias, half):
        variables = {"params": params | {"conv1": params["conv1"] | {"bias": bias}}}
        is_conv2 = lambda module, _: module.name == "conv2"  # noqa: E731
        _, seen = net.apply(variables, image, capture_intermediates=is_conv2, mutable=["intermediates"])
        return jnp.split(seen["intermediates"]["conv2"]["__call__"][0], 2, axis=-1)[half].sum()

    first, second = (
        jax.jit(jax.grad(half_of_conv2), static_argnums=1)(params["conv1"]["bias"], half) for half in (0, 1)
    )
    assert not first[50:].any() and not second[:46].any()
    assert first[:48].all() and second[48:].all()


def random_or_zeros(rng, shape, is_random):
    return jnp.float32(rng.normal(size=shape)) if is_random else jnp.zeros(shape)


def test_the_initial_parameters():
    net = AlexNet(2)

    @jax.jit
    def init(key):  # what is not returned is not computed
        params = net.init(key, SMALL)["params"]
        return params["conv1"]["kernel"], {layer: params[layer]["bias"] for layer in LAYERS}

    kernel, biases = init(jax.random.key(0))
    np.testing.assert_allclose(kernel.std(), 0.01, rtol=0.02)
    assert abs(kernel.mean()) < 3e-4
    ones = ("conv2", "conv4", "conv5", "fc6", "fc7")
    for layer, bias in biases.items():
        np.testing.assert_array_equal(bias, float(layer in ones))


@pytest.mark.parametrize("groups", [0, 3])
def test_other_groups_are_refused(groups):
    with pytest.raises(ValueError, match="groups"):
        jax.eval_shape(AlexNet(2, groups=groups).init, jax.random.key(0), SMALL)


def test_groups_come_from_the_command_line(config):
    groups = signatures.read(AlexNet)["groups"].parse("model.groups", "1")
    config.model = dict(name="alexnet_2012.AlexNet", groups=groups)
    configs.check(config)
    assert configs.build("model", config.model, num_classes=2).groups == 1
