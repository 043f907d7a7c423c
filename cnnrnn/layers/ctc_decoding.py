"""Decoding of CTC: from logits of frames to labels. See cnnrnn/layers/ctc.py.

Shapes: B examples, T frames, V classes with the blank, N labels at most, K prefixes in the beam.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.ctc import IMPOSSIBLE


class Transcripts(NamedTuple):
    """The likeliest label sequences of each example, the best first.

    Attributes:
      labels: [B, K, N] int32, after the last label blanks.
      lengths: [B, K], the number of labels.
      log_probs: [B, K], of the sequence, summed over the alignments that the beam has kept; -inf where there are fewer.
    """

    labels: jax.Array
    lengths: jax.Array
    log_probs: jax.Array


class _Beam(NamedTuple):
    """The prefixes of one example after some frames."""

    labels: jax.Array  # [K, N]
    lengths: jax.Array  # [K]
    blank: jax.Array  # [K] log-probability of the alignments that end with a blank
    label: jax.Array  # [K] of those that end with the last label

    @property
    def total(self) -> jax.Array:
        return jnp.logaddexp(self.blank, self.label)


def greedy_decode(logits: jax.Array, lengths: jax.Array, blank: int = 0) -> tuple[jax.Array, jax.Array]:
    """The labels of the likeliest class of each frame.

    >>> logits = jax.nn.one_hot(jnp.array([[1, 1, 0, 1, 2, 0]]), 3)
    >>> labels, lengths = greedy_decode(logits, jnp.array([6]))
    >>> labels[0, :3].tolist(), int(lengths[0])
    ([1, 1, 2], 3)

    Args:
      logits: [B, T, V].
      lengths: [B], the number of frames.
      blank: the class of the blank.

    Returns:
      The labels [B, T], blanks after the last one, and their number [B].
    """
    classes = jnp.argmax(logits, -1)  # [B, T]
    previous = jnp.pad(classes, ((0, 0), (1, 0)), constant_values=blank)[:, :-1]
    is_label = (classes != blank) & (classes != previous) & (jnp.arange(classes.shape[1]) < lengths[:, None])
    position = jnp.where(is_label, jnp.cumsum(is_label, 1) - 1, classes.shape[1])  # outside: not written
    rows = jnp.arange(len(classes))[:, None]
    labels = jnp.full_like(classes, blank).at[rows, position].set(classes, mode="drop")
    return labels, is_label.sum(1)


def prefix_beam_search(
    logits: jax.Array, lengths: jax.Array, *, beam_size: int, max_labels: int, blank: int = 0
) -> Transcripts:
    """The likeliest label sequences, whose probability is a sum over alignments.

    After each frame the K likeliest prefixes are kept. Alignments of one prefix are merged, so that all K differ. With
    a beam that holds every prefix the log-probabilities are exact.

    Source: Graves 2012, section 7.5; Hannun, Maas, Jurafsky, Ng 2014, algorithm 1, without a language model.

    Args:
      logits: [B, T, V].
      lengths: [B], the number of frames.
      beam_size: K.
      max_labels: N; a longer sequence is not found.
      blank: the class of the blank.
    """

    def search(log_probs, length):  # of one example
        none = jnp.full(beam_size, IMPOSSIBLE)
        empty = jnp.full((beam_size, max_labels), blank, jnp.int32)
        start = _Beam(empty, jnp.zeros(beam_size, jnp.int32), none.at[0].set(0.0), none)

        def step(beam, row):
            frame, is_frame = row
            new = _advance(beam, frame, blank)
            return jax.tree.map(lambda new, old: jnp.where(is_frame, new, old), new, beam), None

        beam, _ = lax.scan(step, start, (log_probs, jnp.arange(len(log_probs)) < length))
        log_probs, best = lax.top_k(beam.total, beam_size)
        exists = log_probs > IMPOSSIBLE / 2
        labels = jnp.where(exists[:, None], beam.labels[best], blank)
        return Transcripts(labels, jnp.where(exists, beam.lengths[best], 0), jnp.where(exists, log_probs, -jnp.inf))

    return jax.vmap(search)(jax.nn.log_softmax(logits.astype(jnp.float32)), lengths)


def _advance(beam: _Beam, frame: jax.Array, blank: int) -> _Beam:
    """The beam after a frame with the log-probabilities [V] of the classes."""
    num_prefixes, max_labels = beam.labels.shape
    last = _last(beam)  # [K]
    ends = jnp.where(beam.lengths > 0, frame[last], IMPOSSIBLE)
    stays = _Beam(beam.labels, beam.lengths, beam.total + frame[blank], beam.label + ends)
    # extended by each class; a class that repeats the last label needs a blank before it
    is_repeat = (jnp.arange(len(frame)) == last[:, None]) & (beam.lengths > 0)[:, None]
    extended = jnp.where(is_repeat, beam.blank[:, None], beam.total[:, None]) + frame  # [K, V]
    is_allowed = (jnp.arange(len(frame)) != blank) & (beam.lengths < max_labels)[:, None]
    extended = jnp.where(is_allowed, extended, IMPOSSIBLE)
    # where prefix j is prefix k with one more label, the extension of k belongs to j
    is_parent = _is_parent(beam)  # [j, k]
    gained = jnp.where(is_parent, extended[:, last].T, IMPOSSIBLE)
    stays = stays._replace(label=jnp.logaddexp(stays.label, jax.nn.logsumexp(gained, 1)))
    is_merged = (is_parent[:, :, None] & (jnp.arange(len(frame)) == last[:, None, None])).any(0)  # [K, V]
    extended = jnp.where(is_merged, IMPOSSIBLE, extended)

    scores, best = lax.top_k(jnp.concatenate([stays.total, extended.reshape(-1)]), num_prefixes)
    is_new, (parent, added) = best >= num_prefixes, jnp.divmod(best - num_prefixes, len(frame))
    origin = jnp.where(is_new, parent, best)
    position = jnp.where(is_new, beam.lengths[origin], max_labels)  # outside: not written
    labels = beam.labels[origin].at[jnp.arange(num_prefixes), position].set(added, mode="drop")
    return _Beam(
        labels=labels,
        lengths=beam.lengths[origin] + is_new,
        blank=jnp.maximum(jnp.where(is_new, IMPOSSIBLE, stays.blank[origin]), IMPOSSIBLE),
        label=jnp.maximum(jnp.where(is_new, scores, stays.label[origin]), IMPOSSIBLE),
    )


def _last(beam: _Beam) -> jax.Array:
    """The last label [K] of each prefix; any class for the empty one."""
    return jnp.take_along_axis(beam.labels, jnp.maximum(beam.lengths - 1, 0)[:, None], 1)[:, 0]


def _is_parent(beam: _Beam) -> jax.Array:
    """[j, k]: whether prefix j is prefix k and one label more."""
    without_last = jnp.where(jnp.arange(beam.labels.shape[1]) < beam.lengths[:, None] - 1, beam.labels, -1)
    padded = jnp.where(jnp.arange(beam.labels.shape[1]) < beam.lengths[:, None], beam.labels, -1)
    same = (without_last[:, None] == padded).all(-1)
    exists = beam.total > IMPOSSIBLE / 2
    return same & (beam.lengths[:, None] == beam.lengths + 1) & exists[:, None] & exists
