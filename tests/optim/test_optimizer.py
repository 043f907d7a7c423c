"""Optimizers against their equations, and every rule of optax by its name."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from cnnrnn.optim.optimizer import find_rule, make_optimizer

PARAMS = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
GRADS = {"kernel": jnp.array([[0.5, 0.5]]), "bias": jnp.array([1.0])}


def updates(params=PARAMS, grads=GRADS, **settings):
    tx = make_optimizer(num_steps=10, **settings)
    return tx.update(grads, tx.init(params), params)[0]


def test_sgd_decays_kernels_and_no_biases():
    step = updates(name="sgd", learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(step["kernel"], [[-0.1 * (0.5 + 0.5), -0.1 * (0.5 - 1.0)]], atol=1e-7)
    np.testing.assert_allclose(step["bias"], [-0.1], atol=1e-7)


def test_adamw_has_decoupled_weight_decay():
    plain, decayed = (updates(name="adamw", learning_rate=0.1, weight_decay=decay) for decay in (0.0, 0.5))
    np.testing.assert_allclose(decayed["kernel"] - plain["kernel"], -0.1 * 0.5 * PARAMS["kernel"], atol=1e-6)
    np.testing.assert_allclose(decayed["bias"], plain["bias"], atol=1e-7)


@pytest.mark.parametrize("name", ["lion", "adadelta", "novograd", "lars", "rmsprop", "muon"])
def test_no_rule_decays_biases(name):
    np.testing.assert_allclose(
        updates(name=name, learning_rate=0.1, weight_decay=0.5)["bias"], updates(name=name, learning_rate=0.1)["bias"]
    )


def test_adafactor_decays_by_name_at_its_own_rate():
    plain, decayed = (updates(name="adafactor", learning_rate=0.1, weight_decay_rate=rate) for rate in (None, 0.5))
    np.testing.assert_allclose(decayed["kernel"] - plain["kernel"], -0.5 * PARAMS["kernel"], atol=1e-6)
    np.testing.assert_allclose(decayed["bias"], plain["bias"], atol=1e-7)


def test_clipping_comes_first():
    norm = np.sqrt(0.25 + 0.25 + 1.0)
    step = updates(name="sgd", learning_rate=1.0, clip_norm=0.3)
    np.testing.assert_allclose(step["bias"], [-0.3 / norm], rtol=1e-5)


def test_none_leaves_an_argument_out():
    np.testing.assert_array_equal(
        updates(name="adam", learning_rate=0.1, momentum=None)["bias"], updates(name="adam", learning_rate=0.1)["bias"]
    )


def test_arguments_reach_the_rule():
    tx = make_optimizer(10, name="sgd", learning_rate=1.0, momentum=0.5)
    first, state = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    second, _ = tx.update(GRADS, state, PARAMS)
    np.testing.assert_allclose(second["bias"], 1.5 * first["bias"])


def test_the_schedule_reaches_the_rule():
    tx = make_optimizer(10, name="sgd", learning_rate=1.0, schedule="linear")
    state = tx.init(PARAMS)
    for step in range(3):
        update, state = tx.update(GRADS, state, PARAMS)
        np.testing.assert_allclose(update["bias"], [-(1 - step / 10)], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(name="sdg"), 'no optimizer called "sdg" - did you mean sgd?'),
        (dict(name="chain"), "chain of optax is no rule"),
        (dict(name="lbfgs"), "lbfgs of optax is no rule"),
        (dict(name="polyak_sgd"), "polyak_sgd of optax is no rule"),
        (dict(name="scale_by_rprop"), "scale_by_rprop of optax is no rule"),
        (dict(name="momo"), "required keyword-only argument"),  # the loss
        (dict(name="sophia"), "obj_fn must be provided"),
        (dict(name="dpsgd", l2_norm_clip=1.0, noise_multiplier=1.0, seed=0), "changes the shapes of the updates"),
        (dict(name="galore"), "empty arrays, which no checkpoint can hold"),
        (dict(name="schedule_free_adamw"), "evaluates other parameters than it trains"),
        (dict(name="sgd", momentun=0.9), "did you mean momentum"),
        (dict(name="adam", qqq=0.9), "there are b1, b2"),
        (dict(name="adamw", mask=True), "decay_multipliers say which parameters decay"),
        (dict(name="sgd", momentum="much"), "momentum is 'much' - it takes no text"),
        (dict(name="sgd", nesterov="Flase"), "nesterov is 'Flase' - it takes true or false"),
        (dict(name="adam", b1=True), "b1 is True - it takes a number"),
        (dict(name="sgd", nesterov=3), "nesterov is 3 - it takes true or false"),
        (dict(name="sgd", momentum=(0.1, 0.2)), "sgd with these arguments: TypeError"),
        (dict(name="adafactor", weight_decay=0.1), "give weight_decay_rate instead"),
        (dict(name="rprop", schedule="cosine"), "leave out schedule and warmup_steps"),
        (dict(name="rprop", warmup_steps=1), "leave out schedule and warmup_steps"),
        (dict(name="prodigy", warmup_steps=1), "not finite after a learning rate of 0"),
        (dict(name="lion", weight_decay=0.1, decay_multipliers=(("*", 0.5),)), "factors for lion are 0 or 1"),
        (dict(name="sgd", alpha=0.5), "choose linear or cosine"),
        (dict(name="sgd", warmup_steps=10), "lower warmup_steps"),
    ],
)
def test_refusals(settings, words):
    with pytest.raises(ValueError) as refusal:
        make_optimizer(num_steps=10, learning_rate=0.1, **settings)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


LEARNING_RATE_RULES = sorted(
    name
    for module in (optax, optax.contrib)
    for name, value in vars(module).items()
    if inspect.isfunction(value) and "learning_rate" in inspect.signature(value).parameters
)
NEEDED = {"noisy_sgd": dict(key=0)}
SETTINGS = [
    {},
    dict(weight_decay=0.1),
    dict(warmup_steps=2),
    dict(schedule="linear"),
    dict(schedule="cosine", alpha=0.1),
    dict(schedule="step", transition_steps=2, decay_rate=0.5),
]
CONSTANT_ONLY = {"rprop", "optimistic_adam", "sm3"}
REFUSED_FIELD = {"adafactor": "weight_decay", "dadapt_adamw": "warmup_steps", "prodigy": "warmup_steps"}
REFUSED = {"lbfgs", "dpsgd", "galore", "momo", "momo_adam", "sophia"}
REFUSED |= {"schedule_free", "schedule_free_adamw", "schedule_free_sgd"}


@pytest.mark.parametrize("name", LEARNING_RATE_RULES)
def test_every_rule_of_optax_works_or_is_refused_in_one_line(name):
    params = {"layer": {"kernel": jnp.array([[1.0, -2.0, 0.5]] * 2), "bias": jnp.array([3.0, 0.0, 1.0])}}
    grads = jax.tree.map(jnp.cos, params)
    made, refused = [], []
    for settings in SETTINGS:
        try:
            made.append(make_optimizer(10, name=name, learning_rate=0.1, **NEEDED.get(name, {}), **settings))
        except ValueError as error:
            assert "\n" not in str(error) and name in str(error)
            refused.append(settings)
    if name in REFUSED or name.startswith(("_", "scale_by_")):
        assert refused == SETTINGS
        return
    assert refused == [settings for settings in SETTINGS if is_refused(name, settings)]

    def step(tx, carry, _):
        updates, opt_state = tx.update(grads, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), opt_state), None

    @jax.jit
    def three_steps(params):
        return [lax.scan(partial(step, tx), (params, tx.init(params)), length=3)[0][0] for tx in made]

    for new in three_steps(params):
        assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, params)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
        assert (new["layer"]["kernel"] != params["layer"]["kernel"]).any()


def is_refused(name, settings):
    if name in CONSTANT_ONLY:
        return "schedule" in settings or "warmup_steps" in settings
    return REFUSED_FIELD.get(name) in settings


def test_names_are_looked_up_in_optax_and_then_in_contrib():
    assert find_rule("adamw") is optax.adamw and find_rule("muon") is optax.contrib.muon
