"""Parameters decay, and learn, by their names."""

import importlib
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn import models
from cnnrnn.optim.masks import decay_mask
from cnnrnn.optim.optimizer import make_optimizer

PARAMS = {
    "conv1": {"kernel": jnp.ones((1, 1, 2, 2)), "bias": jnp.ones(2)},
    "fc2": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)},
}
ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def updates(grads=ZEROS, **settings):
    tx = make_optimizer(num_steps=10, learning_rate=1.0, **settings)
    new = tx.update(grads, tx.init(PARAMS), PARAMS)[0]
    return {
        f"{layer}/{name}": float(leaf.flatten()[0]) for layer, leaves in new.items() for name, leaf in leaves.items()
    }


def test_kernels_and_embeddings_decay_and_nothing_else():
    """By their names: in both directions of a recurrent layer biases and peepholes have two dimensions or three."""
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
def test_what_decays_is_what_has_more_than_one_dimension(model):
    """As before decay went by the names, for every model that there was then."""
    if "vocab_size" in model.__dataclass_fields__:
        nets, example = (
            [model(vocab_size=7, cell=cell, hidden_size=4) for cell in ("vanilla", "lstm", "gru")],
            jnp.zeros((1, 3), int),
        )
    else:
        shape = (1, 28, 28, 1) if "lenet" in model.__module__ or "harley" in model.__module__ else (1, 67, 67, 3)
        nets, example = [model(num_classes=10)], jnp.zeros(shape)
    for net in nets:
        params = jax.eval_shape(net.init, jax.random.key(0), example)["params"]
        assert decay_mask(params) == jax.tree.map(lambda leaf: leaf.ndim > 1, params)


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
    """Muon decays matrices alone."""
    tx = make_optimizer(10, name="muon", learning_rate=1.0, weight_decay=0.1)
    with pytest.raises(ValueError, match="this rule decays no conv1/kernel"):
        tx.init(PARAMS)
    tx.init({"fc2": PARAMS["fc2"]})
    make_optimizer(10, name="muon", learning_rate=1.0).init(PARAMS)


def test_averaging_sees_the_scaled_updates():
    from cnnrnn.optim.nt_asgd import eval_params, on_evaluation

    tx = make_optimizer(10, name="sgd", learning_rate=1.0, rate_multipliers=(("*/bias", 2.0),), nonmono=1)
    state = tx.init(PARAMS)
    for loss in (1.0, 2.0, 3.0):
        state = on_evaluation(state, loss)
    _, state = tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS)
    np.testing.assert_allclose(eval_params(state, PARAMS)["fc2"]["bias"], [-1.0, -1.0])
