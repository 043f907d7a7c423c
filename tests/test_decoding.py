"""Drawing tokens: the distribution is the model's, and what is left out is never drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.decoding import generate, sample
from cnnrnn.models.recurrent_lm import RecurrentLM
from cnnrnn.tasks.language_modelling import LanguageModelling

PROBABILITIES = np.array([0.5, 0.3, 0.15, 0.05])
LOGITS = jnp.log(PROBABILITIES)


def frequencies(**settings):
    drawn = sample(jax.random.key(0), jnp.broadcast_to(LOGITS, (20_000, 4)), **settings)
    return np.bincount(drawn, minlength=4) / len(drawn)


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, PROBABILITIES),
        (dict(temperature=0.5), PROBABILITIES**2),
        (dict(top_k=2), PROBABILITIES * [1, 1, 0, 0]),
        (dict(top_k=9), PROBABILITIES),
        (dict(temperature=0), [1, 0, 0, 0]),
    ],
)
def test_tokens_are_drawn_with_their_probability(settings, weights):
    np.testing.assert_allclose(frequencies(**settings), weights / np.sum(weights), atol=0.012)


def test_generating_equals_reading_the_text_again():
    """Greedy continuation token by token equals taking the best behind the whole text so far, each time anew."""
    task = LanguageModelling(RecurrentLM(vocab_size=7, hidden_size=16, num_layers=2, init_scale=0.8))
    tokens = jnp.array([[1, 2, 3], [4, 5, 6]])
    variables = task.model.init(jax.random.key(0), tokens)
    carry, logits = task.read(variables, task.init_carry(2), tokens)
    step = lambda carry, token: task.read(variables, carry, token[:, None])  # noqa: E731
    drawn = generate(step, carry, logits, jax.random.key(0), 6, temperature=0)
    text = tokens
    for _ in range(6):
        text = jnp.concatenate([text, jnp.argmax(task.model.apply(variables, text)[0][:, -1:], -1)], 1)
    np.testing.assert_array_equal(drawn, text[:, 3:])


def test_a_seed_draws_the_same_and_another_does_not():
    step = lambda carry, token: (carry, jnp.zeros((1, 50)))  # noqa: E731
    draws = [generate(step, (), jnp.zeros((1, 50)), jax.random.key(seed), 20).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
