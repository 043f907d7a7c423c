"""Beam search against brute force over all sequences, for nets of random weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnrnn.beam_search import beam_search

VOCAB_SIZE, LENGTH, END = 3, 4, 0


def make_model(seed, batch_size=2, scale=3.0):
    """A step of a small recurrent net, and its state; the weights of its attention say how many tokens there were."""
    rng = np.random.default_rng(seed)
    embedding, kernel, softmax = (jnp.asarray(rng.normal(0, scale, s), jnp.float32) for s in ((3, 4), (4, 4), (4, 3)))

    def step(tokens, state):
        h, count = state
        h = jnp.tanh(h @ kernel + embedding[tokens])
        return h @ softmax, (h, count + 1), jnp.repeat(count[..., None], 2, -1)

    return step, (jnp.asarray(rng.normal(size=(batch_size, 1, 4)), jnp.float32), jnp.ones((batch_size, 1)))


def log_prob_of(step, state, tokens):
    """A forced decode: the log-probability of tokens [L] for one example."""
    last, total = jnp.full((1, 1), END), 0.0
    for token in tokens:
        logits, state, _ = step(last, state)
        total += float(jax.nn.log_softmax(logits)[0, 0, token])
        last = jnp.full((1, 1), token)
    return total


def all_sequences(step, state, length_penalty):
    """(score, tokens) of every sequence that ends with END or has LENGTH tokens, the best first."""
    others = range(1, VOCAB_SIZE)
    sequences = [(*some, END) for n in range(LENGTH) for some in itertools.product(others, repeat=n)]
    sequences += itertools.product(others, repeat=LENGTH)
    scored = [(log_prob_of(step, state, s) / ((5 + len(s)) / 6) ** length_penalty, s) for s in sequences]
    return sorted(scored, key=lambda pair: -pair[0])


def search(step, state, **settings):
    run = jax.jit(lambda state: beam_search(step, state, start=END, end=END, max_length=LENGTH, **settings))
    return jax.device_get(run(state))


def of(tree, number):
    return jax.tree.map(lambda rows: rows[number : number + 1], tree)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.integers(1, 6))
def test_a_wide_beam_finds_what_brute_force_finds(seed, length_penalty, num_best):
    step, state = make_model(seed)
    found = search(step, state, beam_size=32, num_best=num_best, length_penalty=length_penalty)
    for number in range(2):
        expected = all_sequences(step, of(state, number), length_penalty)[:num_best]
        np.testing.assert_allclose(found.scores[number], [score for score, _ in expected], rtol=1e-5, atol=1e-5)
        for tokens, length, (_, sequence) in zip(found.tokens[number], found.lengths[number], expected, strict=True):
            assert tuple(tokens[:length]) == sequence and (tokens[length:] == END).all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0, 3.0]))
def test_a_beam_of_one_is_greedy(seed, length_penalty):
    step, state = make_model(seed)
    found = search(step, state, beam_size=1, length_penalty=length_penalty)
    for number in range(2):
        greedy, last, model = [], jnp.full((1, 1), END), of(state, number)
        while len(greedy) < LENGTH and greedy[-1:] != [END]:
            logits, model, _ = step(last, model)
            greedy.append(int(logits[0, 0].argmax()))
            last = jnp.full((1, 1), greedy[-1])
        assert found.tokens[number, 0, : found.lengths[number, 0]].tolist() == greedy


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0]), st.integers(2, 5))
def test_the_results_agree_with_each_other(seed, length_penalty, beam_size):
    """The first of n is that of 1; n sequences differ; the log-probability is that of a forced decode; a batch changes
    nothing."""
    step, state = make_model(seed, batch_size=3)
    one, several = (
        search(step, state, beam_size=beam_size, num_best=n, length_penalty=length_penalty) for n in (1, beam_size)
    )
    np.testing.assert_array_equal(one.tokens[:, 0], several.tokens[:, 0])
    for number in range(3):
        alone = search(step, of(state, number), beam_size=beam_size, num_best=beam_size, length_penalty=length_penalty)
        np.testing.assert_array_equal(alone.tokens[0], several.tokens[number])
        lengths, log_probs = several.lengths[number], several.log_probs[number]
        sequences = [tuple(tokens[:n]) for tokens, n in zip(several.tokens[number], lengths, strict=True) if n]
        assert len({*sequences}) == len(sequences) and (lengths == 0).sum() == np.isinf(log_probs).sum()
        for sequence, log_prob, weights in zip(sequences, log_probs, several.weights[number], strict=False):
            assert log_prob == pytest.approx(log_prob_of(step, of(state, number), sequence), abs=1e-5)
            steps = np.arange(1, LENGTH + 1)
            np.testing.assert_array_equal(weights[:, 0], np.where(steps <= len(sequence), steps, 0))


def test_more_results_than_the_beam_has_are_refused():
    step, state = make_model(0)
    with pytest.raises(ValueError, match="num_best is 3 - it takes 1 to beam_size, 2"):
        beam_search(step, state, start=END, end=END, max_length=LENGTH, beam_size=2, num_best=3)


def test_it_stops_as_soon_as_nothing_can_come_among_the_best():
    """A step counts how often it is run, through a callback."""
    calls = []

    def step(tokens, state):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.broadcast_to(jnp.array([10.0, 0.0, 0.0]), (*tokens.shape, 3)), state, jnp.zeros((*tokens.shape, 1))

    run = lambda n: beam_search(  # noqa: E731
        step, jnp.zeros((1, 1, 1)), start=END, end=END, beam_size=3, num_best=n, max_length=50
    )
    assert int(run(1).lengths[0, 0]) == 1
    jax.effects_barrier()
    assert len(calls) == 1
    run(3)
    jax.effects_barrier()
    assert 2 <= len(calls) - 1 <= 4
