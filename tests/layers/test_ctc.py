"""CTC against brute force over all alignments and against optax; padding, impossible samples, and transformations."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnrnn.layers.ctc import IMPOSSIBLE, ctc_align, ctc_loss, ctc_posteriors, min_frames


def collapse(alignment, blank=0):
    """The labels of an alignment: repeats are merged, then blanks removed."""
    merged = [label for label, _ in itertools.groupby(alignment)]
    return tuple(label for label in merged if label != blank)


def alignments(num_frames, num_classes, labels):
    return [a for a in itertools.product(range(num_classes), repeat=num_frames) if collapse(a) == tuple(labels)]


def log_probs_of(logits, found):
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    return np.array([sum(log_probs[t, label] for t, label in enumerate(a)) for a in found])


CASES = [
    (1, ()),
    (1, (1,)),
    (4, ()),
    (4, (2,)),
    (4, (1, 2)),
    (5, (1, 1)),
    (5, (2, 1, 2)),
    (5, (1, 1, 2)),
    (5, (1, 1, 1)),
]


def example(num_frames, labels, seed=0):
    """One example in padding that holds anything: 2 more frames, 1 more label."""
    logits = 2 * np.random.default_rng(seed).normal(size=(1, num_frames + 2, 3)).astype(np.float32)
    return jnp.asarray(logits), jnp.array([num_frames]), jnp.array([[*labels, 2]]), jnp.array([len(labels)])


@pytest.mark.parametrize(("num_frames", "labels"), CASES)
def test_the_loss_is_brute_force(num_frames, labels):
    args = example(num_frames, labels)
    scores = log_probs_of(args[0][0], alignments(num_frames, 3, labels))
    loss = float(jax.jit(ctc_loss)(*args)[0])
    assert loss == pytest.approx(-np.logaddexp.reduce(scores), abs=1e-5)
    states, best = ctc_align(*args)
    assert float(best[0]) == pytest.approx(scores.max(), abs=1e-5)
    classes = [labels[state // 2] if state % 2 else 0 for state in np.asarray(states[0, :num_frames])]
    assert collapse(classes) == tuple(labels) and not states[0, num_frames:].any()
    assert log_probs_of(args[0][0], [classes])[0] == pytest.approx(scores.max(), abs=1e-5)


@pytest.mark.parametrize(("num_frames", "labels"), CASES)
def test_posteriors_are_brute_force(num_frames, labels):
    args = example(num_frames, labels)
    found = alignments(num_frames, 3, labels)
    scores = log_probs_of(args[0][0], found)
    shares = np.exp(scores - np.logaddexp.reduce(scores))
    posteriors = np.asarray(ctc_posteriors(*args))[0]
    for t in range(num_frames):
        blank = sum(share for a, share in zip(found, shares, strict=True) if a[t] == 0)
        assert posteriors[t, ::2].sum() == pytest.approx(blank, abs=1e-5)
        assert posteriors[t].sum() == pytest.approx(1, abs=1e-5)
    assert not posteriors[num_frames:].any()


def batch(seed=0, size=12, num_frames=17, num_labels=6, num_classes=5):
    rng = np.random.default_rng(seed)
    label_lengths = rng.integers(0, num_labels + 1, size)
    return (
        jnp.asarray(3 * rng.normal(size=(size, num_frames, num_classes)), jnp.float32),
        jnp.asarray(rng.integers(13, num_frames + 1, size)),
        jnp.asarray(rng.integers(1, num_classes, (size, num_labels))),
        jnp.asarray(label_lengths),
    )


def test_the_loss_and_its_gradient_are_those_of_optax():
    logits, lengths, labels, label_lengths = batch()

    def theirs(logits):
        frame_padding = jnp.arange(logits.shape[1]) >= lengths[:, None]
        label_padding = jnp.arange(labels.shape[1]) >= label_lengths[:, None]
        return optax.ctc_loss(logits, frame_padding.astype(float), labels, label_padding.astype(float))

    ours = lambda logits: ctc_loss(logits, lengths, labels, label_lengths)  # noqa: E731
    np.testing.assert_allclose(ours(logits), theirs(logits), rtol=1e-4, atol=1e-4)
    weights = jnp.arange(1.0, 13.0)
    first, second = (jax.grad(lambda x, f=f: (weights * f(x)).sum())(logits) for f in (ours, theirs))
    np.testing.assert_allclose(first, second, atol=1e-3)
    np.testing.assert_allclose(first.sum(-1), 0, atol=1e-4)
    assert not first[np.arange(17) >= np.asarray(lengths)[:, None]].any()


def test_padding_changes_nothing():
    logits, lengths, labels, label_lengths = batch()
    rng = np.random.default_rng(1)
    longer = jnp.concatenate([logits, jnp.asarray(rng.normal(size=(12, 4, 5)), jnp.float32)], 1)
    filled = jnp.where(jnp.arange(21)[:, None] < lengths[:, None, None], longer, 1e4)
    more = jnp.concatenate([labels, jnp.full((12, 3), 4)], 1)
    mask = jnp.arange(9) < label_lengths[:, None]
    changed = filled, lengths, jnp.where(mask, more, 2), label_lengths
    np.testing.assert_allclose(ctc_loss(*changed), ctc_loss(logits, lengths, labels, label_lengths), rtol=1e-6)
    first, second = (
        jax.grad(lambda x, rest=args[1:]: ctc_loss(x, *rest).sum())(args[0])
        for args in ((logits, lengths, labels, label_lengths), changed)
    )
    np.testing.assert_allclose(second[:, :17], first, atol=1e-6)
    assert not second[:, 17:].any()


def test_what_is_impossible_has_no_gradient():
    """Three frames cannot hold 1 1 2, which takes a blank between the ones; four can."""
    labels, label_lengths = jnp.array([[1, 1, 2]] * 2), jnp.array([3, 3])
    logits, lengths = jnp.zeros((2, 4, 3)), jnp.array([3, 4])
    assert min_frames(labels, label_lengths).tolist() == [4, 4]
    assert min_frames(labels, jnp.array([1, 0])).tolist() == [1, 0]
    loss = ctc_loss(logits, lengths, labels, label_lengths)
    assert np.isinf(loss[0]) and loss[1] == pytest.approx(4 * np.log(3), abs=1e-5)
    masked = lambda x: jnp.where(jnp.isinf(y := ctc_loss(x, lengths, labels, label_lengths)), 0, y).sum()  # noqa: E731
    gradient = jax.grad(masked)(logits)
    assert not gradient[0].any() and jnp.isfinite(gradient).all() and gradient[1].any()
    assert ctc_align(logits, lengths, labels, label_lengths)[1][0] <= IMPOSSIBLE


def test_it_is_never_negative():
    """Where one alignment is certain, log-probabilities near 0 round."""
    labels = jnp.array([[1, 2, 1, 2]])
    classes = jnp.repeat(jnp.array([1, 2, 1, 2]), 100)
    for scale in (10.0, 30.0, 1e3, 1e5):
        loss = ctc_loss(scale * jax.nn.one_hot(classes, 3)[None], jnp.array([400]), labels, jnp.array([4]))
        assert 0 <= float(loss[0]) < 4000 / scale


def test_long_and_extreme_inputs_stay_finite():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(100 * rng.normal(size=(2, 2000, 40)), jnp.float32)
    labels = jnp.asarray(rng.integers(1, 40, (2, 80)))
    value, gradient = jax.value_and_grad(
        lambda x: ctc_loss(x, jnp.array([2000, 1500]), labels, jnp.array([80, 60])).sum()
    )(logits)
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()
    assert float(jnp.abs(gradient.sum(-1)).max()) < 1e-4


def test_it_composes():
    logits, lengths, labels, label_lengths = batch()
    together = ctc_loss(logits, lengths, labels, label_lengths)
    one = lambda *args: ctc_loss(*(x[None] for x in args))[0]  # noqa: E731
    np.testing.assert_allclose(jax.vmap(one)(logits, lengths, labels, label_lengths), together, rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: ctc_loss(x, lengths, labels, label_lengths).sum()))(logits)
    each = jax.vmap(jax.grad(one))(logits, lengths, labels, label_lengths)
    np.testing.assert_allclose(each, gradient, atol=1e-6)
    scanned = jax.lax.scan(lambda _, args: (None, one(*args)), None, (logits, lengths, labels, label_lengths))[1]
    np.testing.assert_allclose(scanned, together, rtol=1e-6)
    other_blank = ctc_loss(jnp.roll(logits, -1, -1), lengths, labels - 1, label_lengths, 4)
    np.testing.assert_allclose(other_blank, together, rtol=1e-6)
    low = ctc_loss(logits.astype(jnp.bfloat16), lengths, labels, label_lengths)
    np.testing.assert_allclose(low, together, rtol=0.1)
    assert partial(ctc_loss, blank=0)(logits, lengths, labels, label_lengths).dtype == jnp.float32
