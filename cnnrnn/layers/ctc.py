"""Connectionist temporal classification: the probability of labels, summed over all alignments with the frames.

Source: Graves, Fernandez, Gomez, Schmidhuber 2006, sections 3 and 4. An alignment has a label or a blank for each
frame. Its labels are what is left when repeats are merged and then blanks are removed.

Shapes: B examples, T frames, N labels, V classes with the blank; S = 2 N + 1 states of an example, which are blank,
label 1, blank, label 2, ..., label N, blank.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

IMPOSSIBLE = -1e30  # the logarithm of 0; -inf would give NaN where two of them are subtracted


class _Lattice(NamedTuple):
    """What the recursions over an example need.

    Attributes:
      emissions: [T, B, S], the log-probability of the class of each state.
      can_skip: [B, S], whether a state may follow the one two before it: different labels, without a blank between.
      is_last: [B, S], the states in which an alignment may end.
      is_state: [B, S], false in the padding of the labels.
      is_frame: [T, B], false in the padding of the frames.
    """

    emissions: jax.Array
    can_skip: jax.Array
    is_last: jax.Array
    is_state: jax.Array
    is_frame: jax.Array


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def ctc_loss(
    logits: jax.Array, lengths: jax.Array, labels: jax.Array, label_lengths: jax.Array, blank: int = 0
) -> jax.Array:
    """The negative log-probability [B] of labels, in nats; never below 0.

    It is inf if there are fewer frames than `min_frames`; the gradient is then 0. The gradient with respect to the
    logits is the softmax minus the posterior probabilities of the classes, so it sums to 0 in each frame.

    >>> logits, labels = jnp.zeros((1, 2, 3)), jnp.array([[1]])  # two frames, three equally likely classes
    >>> float(jnp.exp(-ctc_loss(logits, jnp.array([2]), labels, jnp.array([1]))[0]))  # "11", "_1", "1_": 3 of 9
    0.3333333432674408

    Args:
      logits: [B, T, V].
      lengths: [B], the number of frames; what follows is padding.
      labels: [B, N] int32, none of them blank.
      label_lengths: [B]; what follows is padding.
      blank: the class of the blank.
    """
    return _loss_and_residuals(logits, lengths, labels, label_lengths, blank)[0]


def min_frames(labels: jax.Array, label_lengths: jax.Array) -> jax.Array:
    """The smallest number of frames [B] that can hold labels [B, N]: one a label, and a blank within each repeat."""
    is_repeat = (labels[:, 1:] == labels[:, :-1]) & (jnp.arange(1, labels.shape[1]) < label_lengths[:, None])
    return label_lengths + is_repeat.sum(1)


def ctc_posteriors(
    logits: jax.Array, lengths: jax.Array, labels: jax.Array, label_lengths: jax.Array, blank: int = 0
) -> jax.Array:
    """The probabilities [B, T, S] of the states in each frame, given the labels; 0 in padding.

    The arguments are those of `ctc_loss`.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    lattice = _make_lattice(log_probs, lengths, labels, label_lengths, blank)
    return _posteriors(lattice, _forward(lattice, _log_sum))


def ctc_align(
    logits: jax.Array, lengths: jax.Array, labels: jax.Array, label_lengths: jax.Array, blank: int = 0
) -> tuple[jax.Array, jax.Array]:
    """Forced alignment: the likeliest of all alignments of the labels.

    The arguments are those of `ctc_loss`.

    Returns:
      The states [B, T], 2 n + 1 for label n and an even number for a blank, 0 in padding; and the log-probability [B]
      of the alignment, at most `IMPOSSIBLE` if there is none.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    lattice = _make_lattice(log_probs, lengths, labels, label_lengths, blank)
    scores = _forward(lattice, jnp.max)  # [T, B, S], of the likeliest alignment up to a frame and state

    def back(state, row):  # the state of a frame, from that of the frame after it
        scores, after_is_frame, is_frame = row
        previous = jnp.stack(_arrivals(scores, lattice.can_skip), -1)  # [B, S, 3]: stays, comes from one, two before
        steps = jnp.argmax(previous, -1)
        moved = state - jnp.take_along_axis(steps, state[:, None], 1)[:, 0]
        last = jnp.argmax(jnp.where(lattice.is_last, scores, -jnp.inf), -1)
        state = jnp.where(after_is_frame, moved, last)
        return state, jnp.where(is_frame, state, 0)

    after = jnp.concatenate([lattice.is_frame[1:], jnp.zeros_like(lattice.is_frame[:1])])
    start = jnp.zeros(len(labels), jnp.int32)
    _, states = lax.scan(back, start, (scores, after, lattice.is_frame), reverse=True)
    return states.T, _total(lattice, scores, jnp.max)


def _make_lattice(log_probs, lengths, labels, label_lengths, blank) -> _Lattice:
    batch_size, num_frames, _ = log_probs.shape
    classes = jnp.full((batch_size, 2 * labels.shape[1] + 1), blank, labels.dtype).at[:, 1::2].set(labels)  # [B, S]
    states = jnp.arange(classes.shape[1])
    emissions = jnp.take_along_axis(log_probs, classes[:, None], -1, mode="clip")  # [B, T, S]
    two_before = jnp.pad(classes, ((0, 0), (2, 0)))[:, :-2]
    return _Lattice(
        emissions=jnp.moveaxis(emissions, 1, 0),
        can_skip=(states >= 2) & (states % 2 == 1) & (classes != two_before),
        is_last=(states == 2 * label_lengths[:, None]) | (states == 2 * label_lengths[:, None] - 1),
        is_state=states <= 2 * label_lengths[:, None],
        is_frame=jnp.arange(num_frames)[:, None] < lengths,
    )


def _arrivals(scores: jax.Array, can_skip: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The scores [B, S] of the ways to arrive in each state: it stays, or comes from one or two states before."""
    one, two = (jnp.pad(scores, ((0, 0), (n, 0)), constant_values=IMPOSSIBLE)[:, :-n] for n in (1, 2))
    return scores, one, jnp.where(can_skip, two, IMPOSSIBLE)


