"""Schedules at their corners, and those of the configs at every step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from cnnrnn import config_file
from cnnrnn.optim.schedules import make_schedule


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", {0: 0.0, 5: 0.5, 10: 1.0, 55: 1.0, 100: 1.0}),
        ("linear", {0: 0.0, 10: 1.0, 55: 0.6, 100: 0.2}),
        ("cosine", {0: 0.0, 10: 1.0, 55: 0.6, 100: 0.2}),
    ],
)
def test_schedules(name, values):
    schedule = make_schedule(name, 1.0, num_steps=100, warmup_steps=10, alpha=0.0 if name == "constant" else 0.2)
    for step, value in values.items():
        assert float(schedule(step)) == pytest.approx(value, abs=1e-6)


def test_a_constant_rate_without_a_warmup_is_a_number():
    assert make_schedule("constant", 0.3, 10) == 0.3


def test_step_decay_is_zarembas():
    """Four epochs at the full rate, then half of it for one, a quarter for the next; an epoch is 10 steps."""
    rate = make_schedule("step", 1.0, 130, transition_begin=30, transition_steps=10, decay_rate=0.5)
    assert [float(rate(step)) for step in (0, 39, 40, 49, 50, 129)] == [1, 1, 0.5, 0.5, 0.25, 0.5**9]


def test_step_decay_after_a_warmup():
    rate = make_schedule("step", 1.0, 100, warmup_steps=5, transition_steps=10, decay_rate=0.1)
    assert [float(rate(step)) for step in (0, 5, 14, 15, 25)] == pytest.approx([0, 1, 1, 0.1, 0.01])


# The learning rate, the steps at it, the steps between two decays, and the factor.
STAIRCASES = {
    "ptb_zaremba.py:small": lambda epoch: (20.0, 4 * epoch, epoch, 1 / 2),
    "ptb_zaremba.py:medium": lambda epoch: (35.0, 6 * epoch, epoch, 1 / 1.2),
    "ptb_zaremba.py:large": lambda epoch: (35.0, 14 * epoch, epoch, 1 / 1.15),
    "ptb_vanilla.py": lambda epoch: (2e-3, 2 * epoch, epoch, 0.5),
    "cifar10_krizhevsky.py": lambda _: (0.001, 500 * 390, 10 * 390, 0.1),
    "imagenet_alexnet.py": lambda epoch: (0.01, 30 * epoch, 20 * epoch, 0.1),
}


@pytest.mark.parametrize("name", STAIRCASES)
def test_the_rates_of_the_configs_are_those_of_the_papers_at_every_step(name):
    """learning_rate decay_factor^max((step - flat_steps) // decay_every + 1, 0)."""
    config = config_file.read(f"{ROOT / 'configs'}/{name}")
    optim, num_steps = config.optim, config.train.num_steps
    rate = make_schedule(
        optim.schedule,
        optim.learning_rate,
        num_steps,
        transition_begin=optim.transition_begin,
        transition_steps=optim.transition_steps,
        decay_rate=optim.decay_rate,
    )
    learning_rate, flat_steps, decay_every, decay_factor = STAIRCASES[name](config.train.eval_every)
    steps = np.arange(num_steps)
    decays = np.maximum((steps - flat_steps) // decay_every + 1, 0)
    rates = jax.jit(jax.vmap(rate))(jnp.asarray(steps))
    np.testing.assert_allclose(rates, learning_rate * decay_factor**decays, rtol=2e-5)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(rates)), np.flatnonzero(np.diff(decays)))  # at the same steps


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("step", dict(decay_rate=0.5), "transition_steps is None"),
        ("step", dict(transition_steps=3), "decay_rate is None"),
        ("step", dict(transition_steps=3, decay_rate=0.0), "decay_rate is 0.0"),  # optax would take it for no decay
        ("constant", dict(transition_steps=3), "transition_steps is 3"),
        ("linear", dict(decay_rate=0.5), "decay_rate is 0.5"),
        ("cosine", dict(transition_begin=3), "transition_begin is 3"),
        ("step", dict(transition_steps=3, decay_rate=0.5, alpha=0.1), "alpha is 0.1"),
        ("cosine", dict(warmup_steps=10), "warmup_steps is 10 in a run of 10 steps"),
    ],
)
def test_arguments_of_another_schedule_are_refused(name, settings, words):
    with pytest.raises(ValueError, match=words):
        make_schedule(name, 1.0, 10, **settings)
