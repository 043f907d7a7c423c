"""Evaluation counts every example once: metrics and scores do not depend on the batch size or the devices."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from conftest import shapes_dataset

from cnnrnn.data.dataset import Dataset
from cnnrnn.errors import DataError, NumericalError
from cnnrnn.metrics import Average, ErrorRate
from cnnrnn.models.convnet import ConvNet
from cnnrnn.tasks.classification import Classification
from cnnrnn.training.evaluate import Evaluator
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state

TASK = Classification(ConvNet(num_classes=3, features=(4, 4, 4)))


@pytest.fixture(scope="module")
def state():
    return jax.jit(partial(init_state, TASK, optax.sgd(1.0), seed=0))(shapes_dataset().batch(0))


def evaluate(state, batch_size, parallel="jit"):
    devices = make_devices(parallel)
    data = shapes_dataset(num_examples=301, batch_size=batch_size, seed=None)
    return Evaluator(TASK, devices)(devices.shard_state(state).variables, data)


def test_does_not_depend_on_the_batch_size(state):
    images = shapes_dataset(num_examples=301, batch_size=301, seed=None).batch(0)
    logits = np.asarray(TASK.forward({"params": state.params}, (), images)[0], np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = {
        "loss": -log_probabilities[range(301), images["label"]].mean(),
        "accuracy": (logits.argmax(1) == images["label"]).mean(),
    }
    for batch_size in (7, 128, 10_000):
        found = evaluate(state, batch_size)
        assert found == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}
    assert evaluate(state, 7, "pmap") == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}


def test_a_loss_that_is_not_finite_is_refused(state):
    broken = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
    with pytest.raises(NumericalError, match="the loss of the evaluation is nan"):
        evaluate(broken, 128)


class Scored(Classification):
    """Its score counts errors against names that no batch holds."""

    def decode(self, variables, batch):
        return {"class": super().decode(variables, batch).argmax(-1)}

    def score(self, predictions, examples):
        names = [self.info["class_names"][prediction] for prediction in predictions["class"]]
        wrong = [name != example["name"] for name, example in zip(names, examples, strict=True)]
        return {"name_error_rate": ErrorRate(float(sum(wrong)), float(len(wrong)))}


class Named:
    """The examples of a data set, with the name of their class."""

    def __init__(self, dataset):
        self.source, self.names, self.fingerprint = dataset.source, dataset.info["class_names"], 0

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        example = self.source[index]
        return example | {"name": self.names[example["label"]]}


def scored(state, batch_size, parallel, **how):
    data = shapes_dataset(num_examples=61, batch_size=batch_size, seed=None)
    task, devices = Scored(TASK.model, info=data.info), make_devices(parallel)
    named = Dataset(Named(data), data.sampler, dims=data.dims, info=data.info)
    return Evaluator(task, devices)(devices.shard_state(state).variables, named, **how)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_predictions_are_scored_against_the_source_exactly(state, parallel):
    for batch_size in (7, 61):
        values = scored(state, batch_size, parallel, with_score=True)
        assert values["name_error_rate"] == pytest.approx(1 - values["accuracy"], abs=1e-6)
    assert "name_error_rate" not in scored(state, 7, parallel)


def test_it_stops_between_batches_when_it_is_told_to(state):
    asked = iter([False, False, True])
    assert scored(state, 7, "jit", should_stop=lambda: next(asked)) is None


class Nothing(Classification):
    """No example counts."""

    def metrics(self, outputs, batch):
        return {name: Average(0 * a.total, 0 * a.weight) for name, a in super().metrics(outputs, batch).items()}


def test_a_split_without_a_single_target_is_refused(state):
    devices = make_devices("jit")
    with pytest.raises(DataError, match="no example of the split counts"):
        Evaluator(Nothing(TASK.model), devices)(devices.shard_state(state).variables, shapes_dataset(seed=None))
