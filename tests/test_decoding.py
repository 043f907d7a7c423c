"""Sampling tokens: the distribution is the model's, and excluded tokens are never sampled."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.decoding import generate, most_likely_words, sample
from cnnrnn.models.recurrent_lm import RecurrentLM
from cnnrnn.tasks.language_modelling import LanguageModelling

PROBABILITIES = np.array([0.5, 0.3, 0.15, 0.05])
LOGITS = jnp.log(PROBABILITIES)


def frequencies(**settings):
    samples = sample(jax.random.key(0), jnp.broadcast_to(LOGITS, (20_000, 4)), **settings)
    return np.bincount(samples, minlength=4) / len(samples)


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({}, PROBABILITIES),
        (dict(temperature=0.5), PROBABILITIES**2),
        (dict(top_k=2), PROBABILITIES * [1, 1, 0, 0]),
        (dict(top_k=9), PROBABILITIES),
        (dict(temperature=0), [1, 0, 0, 0]),
        (dict(temperature=1e-42), [1, 0, 0, 0]),
    ],
)
def test_tokens_are_sampled_with_their_probability(settings, weights):
    np.testing.assert_allclose(frequencies(**settings), weights / np.sum(weights), atol=0.012)


def test_of_equal_logits_no_more_than_k_are_sampled():
    samples = sample(jax.random.key(0), jnp.zeros((500, 4)), top_k=2)
    assert len(np.unique(samples)) == 2


def test_generating_equals_reading_the_text_again():
    """Greedy continuation token by token equals the likeliest token after the whole text read again."""
    task = LanguageModelling(RecurrentLM(vocab_size=7, hidden_size=16, num_layers=2, init_scale=0.8))
    tokens = jnp.array([[1, 2, 3], [4, 5, 6]])
    variables = task.model.init(jax.random.key(0), tokens)
    carry, logits = task.prefill(variables, task.init_carry(2), tokens)
    step = lambda carry, token: task.prefill(variables, carry, token[:, None])  # noqa: E731
    samples = generate(step, carry, logits, jax.random.key(0), 6, temperature=0)
    text = tokens
    for _ in range(6):
        text = jnp.concatenate([text, jnp.argmax(task.model.apply(variables, text)[0][:, -1:], -1)], 1)
    np.testing.assert_array_equal(samples, text[:, 3:])


def test_a_seed_samples_the_same_and_another_does_not():
    step = lambda carry, token: (carry, jnp.zeros((1, 50)))  # noqa: E731
    draws = [generate(step, (), jnp.zeros((1, 50)), jax.random.key(seed), 20).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_the_most_likely_words_are_those_of_all_words():
    """Beam search over characters a, b, blank, dot against every word of up to five letters."""
    is_letter, is_blank = np.array([True, True, False, False]), np.array([False, False, True, False])
    task = LanguageModelling(RecurrentLM(vocab_size=4, hidden_size=8, num_layers=1, init_scale=1.0))
    variables = task.model.init(jax.random.key(1), jnp.zeros((1, 1), jnp.int32))
    carry, logits = task.prefill(variables, task.init_carry(1), jnp.array([[0, 2]]))
    step = lambda carry, token: task.prefill(variables, carry, token[:, None])  # noqa: E731
    words = most_likely_words(step, carry, logits, is_letter, is_blank, count=6)

    def probability(word):
        logits, _ = task.model.apply(variables, jnp.array([[0, 2, *word]]))
        p = np.asarray(jax.nn.softmax(logits[0, 1:]), np.float64)
        spelled = np.prod([p[t, token] for t, token in enumerate(word)])
        return spelled * (p[len(word), ~is_letter].sum() if is_letter[word[0]] else 1.0)

    every = [(3,)] + [word for length in range(1, 6) for word in itertools.product((0, 1), repeat=length)]
    expected = sorted(((probability(word), word) for word in every), reverse=True)[:6]
    assert [word for _, word in words] == [word for _, word in expected]
    np.testing.assert_allclose([p for p, _ in words], [p for p, _ in expected], rtol=1e-4)
