"""Weight decay and learning rates depend on the names of the parameters."""

import importlib
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from cnnrnn import config_file, models
from cnnrnn.models.cifar_net import CifarNet
from cnnrnn.optim.masks import decay_mask
from cnnrnn.optim.nt_asgd import eval_params, on_evaluation
from cnnrnn.optim.optimizer import make_optimizer

PARAMS = {
    "conv1": {"kernel": jnp.ones((1, 1, 2, 2)), "bias": jnp.ones(2)},
    "fc2": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def updates(grads=ZEROS, **settings):
    tx = make_optimizer(num_steps=10, learning_rate=1.0, **settings)
    new = tx.update(grads, tx.init(PARAMS), PARAMS)[0]
    leaves = jax.tree_util.tree_leaves_with_path(new)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): float(leaf.ravel()[0]) for path, leaf in leaves}


def test_kernels_and_embeddings_decay_and_nothing_else():
    """Biases and peepholes of a recurrent layer of both directions have two dimensions or three."""
    layer = {"input_kernel": (2, 3, 8), "recurrent_kernel": (2, 2, 8), "bias": (2, 8), "peephole": (2, 3, 2)}
    params = {"embedding": {"embedding": (5, 3)}, "layers": {"layer1": layer}, "norm": {"scale": (2, 2)}}
    params = jax.tree.map(jnp.ones, params, is_leaf=lambda node: isinstance(node, tuple))
    assert decay_mask(params) == {
        "embedding": {"embedding": True},
        "layers": {"layer1": dict(input_kernel=True, recurrent_kernel=True, bias=False, peephole=False)},
        "norm": {"scale": False},
    }
    grads = jax.tree.map(jnp.zeros_like, params)
    for name in ("sgd", "adamw"):
        tx = make_optimizer(10, name=name, learning_rate=1.0, weight_decay=0.5)
        moved = jax.tree.map(lambda update: bool(update.any()), tx.update(grads, tx.init(params), params)[0])
        assert moved == decay_mask(params)


