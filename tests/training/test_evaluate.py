"""Evaluation counts every example once: the numbers do not depend on the batch size."""

from functools import partial

import jax
import numpy as np
import optax
import pytest
from conftest import shapes_dataset

from cnnrnn.errors import NumericalError
from cnnrnn.models.convnet import ConvNet
from cnnrnn.tasks.classification import Classification
from cnnrnn.training.evaluate import evaluate
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import eval_step

TASK = Classification(ConvNet(num_classes=3, features=(4, 4, 4)))


@pytest.fixture(scope="module")
def state():
    return jax.jit(partial(init_state, TASK, optax.sgd(1.0), seed=0))(shapes_dataset().batch(0))


def score(state, batch_size, parallel="jit"):
    devices = make_devices(parallel)
    step = devices.compile_eval(partial(eval_step, task=TASK))
    data = shapes_dataset(num_examples=301, batch_size=batch_size, seed=None)
    return evaluate(step, devices.put_state(state).variables, data, devices, TASK.init_carry)


def test_does_not_depend_on_the_batch_size(state):
    images = shapes_dataset(num_examples=301, batch_size=301, seed=None).batch(0)
    logits = np.asarray(TASK.forward({"params": state.params}, (), images)[0], np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = {
        "loss": -log_probabilities[range(301), images["label"]].mean(),
        "accuracy": (logits.argmax(1) == images["label"]).mean(),
    }
    for batch_size in (7, 128, 10_000):
        found = score(state, batch_size)
        assert found == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}
    assert score(state, 7, "pmap") == {name: pytest.approx(value, rel=1e-6) for name, value in expected.items()}


def test_a_loss_that_is_not_finite_is_refused(state):
    broken = state.replace(params=jax.tree.map(lambda x: x * np.nan, state.params))
    with pytest.raises(NumericalError, match="the loss of the evaluation is nan"):
        score(broken, 128)
