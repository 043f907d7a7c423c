"""The loss of translation against NumPy, its scores, and a small net that learns to reverse words."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnrnn.metrics import Bleu, Chrf, compute, merge
from cnnrnn.models.seq2seq import Seq2Seq
from cnnrnn.tasks.translation import Translation

INFO = {
    "source": {"unit": "character", "tokens": ["\n", "a", "b"]},
    "target": {"unit": "whitespace", "tokens": ["\n", "A", "B", "C"]},
    "max_length": 6,
    "score": "error_rate",
    "lowercase": False,
}
BATCH = {
    "source": np.array([[1, 2, 0, 0], [2, 0, 0, 0], [1, 0, 0, 0]]),
    "source_length": np.array([3, 2, 2]),
    "target": np.array([[1, 3, 2, 0], [2, 0, 0, 0], [3, 3, 3, 3]]),
    "target_length": np.array([4, 2, 4]),
    "mask": np.array([1.0, 1.0, 0.0], np.float32),
}


def make(**changes):
    task = Translation(Seq2Seq(3, 4, hidden_size=5, embed_size=3), INFO, **changes)
    return task, task.init(jax.random.key(0), BATCH)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_that_of_each_token(smoothing):
    task, variables = make(label_smoothing=smoothing)
    for train in (False, True):
        outputs, _, _ = task.forward(variables, (), BATCH, train, jax.random.key(0))
        log_probs = np.asarray(jax.nn.log_softmax(outputs[0]))
        nats = []
        for row, column in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]:
            exact = -log_probs[row, column, BATCH["target"][row, column]]
            share = smoothing if train else 0.0
            nats.append((1 - share) * exact - share * log_probs[row, column].mean())
        sums = task.metrics(outputs, BATCH)
        assert float(sums["loss"].weight) == 6 and sums["loss"].compute() == pytest.approx(np.mean(nats), rel=1e-5)


def test_the_target_is_read_one_step_late():
    """What is predicted does not depend on the token itself, nor on those after it."""
    task, variables = make()
    changed = BATCH | {"target": BATCH["target"].copy()}
    changed["target"][0, 2] = 1
    first, second = (task.forward(variables, (), batch)[0][0] for batch in (BATCH, changed))
    np.testing.assert_array_equal(first[0, :3], second[0, :3])
    assert not np.allclose(first[0, 3], second[0, 3])


def test_padding_has_no_gradient():
    task, variables = make()

    def loss(variables, batch):
        return task.metrics(task.forward(variables, (), batch)[0], batch)["loss"].total

    filled = BATCH | {name: BATCH[name].copy() for name in ("source", "target")}
    filled["source"][1, 2:], filled["target"][1, 2:], filled["target"][2] = 2, 3, 0
    for one, other in zip(*(jax.tree.leaves(jax.grad(loss)(variables, b)) for b in (BATCH, filled)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_error_rates_take_the_nearest_reference():
    task, _ = make()
    predictions = np.array([[1, 2, 0, 0], [1, 1, 1, 0], [3, 0, 0, 0]])  # A B, A A A, C
    references = [("C C C", "A B"), ("A C",), ("C",)]
    sums = task.score(predictions, [{"references": some} for some in references])
    assert compute(sums) == pytest.approx({"phone_error_rate": 2 / 5, "word_error_rate": 1 / 3})


def test_error_rates_are_those_of_jiwer():
    jiwer = pytest.importorskip("jiwer")
    task, _ = make()
    predictions = np.random.default_rng(0).integers(0, 4, (30, 6))
    references = [" ".join(row) for row in np.array(["A", "B", "C"])[np.random.default_rng(1).integers(0, 3, (30, 5))]]
    texts = [task._target.decode(row) for row in predictions]
    scores = compute(task.score(predictions, [{"references": (one,)} for one in references]))
    assert scores["phone_error_rate"] == pytest.approx(jiwer.wer(references, texts))
    assert scores["word_error_rate"] == np.mean([a != b for a, b in zip(texts, references, strict=True)])


def test_bleu_and_chrf_are_sums_of_their_parts_and_sacrebleus():
    metrics = pytest.importorskip("sacrebleu.metrics")
    hypotheses = ["the dog sees a house.", "a cat", "they went to the old house", "no"]
    references = ["the dog sees the house.", "A cat sat there", "they went to an old house", "yes"]
    for lowercase in (False, True):
        parts = [
            {
                "bleu": Bleu.of(hypotheses[i : i + 2], references[i : i + 2], lowercase=lowercase),
                "chrf": Chrf.of(hypotheses[i : i + 2], references[i : i + 2], lowercase=lowercase),
            }
            for i in (0, 2)
        ]
        theirs = metrics.BLEU(lowercase=lowercase), metrics.CHRF(lowercase=lowercase)
        expected = [metric.corpus_score(hypotheses, [references]).score for metric in theirs]
        assert list(compute(merge(*parts)).values()) == pytest.approx(expected, abs=1e-9)
        assert 20 < min(expected) and max(expected) < 90
    task = Translation(make()[0].model, INFO | {"score": "bleu"})
    assert task.score(np.array([[1, 2, 0, 0]]), [{"references": ("A B C",)}])["bleu"].statistics[:2].tolist() == [2, 3]
    assert "case:mixed" in task.signatures["bleu"] and "tok:13a" in task.signatures["bleu"]
    assert set(task.signatures) == {"bleu", "chrf"} and not make()[0].signatures


def test_tokenized_sentences_are_not_tokenized_again():
    model = make()[0].model
    with pytest.raises(
        ValueError, match="the targets are tokenized: they end in ' .' - set task.bleu_tokenize to none"
    ):
        Translation(model, INFO | {"is_tokenized": True})
    Translation(model, INFO | {"is_tokenized": True}, bleu_tokenize="none")


def test_it_learns_one_batch():
    """One batch, overfitted; the search then finds every target, with the log-probability of a forced decode."""
    task, variables = make(beam_size=2)
    batch, tx = BATCH, optax.adam(0.05)

    def mean_loss(variables):
        total, weight = task.metrics(task.forward(variables, (), batch)[0], batch)["loss"]
        return total / weight

    @jax.jit
    def step(variables, state):
        value, grads = jax.value_and_grad(mean_loss)(variables)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(variables, updates), state, value

    state = tx.init(variables)
    for _ in range(150):
        variables, state, value = step(variables, state)
    assert value < 0.05
    found = jax.device_get(
        jax.jit(task.search, static_argnums=3)(variables, batch["source"], batch["source_length"], 2)
    )
    for row in (0, 1):
        length = batch["target_length"][row]
        assert found.tokens[row, 0, :length].tolist() == batch["target"][row, :length].tolist()
        log_probs = jax.nn.log_softmax(task.forward(variables, (), batch)[0][0][row])
        forced = sum(float(log_probs[t, batch["target"][row, t]]) for t in range(length))
        assert found.log_probs[row, 0] == pytest.approx(forced, abs=1e-5)
    assert jnp.array_equal(task.decode(variables, batch), found.tokens[:, 0])
