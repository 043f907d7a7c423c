"""<unk> stands for many words and is none: it is neither offered nor sampled, and its probability is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.data.vocabulary import Vocabulary, is_part_of_word
from cnnrnn.decoding import generate
from cnnrnn.inference.text import _next_words, _without_unknown

WORDS = Vocabulary("word", ("\n", "<unk>", "sky", "sea"))
CHARACTERS = Vocabulary("character", ("\n", "<unk>", " ", "a", "b"))


def prefill_of(probabilities):
    """A model that predicts the same after every token."""
    logits = jnp.log(jnp.array([probabilities]))
    return lambda carry, tokens: (carry, jnp.repeat(logits, len(tokens), 0))


def test_next_words_leave_it_out_and_say_how_likely_it_was():
    words, unknown = _next_words(prefill_of([0.1, 0.6, 0.25, 0.05]), (), np.array([0]), WORDS, 3)
    assert [word for _, word in words] == ["sky", "↵", "sea"] and unknown == pytest.approx(0.6)
    np.testing.assert_allclose([probability for probability, _ in words], [0.25, 0.1, 0.05], rtol=1e-5)
    words, _ = _next_words(prefill_of([0.1, 0.6, 0.25, 0.05]), (), np.array([0]), WORDS, 9)
    assert len(words) == 3  # all there are


def test_next_words_of_a_model_of_characters_leave_it_out():
    words, unknown = _next_words(prefill_of([0.1, 0.5, 0.2, 0.1, 0.1]), (), np.array([0]), CHARACTERS, 5)
    assert unknown == pytest.approx(0.5) and not any("<unk>" in word for _, word in words)
    assert words[0][1] in ("a", "b") and words[0][0] == pytest.approx(0.1 * 0.8, rel=1e-4)  # then no letter follows


def test_it_is_never_sampled():
    logits = _without_unknown(jnp.log(jnp.array([[0.01, 0.97, 0.01, 0.01]])), WORDS)
    step = lambda carry, token: (carry, logits)  # noqa: E731
    for settings in ({}, {"temperature": 0.0}, {"top_k": 1}):
        sampled = generate(step, (), logits, jax.random.key(0), 200, **settings)
        assert not (np.asarray(sampled) == WORDS.unknown).any()
    without = Vocabulary("word", ("\n", "sky"))
    assert _without_unknown(logits, without) is logits


def test_marks_of_other_scripts_continue_a_word():
    assert all(map(is_part_of_word, "aé7'_-िक्\u200d"))
    assert not any(map(is_part_of_word, " \n.,!<।"))
