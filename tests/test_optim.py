"""Optimisers against their equations; schedules at their corners."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

from cnnrnn.errors import ConfigError
from cnnrnn.optim import averaged, make_optimizer, make_schedule, nonmonotone_average, observe

PARAMS = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
GRADS = {"kernel": jnp.array([[0.5, 0.5]]), "bias": jnp.array([1.0])}


def updates(**settings):
    tx = make_optimizer(num_steps=10, **settings)
    return tx.update(GRADS, tx.init(PARAMS), PARAMS)[0]


def test_sgd_decays_kernels_and_no_biases():
    step = updates(name="sgd", learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(step["kernel"], [[-0.1 * (0.5 + 0.5), -0.1 * (0.5 - 1.0)]], atol=1e-7)
    np.testing.assert_allclose(step["bias"], [-0.1], atol=1e-7)


def test_adamw_decays_by_its_own_rule():
    plain, decayed = (
        updates(name="adamw", learning_rate=0.1),
        updates(name="adamw", learning_rate=0.1, weight_decay=0.5),
    )
    np.testing.assert_allclose(decayed["kernel"] - plain["kernel"], -0.1 * 0.5 * PARAMS["kernel"], atol=1e-6)
    np.testing.assert_allclose(decayed["bias"], plain["bias"], atol=1e-7)


@pytest.mark.parametrize("name", ["lion", "adadelta", "novograd", "lars", "rmsprop"])
def test_no_rule_decays_biases(name):
    np.testing.assert_allclose(
        updates(name=name, learning_rate=0.1, weight_decay=0.5)["bias"], updates(name=name, learning_rate=0.1)["bias"]
    )


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


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", {0: 0.0, 5: 0.5, 10: 1.0, 55: 1.0, 100: 1.0}),
        ("linear", {0: 0.0, 10: 1.0, 55: 0.6, 100: 0.2}),
        ("cosine", {0: 0.0, 10: 1.0, 55: 0.6, 100: 0.2}),
    ],
)
def test_schedules(name, values):
    schedule = make_schedule(name, 1.0, num_steps=100, warmup_steps=10, end_factor=0.0 if name == "constant" else 0.2)
    for step, value in values.items():
        assert float(schedule(step)) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(name="sdg"), "no optimiser called"),
        (dict(name="chain"), "no optimiser called"),
        (dict(name="sgd", momentun=0.9), "did you mean momentum"),
        (dict(name="adam", qqq=0.9), "it takes"),
        (dict(name="lbfgs"), "no optimiser called"),
        (dict(name="sgd", end_factor=0.5), "choose linear or cosine"),
        (dict(name="sgd", warmup_steps=10), "warm up for fewer"),
    ],
)
def test_refusals(settings, words):
    with pytest.raises(ConfigError) as refusal:
        make_optimizer(num_steps=10, learning_rate=0.1, **settings)
    assert words in str(refusal.value)


def test_a_staircase_is_zarembas():
    """Four epochs at full rate, then half of it for one, a quarter for the next; an epoch is 10 steps."""
    rate = make_schedule("staircase", 1.0, 130, flat_steps=40, decay_every=10, decay_factor=0.5)
    assert [float(rate(step)) for step in (0, 39, 40, 49, 50, 129)] == [1, 1, 0.5, 0.5, 0.25, 0.5**9]


def test_a_staircase_needs_its_steps_and_nothing_else_has_them():
    with pytest.raises(ConfigError, match="optim.decay_every is None"):
        make_schedule("staircase", 1.0, 10)
    with pytest.raises(ConfigError, match="optim.decay_every is 3"):
        make_schedule("constant", 1.0, 10, decay_every=3)
    with pytest.raises(ConfigError, match="optim.flat_steps is 3"):
        make_schedule("cosine", 1.0, 10, flat_steps=3)


def test_averaging_begins_when_the_loss_is_no_better_than_long_ago():
    """Algorithm 1 of AWD-LSTM against plain Python: parameters 1, 2, 3, ... averaged from the trigger on."""
    patience, losses = 2, [5.0, 4.0, 3.0, 3.5, 3.6, 3.2, 3.1, 3.0, 9.0]
    tx = nonmonotone_average(patience)
    params, past, began, expected = jnp.zeros(1), [], None, []
    state = tx.init(params)
    for number, loss in enumerate(losses):
        updates, state = tx.update(jnp.ones(1), state, params)
        params = params + updates
        if began is not None:
            expected.append(float(params[0]))
        mean = np.mean(expected) if expected else float(params[0])
        np.testing.assert_allclose(averaged((state,), params), [mean])
        state = observe((state, "other"), loss)[0]
        if began is None and len(past) > patience and loss > min(past[:-patience]):
            began = number
        past.append(loss)
        assert bool(state.started) == (began is not None)
    assert began == 5 and float(params[0]) == len(losses) and expected == [7.0, 8.0, 9.0]


def test_what_is_averaged_is_found_in_what_a_checkpoint_holds():
    tx = make_optimizer(10, name="sgd", learning_rate=1.0, average_patience=1)
    state = tx.init(PARAMS)
    for loss in (1.0, 2.0, 3.0):
        state = observe(tx.update(GRADS, state, PARAMS)[1], loss)
    _, state = tx.update(GRADS, state, PARAMS)
    stored = serialization.to_state_dict(state)
    np.testing.assert_allclose(averaged(stored, PARAMS)["bias"], PARAMS["bias"] - GRADS["bias"])
    np.testing.assert_allclose(averaged(state, PARAMS)["bias"], PARAMS["bias"] - GRADS["bias"])
