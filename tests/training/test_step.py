"""The step: jit equals pmap, a mask leaves out, a batch can be learnt by heart."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import shapes_dataset

from cnnrnn.metrics import split
from cnnrnn.models.convnet import ConvNet
from cnnrnn.tasks.classification import Classification
from cnnrnn.training.parallel import fill_batch, make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import eval_step, train_steps

TASK = Classification(ConvNet(num_classes=3, features=(4, 4, 4)))


class RunningSum(nn.Module):
    """The least recurrent net: the mean of the pixels joins a sum that goes on from batch to batch."""

    @nn.compact
    def __call__(self, x, train=False):
        images, total = x
        total = total + nn.Dense(3, name="dense")(images.mean((1, 2)))
        return total, total


@dataclasses.dataclass(frozen=True)
class RecurrentTask(Classification):
    """A task with a carry [B, 3]."""

    def init_carry(self, batch_size):
        return jnp.zeros((batch_size, 3))

    def inputs(self, batch):
        return ((*super().inputs(batch), self.init_carry(len(batch["mask"]))),)

    def forward(self, variables, carry, batch, *, train=False, key=None):
        outputs, carry = self.model.apply(variables, (*super().inputs(batch), carry), train=train)
        return outputs, jax.lax.stop_gradient(carry), {}


def train(parallel, tx, batches, task=TASK, together=1):
    """Parameters and the metrics of each step; then those of an evaluation of the first batch."""
    devices = make_devices(parallel)
    run = devices.compile_train(partial(train_steps, task=task, tx=tx))
    batches = [devices.fill(batch) for batch in batches]
    state = devices.put_state(jax.jit(partial(init_state, task, tx, seed=0))(batches[0]))
    history = []
    for first in range(0, len(batches), together):
        several = jax.tree.map(lambda *rows: np.stack(rows), *batches[first : first + together])
        state, metrics = run(state, devices.put_batches(several))
        history += split(jax.device_get(metrics))
    evaluation = devices.compile_eval(partial(eval_step, task=task))
    _, metrics = evaluation(state.variables, jax.device_get(state.carry), devices.put_batch(batches[0]))
    return jax.device_get(state.params), [*history, jax.device_get(metrics)]


def uneven_batches(count):
    """Batches of 10, no multiple of the four devices, with between 1 and 9 real examples in no order."""
    data, rng = shapes_dataset(batch_size=10), np.random.default_rng(0)
    return [
        data.batch(step) | {"mask": (rng.permutation(10) < 1 + 2 * step).astype(np.float32)} for step in range(count)
    ]


def test_four_devices_are_there():
    assert jax.device_count() == 4


@pytest.mark.parametrize("task", [TASK, RecurrentTask(RunningSum())], ids=["independent", "carried"])
def test_jit_equals_pmap_in_plain_sgd_with_uneven_masks(task):
    batches = uneven_batches(5)
    (params, history), (params_pmap, history_pmap) = (
        train(name, optax.sgd(0.1), batches, task) for name in ("jit", "pmap")
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), params, params_pmap)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), history, history_pmap)
    assert [metrics["loss"].weight for metrics in history] == [1, 3, 5, 7, 9, 1]


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_several_steps_in_one_program_are_the_same_steps(parallel):
    batches = uneven_batches(4)
    (params, history), (params_one, history_one) = (
        train(parallel, optax.sgd(0.1), batches, together=together) for together in (4, 1)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), params, params_one)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), history, history_one)


def test_a_step_is_the_gradient_of_the_mean_over_real_examples():
    (batch,) = uneven_batches(2)[1:]
    state = jax.jit(partial(init_state, TASK, optax.sgd(1.0), seed=0))(batch)
    real = batch["mask"] == 1
    images, labels = TASK.inputs(batch)[0][real], batch["label"][real]

    def mean_loss(params):
        logits = TASK.model.apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    expected = jax.tree.map(lambda p, g: p - g, state.params, jax.jit(jax.grad(mean_loss))(state.params))
    params, _ = train("jit", optax.sgd(1.0), [batch])
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), params, jax.device_get(expected))


def test_a_batch_is_learnt_by_heart():
    batch = shapes_dataset(batch_size=12).batch(0)
    _, history = train("jit", optax.adam(0.01), [batch] * 80)
    assert history[-2]["loss"].total / 12 < 0.02 and history[-2]["accuracy"].total == 12


def test_fill_batch_masks_what_it_adds():
    filled = fill_batch({"x": np.ones((5, 2)), "mask": np.ones(5, np.float32)}, 4)
    assert filled["x"].shape == (8, 2) and filled["mask"].tolist() == [1] * 5 + [0] * 3
