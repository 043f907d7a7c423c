"""Decoding of CTC against brute force over all alignments."""

import itertools
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.layers.ctc import ctc_loss
from cnnrnn.layers.ctc_decoding import greedy_decode, prefix_beam_search


def collapse(alignment, blank=0):
    merged = [label for label, _ in itertools.groupby(alignment)]
    return tuple(label for label in merged if label != blank)


def brute_force(logits, blank=0):
    """{labels: log-probability} over all alignments of the frames [T, V]."""
    log_probs, found = np.asarray(jax.nn.log_softmax(logits)), defaultdict(lambda: -np.inf)
    for alignment in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        score = sum(log_probs[t, label] for t, label in enumerate(alignment))
        labels = collapse(alignment, blank)
        found[labels] = np.logaddexp(found[labels], score)
    return found


def random_logits(seed, *shape):
    return jnp.asarray(2 * np.random.default_rng(seed).normal(size=shape), jnp.float32)


def results(transcripts, row):
    rows = zip(transcripts.labels[row], transcripts.lengths[row], transcripts.log_probs[row], strict=True)
    return {tuple(labels[:length].tolist()): float(score) for labels, length, score in rows if np.isfinite(score)}


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_what_brute_force_finds(seed, blank):
    """Every label sequence of 5 frames, in order, with its exact probability; they sum to 1."""
    logits = random_logits(seed, 2, 6, 3)
    found = jax.jit(lambda x, n: prefix_beam_search(x, n, beam_size=70, max_labels=6, blank=blank))(
        logits, jnp.array([5, 4])
    )
    for row, length in enumerate((5, 4)):
        expected = brute_force(np.asarray(logits[row, :length]), blank)
        got = results(found, row)
        assert got.keys() == expected.keys() and len(got) > 10
        assert got == pytest.approx(expected, abs=1e-5)
        assert [*got.values()] == sorted(got.values(), reverse=True)
        assert np.logaddexp.reduce([*got.values()]) == pytest.approx(0, abs=1e-5)


def test_the_log_probability_approaches_that_of_the_loss():
    """A narrow beam drops alignments of what it finds, so that its sum is too small, and a wider one drops fewer."""
    logits, lengths, gaps = random_logits(5, 3, 30, 6), jnp.array([30, 22, 17]), []
    for beam_size in (3, 30, 300):
        found = prefix_beam_search(logits, lengths, beam_size=beam_size, max_labels=30)
        loss = ctc_loss(logits, lengths, found.labels[:, 0], found.lengths[:, 0])
        gaps.append(np.asarray(-loss - found.log_probs[:, 0]))
    assert (gaps[0] > gaps[1]).all() and (gaps[1] > gaps[2]).all() and (gaps[2] > -1e-4).all()


@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_a_narrow_beam_has_different_sequences(beam_size):
    logits, lengths = random_logits(1, 4, 25, 5), jnp.array([25, 20, 1, 7])
    found = prefix_beam_search(logits, lengths, beam_size=beam_size, max_labels=25)
    for row in range(4):
        got = results(found, row)
        assert len(got) == min(beam_size, 5) and [*got.values()] == sorted(got.values(), reverse=True)
    filled = jnp.where(jnp.arange(29)[:, None] < lengths[:, None, None], jnp.pad(logits, ((0, 0), (0, 4), (0, 0))), 9e3)
    again = prefix_beam_search(filled, lengths, beam_size=beam_size, max_labels=25)
    jax.tree.map(np.testing.assert_array_equal, found, again)


def test_no_more_labels_than_there_is_room_for():
    logits = 20 * jax.nn.one_hot(jnp.array([[1, 2, 1, 2, 1]]), 3)
    found = prefix_beam_search(logits, jnp.array([5]), beam_size=4, max_labels=2)
    assert found.lengths.max() == 2 and found.log_probs[0, 0] < -10


def test_greedy_is_the_collapsed_best_path():
    logits, lengths = random_logits(3, 5, 12, 4), np.array([12, 11, 5, 1, 0])
    labels, counts = jax.jit(greedy_decode)(logits, lengths)
    for row, length in enumerate(lengths):
        expected = collapse(np.asarray(logits[row, :length]).argmax(-1))
        assert tuple(labels[row, : counts[row]].tolist()) == expected and not labels[row, counts[row] :].any()


def test_it_composes_with_vmap():
    logits, lengths = random_logits(4, 2, 3, 6, 3), jnp.array([[6, 5, 3], [2, 6, 1]])
    search = lambda x, n: prefix_beam_search(x, n, beam_size=3, max_labels=6)  # noqa: E731
    together, second = jax.vmap(search)(logits, lengths), search(logits[1], lengths[1])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1], y, rtol=1e-6), together, second)