def _departures(scores: jax.Array, can_skip: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The scores [B, S] of the ways to leave each state, to itself or to one or two states after."""
    skipped = jnp.where(can_skip, scores, IMPOSSIBLE)
    one = jnp.pad(scores, ((0, 0), (0, 1)), constant_values=IMPOSSIBLE)[:, 1:]
    two = jnp.pad(skipped, ((0, 0), (0, 2)), constant_values=IMPOSSIBLE)[:, 2:]
    return scores, one, two


def _log_sum(scores: jax.Array, axis: int) -> jax.Array:
    """logsumexp that keeps `IMPOSSIBLE`."""
    largest = jnp.max(scores, axis, keepdims=True)
    return (largest + jnp.log(jnp.sum(jnp.exp(scores - largest), axis, keepdims=True))).squeeze(axis)


def _forward(lattice: _Lattice, combine: Callable) -> jax.Array:
    """[T, B, S]: of all alignments that are in a state at a frame, the score of the frames up to it, combined.

    Source: equations 5 to 7. `combine` sums probabilities, or takes the largest.
    """
    is_start = (jnp.arange(lattice.is_state.shape[1]) < 2) & lattice.is_state
    first = jnp.where(is_start, lattice.emissions[0], IMPOSSIBLE)

    def step(scores, row):
        emissions, is_frame = row
        new = combine(jnp.stack(_arrivals(scores, lattice.can_skip)), axis=0) + emissions
        new = jnp.where(lattice.is_state, jnp.maximum(new, IMPOSSIBLE), IMPOSSIBLE)
        scores = jnp.where(is_frame[:, None], new, scores)
        return scores, scores

    _, rest = lax.scan(step, first, (lattice.emissions[1:], lattice.is_frame[1:]))
    return jnp.concatenate([first[None], rest])


def _backward(lattice: _Lattice) -> jax.Array:
    """[T, B, S]: of all alignments that are in a state at a frame, the score of the frames after it, summed.

    Source: equations 9 to 11, without the emission of the frame itself.
    """
    last = jnp.where(lattice.is_last, 0.0, IMPOSSIBLE)

    def step(scores, row):  # those of a frame, from those of the frame after it
        emissions, after_is_frame = row
        new = _log_sum(jnp.stack(_departures(scores + emissions, lattice.can_skip)), axis=0)
        scores = jnp.where(after_is_frame[:, None], jnp.maximum(new, IMPOSSIBLE), last)
        return scores, scores

    _, rest = lax.scan(step, last, (lattice.emissions[1:], lattice.is_frame[1:]), reverse=True)
    return jnp.concatenate([rest, last[None]])


def _total(lattice: _Lattice, forward: jax.Array, combine: Callable) -> jax.Array:
    """The combined score [B] of all alignments."""
    return combine(jnp.where(lattice.is_last, forward[-1], IMPOSSIBLE), axis=1)


def _posteriors(lattice: _Lattice, forward: jax.Array) -> jax.Array:
    total = _total(lattice, forward, _log_sum)[:, None]
    posteriors = jnp.exp(jnp.minimum(forward + _backward(lattice) - total, 0.0))  # [T, B, S]
    valid = lattice.is_frame[..., None] & lattice.is_state & (total > IMPOSSIBLE / 2)
    return jnp.moveaxis(jnp.where(valid, posteriors, 0.0), 0, 1)


def _loss_and_residuals(logits, lengths, labels, label_lengths, blank):
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    lattice = _make_lattice(log_probs, lengths, labels, label_lengths, blank)
    forward = _forward(lattice, _log_sum)
    total = _total(lattice, forward, _log_sum)
    loss = jnp.where(total > IMPOSSIBLE / 2, jnp.maximum(-total, 0.0), jnp.inf)
    return loss, (logits, labels, label_lengths, lattice, forward)


def _loss_bwd(blank, residuals, gradient):
    logits, labels, label_lengths, lattice, forward = residuals
    posteriors = _posteriors(lattice, forward)  # [B, T, S]
    is_label = jnp.arange(labels.shape[1]) < label_lengths[:, None]
    classes = jnp.where(is_label, labels, logits.shape[-1])  # one_hot gives 0 for padding
    expected = jnp.einsum("btn,bnv->btv", posteriors[..., 1::2], jax.nn.one_hot(classes, logits.shape[-1]))
    expected = expected.at[..., blank].add(posteriors[..., ::2].sum(-1))
    # posteriors sum to 1 in a frame, or to 0 in padding and where the labels are impossible
    softmax = jax.nn.softmax(logits.astype(jnp.float32)) * expected.sum(-1, keepdims=True)
    return ((softmax - expected) * gradient[:, None, None]).astype(logits.dtype), None, None, None


ctc_loss.defvjp(lambda *args: _loss_and_residuals(*args), _loss_bwd)
