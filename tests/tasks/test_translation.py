"""The loss of translation against NumPy, its scores, and a small net that learns to reverse words."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnrnn.metrics import Bleu, compute, edit_distance, merge
from cnnrnn.models.seq2seq import Seq2Seq
from cnnrnn.tasks.translation import Translation

INFO = {
    "source": {"unit": "character", "tokens": ["\n", "a", "b"]},
    "target": {"unit": "token", "tokens": ["\n", "A", "B", "C"]},
    "max_length": 6,
    "score": "error_rate",
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


def test_bleu_is_the_sum_of_its_parts_and_sacrebleus():
    metrics = pytest.importorskip("sacrebleu.metrics")
    hypotheses = ["the dog sees a house.", "a cat", "they went to the old house", "no"]
    references = ["the dog sees the house.", "a cat sat there", "they went to an old house", "yes"]
    parts = [{"bleu": Bleu.of(hypotheses[i : i + 2], references[i : i + 2])} for i in (0, 2)]
    expected = metrics.BLEU().corpus_score(hypotheses, [references]).score
    assert compute(merge(*parts))["bleu"] == pytest.approx(expected, abs=1e-9) and 20 < expected < 90
    task = Translation(make()[0].model, INFO | {"score": "bleu"})
    sums = task.score(np.array([[1, 2, 0, 0]]), [{"references": ("A B C",)}])
    assert sums["bleu"].length == 2 and sums["bleu"].reference_length == 3


def test_edit_distance_of_nothing():
    assert edit_distance("", "abc") == 3 and edit_distance("abc", "") == 3 and edit_distance("ab", "ab") == 0


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
