"""The loss of speech recognition against the CTC of its frames, its scores, and a small net that learns four sounds."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnrnn.layers.augmentation import spec_augment
from cnnrnn.layers.ctc import ctc_loss
from cnnrnn.metrics import compute
from cnnrnn.models.bilstm_ctc import BiLstmCtc
from cnnrnn.tasks.speech import Speech
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import train_step, train_steps

INFO = {"sample_rate": 8000, "labels": ["<blank>", "low", "high", "noise"], "unit": "phone"}
SOUNDS = {1: 300.0, 2: 1500.0}


def sound(labels, rng, size=800):
    """A tenth of a second of a tone or of noise for each label."""
    time = np.arange(size) / INFO["sample_rate"]
    parts = [rng.normal(size=size) if label == 3 else np.sin(2 * np.pi * SOUNDS[label] * time) for label in labels]
    return (8000 * np.concatenate(parts)).astype(np.int16)


def make_batch(count=6, seed=0, mask=None):
    rng = np.random.default_rng(seed)
    transcripts = [rng.permutation(3)[: 1 + n % 3] + 1 for n in range(count)]
    samples, labels = np.zeros((count, 2600), np.int16), np.zeros((count, 4), np.int32)
    for row, one in enumerate(transcripts):
        made = sound(one, rng)
        samples[row, : len(made)], labels[row, : len(one)] = made, one
    lengths = np.array([len(one) for one in transcripts], np.int32)
    return {
        "samples": samples,
        "length": 800 * lengths,
        "labels": labels,
        "label_length": lengths,
        "mask": np.ones(count, np.float32) if mask is None else np.asarray(mask, np.float32),
    }


def make(model=None, **settings):
    return Speech(BiLstmCtc(4, hidden_size=8, num_layers=1, **(model or {})), INFO, num_mels=12, **settings)


@pytest.mark.parametrize("settings", [{}, {"stack": 2}, {"num_cepstra": 6}, {"normalization": "global"}])
def test_the_loss_is_the_ctc_of_each_label_and_frame(settings):
    task, batch = make(**settings), make_batch(mask=[1, 1, 0, 1, 1, 1])
    variables = task.init(jax.random.key(0), batch)
    (logits, counts), _, _ = task.forward(variables, (), batch)
    assert counts.tolist()[:2] == ([8, 18] if settings.get("stack", 1) == 1 else [4, 9])
    nats = ctc_loss(logits, counts, batch["labels"], batch["label_length"])
    real = batch["mask"] > 0
    values = compute(task.metrics((logits, counts), batch))
    total = float(nats[real].sum())
    assert values["loss"] == pytest.approx(total / batch["label_length"][real].sum(), rel=1e-5)
    assert values["loss_per_frame"] == pytest.approx(total / np.asarray(counts)[real].sum(), rel=1e-5)
    assert values["too_short"] == 0


def test_what_is_too_short_is_counted_and_has_no_gradient():
    task, batch = make(stack=4), make_batch(3)
    batch["labels"][0], batch["label_length"][0] = [1, 1, 2, 3], 4  # two frames, five needed
    variables = task.init(jax.random.key(0), batch)

    def loss(variables, batch):
        return task.metrics(task.forward(variables, (), batch)[0], batch)["loss"].total

    metrics = jax.jit(lambda v, b: task.metrics(task.forward(v, (), b)[0], b))(variables, batch)
    assert compute(metrics)["too_short"] == pytest.approx(1 / 3) and np.isfinite(float(metrics["loss"].total))
    without = {name: rows[1:] for name, rows in batch.items()}
    for one, other in zip(
        *(jax.tree.leaves(jax.jit(jax.grad(loss))(variables, b)) for b in (batch, without)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("model", [{}, {"conv_features": (3, 4)}])
def test_padding_changes_nothing(model):
    """More samples and labels of padding, whatever they are, in values and gradients."""
    task, batch = make(model), make_batch()
    variables = task.init(jax.random.key(0), batch)
    filled = batch | {
        "samples": np.pad(batch["samples"], ((0, 0), (0, 900)), constant_values=9999),
        "labels": np.pad(batch["labels"], ((0, 0), (0, 2)), constant_values=3),
    }
    for row in range(6):
        filled["samples"][row, batch["length"][row] :] = 7777

    def loss(variables, batch):
        return task.metrics(task.forward(variables, (), batch)[0], batch)["loss"].total

    (first, grads), (second, others) = (jax.jit(jax.value_and_grad(loss))(variables, b) for b in (batch, filled))
    assert float(first) == pytest.approx(float(second), rel=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-4), grads, others)


def test_it_learns_to_tell_sounds_apart():
    task, tx = make(beam_size=4, normalization="global"), optax.adam(0.03)
    batch = make_batch(12)
    state = init_state(task, tx, batch, seed=0)
    step = jax.jit(partial(train_step, task=task, tx=tx))
    for _ in range(250):
        state, metrics = step(state, batch)
    assert metrics["loss"].compute() < 0.1
    examples = [
        {"labels": batch["labels"][row, : batch["label_length"][row]], "name": f"{row}.wav"} for row in range(12)
    ]
    predictions = np.asarray(jax.jit(task.decode)(state.variables, batch))
    assert compute(task.score(predictions, examples)) == {"phone_error_rate": 0, "recording_error_rate": 0}
    text, shown = task.lines(predictions, examples)[1]
    assert text == " ".join(INFO["labels"][label] for label in examples[1]["labels"]) and shown.startswith("1.wav: ")


def test_scores_are_those_of_jiwer():
    jiwer = pytest.importorskip("jiwer")
    task, rng = make(), np.random.default_rng(0)
    predictions = rng.integers(0, 4, (20, 7))
    references = [rng.integers(1, 4, 5) for _ in range(20)]
    scores = compute(task.score(predictions, [{"labels": one} for one in references]))
    right = [" ".join(INFO["labels"][label] for label in one) for one in references]
    found = [task.text(one) for one in predictions]
    assert scores["phone_error_rate"] == pytest.approx(jiwer.wer(right, found))


def test_jit_equals_pmap():
    """With fewer recordings than devices in a batch; random masks are drawn by each device, so there are none."""
    task, tx = make(), optax.sgd(0.05)
    batches = [make_batch(6, seed=n, mask=np.arange(6) < 3 + n) for n in range(3)]
    finals = []
    for name in ("jit", "pmap"):
        devices = make_devices(name)
        run = devices.compile_train(partial(train_steps, task=task, tx=tx))
        padded = [devices.pad(batch) for batch in batches]
        state = devices.shard_state(jax.jit(partial(init_state, task, tx, seed=0))(padded[0]))
        for batch in padded:
            state, _ = run(state, devices.shard_batches(jax.tree.map(lambda x: x[None], batch)))
        finals.append(jax.device_get(state.params))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), *finals)


def test_masks_cover_stretches_of_time_and_bands():
    frames, lengths = jnp.ones((200, 30, 20)), jnp.concatenate([jnp.full(100, 30), jnp.full(100, 8)])
    masked = np.asarray(spec_augment(jax.random.key(0), frames, lengths, 1, 6, 1, 5))
    times, bands = (masked == 0).all(2), (masked == 0).all(1)  # [B, T], [B, M]
    assert set(times.sum(1)[:100]) == set(range(7)) and set(times.sum(1)[100:]) == set(range(5))
    assert set(bands.sum(1)) == set(range(6)) and not times[100:, 8:].any()
    assert ((masked == 0) == (times[:, :, None] | bands[:, None])).all()
    for row in times:  # each is one stretch
        assert (np.diff(np.flatnonzero(row)) == 1).all()
    again = spec_augment(jax.random.key(0), frames, lengths, 1, 6, 1, 5)
    np.testing.assert_array_equal(masked, again)
    np.testing.assert_array_equal(spec_augment(jax.random.key(0), frames, lengths, 0, 6, 0, 5), frames)
