"""Language modelling: the carry continues, and the perplexity of a text does not depend on batches and windows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnrnn.data.dataset import Dataset
from cnnrnn.data.text import TokenSource, make_dataset
from cnnrnn.data.tokens import Tokens
from cnnrnn.data.vocabulary import Vocabulary
from cnnrnn.metrics import split_steps
from cnnrnn.models.recurrent_lm import RecurrentLM
from cnnrnn.tasks.language_modelling import LanguageModelling
from cnnrnn.training.evaluate import Evaluator
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import train_steps

VOCABULARY = Vocabulary("character", tuple("abcdefg\n"))
MODEL = RecurrentLM(vocab_size=8, hidden_size=12, num_layers=2, init_scale=0.6)
TASK = LanguageModelling(MODEL)


def make_stream(batch_size, window, warmup=None, count=1003) -> Dataset:
    rng = np.random.default_rng(0)
    tokens = (np.cumsum(rng.integers(0, 3, count)) % 8).astype(np.int32)
    source = TokenSource(Tokens(tokens, rng.integers(1, 4, count, np.int32)), VOCABULARY)
    return make_dataset(source, batch_size, window, warmup)


@pytest.fixture(scope="module")
def variables():
    return MODEL.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))


def test_evaluation_is_that_of_the_whole_text_whatever_the_batches(variables):
    """Perplexity and bits are those of one unbroken reading, for any batch size and window, to 1e-4 of their value."""
    whole = make_stream(1, 1003, warmup=0)
    batch = whole.batch(0)
    assert batch["mask"].all()
    logits, _ = MODEL.apply(variables, batch["tokens"])
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    perplexity, bits = np.exp(nats.mean()), nats.sum() / np.log(2) / batch["characters"].sum()
    devices = make_devices("jit")
    for batch_size, window in ((4, 10), (16, 7), (32, 100)):
        values = Evaluator(TASK, devices)(variables, make_stream(batch_size, window, warmup=64))
        np.testing.assert_allclose(values["perplexity"], perplexity, rtol=1e-4)
        np.testing.assert_allclose(values["bits_per_character"], bits, rtol=1e-4)
        np.testing.assert_allclose(values["loss"], np.log(perplexity), rtol=1e-4)


@pytest.mark.parametrize("cell", ["gru", "lstm_1997"])
def test_one_row_reads_without_a_break_whatever_the_window(cell):
    """With a batch size of 1 nothing must be forgotten for the result to be that of the whole text."""
    model = RecurrentLM(vocab_size=8, cell=cell, hidden_size=12, num_layers=1, init_scale=0.6)
    task, devices = LanguageModelling(model), make_devices("jit")
    variables = model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    evaluate = Evaluator(task, devices)
    values = [evaluate(variables, make_stream(1, window, warmup=8, count=203))["perplexity"] for window in (7, 203)]
    np.testing.assert_allclose(*values, rtol=1e-4)


def run(parallel, steps=6):
    task = LanguageModelling(MODEL, activation_reg=2.0, temporal_activation_reg=1.0)
    tx, devices = optax.sgd(0.5), make_devices(parallel)
    step, stream = devices.compile_train(partial(train_steps, task=task, tx=tx)), make_stream(8, 9, count=300)
    state = devices.shard_state(jax.jit(partial(init_state, task, tx, seed=0))(stream.batch(0)))
    history = []
    for number in range(steps):
        batches = {name: rows[None] for name, rows in devices.pad(stream.batch(number)).items()}
        state, metrics = step(state, devices.shard_batches(batches))
        history.append(jax.device_get(metrics))
    return jax.device_get((state.params, state.carry)), history


def test_jit_equals_pmap_with_the_carry_continued_over_the_end_of_a_pass():
    (jit, jit_history), (pmap, pmap_history) = run("jit"), run("pmap")
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), jit, pmap)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), jit_history, pmap_history)
    assert jit_history[4]["loss"].weight < 72 == jit_history[0]["loss"].weight  # the fifth window ends the text


def test_a_reset_starts_from_zero_and_no_reset_continues(variables):
    batch = make_stream(2, 5).batch(1)
    carry = jax.tree.map(lambda zero: zero + 0.7, MODEL.init_carry(2))
    fresh, _ = MODEL.apply(variables, batch["tokens"])
    carried, _ = MODEL.apply(variables, batch["tokens"], carry)
    (logits, _), _, _ = TASK.forward(variables, carry, batch | {"reset": np.array([1.0, 0.0])})
    np.testing.assert_allclose(logits[0], fresh[0], atol=1e-6)
    np.testing.assert_allclose(logits[1], carried[1], atol=1e-6)
    assert np.abs(fresh[1] - carried[1]).max() > 1e-2


def test_regularization_is_added_to_the_training_loss_and_to_no_metric(variables):
    """AR and TAR against their equations, on a batch whose last step is padding."""
    batch = make_stream(2, 5).batch(0) | {"mask": np.array([[1, 1, 1, 1, 0]] * 2, np.float32)}
    _, sown = MODEL.apply(variables, batch["tokens"], mutable=["outputs"])
    outputs = np.asarray(sown["outputs"]["outputs"][0][0])[:, :4]
    changes = np.diff(outputs, axis=1, prepend=outputs[:, :1])  # the first is 0
    expected = 2.0 * (outputs**2).mean() + 3.0 * (changes**2).mean()
    plain, regularized = (
        LanguageModelling(MODEL, **fields) for fields in ({}, {"activation_reg": 2.0, "temporal_activation_reg": 3.0})
    )
    losses = []
    for task in (plain, regularized):
        result, _, _ = task.forward(variables, MODEL.init_carry(2), batch, train=True, key=jax.random.key(0))
        losses.append(task.metrics(result, batch))
    difference = losses[1]["loss"].compute() - losses[0]["loss"].compute()
    np.testing.assert_allclose(difference, expected, rtol=1e-5)
    assert losses[1]["perplexity"].compute() == pytest.approx(np.exp(losses[0]["loss"].compute()), rel=1e-6)


def test_a_text_is_overfitted():
    stream = make_stream(2, 20, count=40)
    task, tx = LanguageModelling(RecurrentLM(vocab_size=8, hidden_size=32, num_layers=1)), optax.adam(0.02)
    state = jax.jit(partial(init_state, task, tx, seed=0))(stream.batch(0))
    batches = jax.tree.map(lambda rows: np.stack([rows] * 150), stream.batch(0))
    _, metrics = jax.jit(partial(train_steps, task=task, tx=tx))(state, batches)
    assert split_steps(metrics)[-1]["loss"].compute() < 0.05


def test_its_report_draws_the_gates(tmp_path, variables):
    from PIL import Image

    from cnnrnn.reports import language_modelling

    language_modelling.draw(TASK, variables, make_stream(2, 5), tmp_path)
    assert Image.open(tmp_path / "gates.png").size[1] > 800