def published_models():
    for module in pkgutil.iter_modules(models.__path__):
        module = importlib.import_module(f"cnnrnn.models.{module.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__:
                yield value


@pytest.mark.parametrize("model", published_models(), ids=lambda model: f"{model.__module__}.{model.__name__}")
def test_in_every_model_the_arrays_of_more_than_one_dimension_decay(model):
    """The names say the same as the dimensions, of which layers of both directions have one more."""
    if "vocab_size" in model.__dataclass_fields__:
        nets = [model(vocab_size=7, cell=cell, hidden_size=4) for cell in ("vanilla", "lstm", "gru")]
        example = (jnp.zeros((1, 3), jnp.int32),)
    elif "source_vocab_size" in model.__dataclass_fields__:
        nets = [
            model(7, 7, hidden_size=4, encoder="forward", attention=name) for name in ("dot", "general", "additive")
        ]
        example = (jnp.zeros((1, 3), jnp.int32), jnp.array([3])) * 2
    elif "conv_features" in model.__dataclass_fields__:
        nets = [model(num_classes=7, hidden_size=4, conv_features=(2,))]
        example = (jnp.zeros((1, 3, 8)), jnp.array([3]))
    else:
        nets = [model(num_classes=10)]
        is_on_digits = "lenet" in model.__module__ or "harley" in model.__module__
        example = (jnp.zeros((1, 28, 28, 1) if is_on_digits else (1, 67, 67, 3)),)
    for net in nets:
        params = jax.eval_shape(net.init, jax.random.key(0), *example)["params"]
        mask = jax.tree.map(lambda leaf: leaf.ndim > 1, params)
        if "recurrent" in params:
            mask["recurrent"] = jax.tree.map(lambda leaf: leaf.ndim > 2, params["recurrent"])
        assert decay_mask(params) == mask


def test_decay_multipliers_and_the_first_match_wins():
    patterns = (("conv*/kernel", 0.0), ("fc2/*", 2.5), ("fc2/kernel", 7.0))
    step = updates(name="sgd", weight_decay=0.1, decay_multipliers=patterns)
    assert step == pytest.approx({"conv1/kernel": 0, "conv1/bias": 0, "fc2/kernel": -0.25, "fc2/bias": -0.25})


def test_masked_rules_take_factors_of_0_and_1():
    patterns = (("conv1/*", 0.0), ("*/bias", 1.0))
    step = updates(name="adamw", weight_decay=0.1, decay_multipliers=patterns)
    assert step == pytest.approx({"conv1/kernel": 0, "conv1/bias": 0, "fc2/kernel": -0.1, "fc2/bias": -0.1})


def test_rate_multipliers_scale_the_update_after_momentum_and_decay():
    """cuda-convnet's: biases learn at twice the rate, and what decays does so at the rate of its parameter."""
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    step = updates(grads, name="sgd", weight_decay=0.1, rate_multipliers=(("*/bias", 2.0), ("fc2/*", 0.5)))
    wanted = {"conv1/kernel": -1.1, "conv1/bias": -2.0, "fc2/kernel": -0.55, "fc2/bias": -2.0}
    assert step == pytest.approx(wanted)


@pytest.mark.parametrize("field", ["decay_multipliers", "rate_multipliers"])
@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_pattern_without_a_match_is_an_error_that_names_the_parameters(field, name):
    tx = make_optimizer(10, name=name, learning_rate=1.0, **{field: (("conv1/bias", 1.0), ("conv3/*", 1.0))})
    with pytest.raises(ValueError, match=r"'conv3/\*' matches no parameter - there are conv1/bias, conv1/kernel, fc2"):
        jax.eval_shape(tx.init, PARAMS)


def test_a_rule_that_does_not_decay_what_should_decay_is_refused():
    """Muon decays nothing but matrices."""
    tx = make_optimizer(10, name="muon", learning_rate=1.0, weight_decay=0.1)
    with pytest.raises(ValueError, match="this rule cannot decay conv1/kernel"):
        tx.init(PARAMS)
    tx.init({"fc2": PARAMS["fc2"]})
    make_optimizer(10, name="muon", learning_rate=1.0).init(PARAMS)


def test_the_cifar_config_has_the_rates_and_decays_of_cuda_convnet():
    config = config_file.read(f"{ROOT / 'configs' / 'cifar10_krizhevsky.py'}")
    tx = make_optimizer(config.train.num_steps, **config.optim)
    shapes = jax.eval_shape(CifarNet(10).init, jax.random.key(0), jnp.zeros((1, 24, 24, 3)))["params"]
    params = {
        layer: {name: jnp.ones((1,) * leaf.ndim) for name, leaf in leaves.items()} for layer, leaves in shapes.items()
    }
    decay, step = (
        tx.update(jax.tree.map(lambda leaf, g=g: jnp.full_like(leaf, g), params), tx.init(params), params)[0]
        for g in (0.0, 1.0)
    )
    decays = {"conv1": 0, "conv2": 0, "local3": 0.004, "local4": 0.004, "fc10": 0.01}
    for layer, expected in decays.items():
        np.testing.assert_allclose(decay[layer]["kernel"], -0.001 * expected, rtol=1e-6)
        np.testing.assert_allclose(step[layer]["kernel"], -0.001 * (1 + expected), rtol=1e-6)
        np.testing.assert_allclose(step[layer]["bias"], -0.002, rtol=1e-6)


def test_averaging_sees_the_scaled_updates():
    tx = make_optimizer(10, name="sgd", learning_rate=1.0, rate_multipliers=(("*/bias", 2.0),), nonmono=1)
    state = tx.init(PARAMS)
    for loss in (1.0, 2.0, 3.0):
        state = on_evaluation(state, loss)
    _, state = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS)
    np.testing.assert_allclose(eval_params(state, PARAMS)["fc2"]["bias"], [-1.0, -1.0])
