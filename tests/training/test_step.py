"""The step: jit equals pmap, masks leave out, vmap trains many seeds, a batch can be overfitted."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import shapes_dataset

from cnnrnn.data.dataset import Dataset
from cnnrnn.data.sampling import BucketSampler
from cnnrnn.metrics import split_steps
from cnnrnn.models.batchnorm_net import BatchNormNet
from cnnrnn.models.convnet import ConvNet
from cnnrnn.models.recurrent_lm import RecurrentLM
from cnnrnn.models.seq2seq import Seq2Seq
from cnnrnn.tasks.classification import Classification
from cnnrnn.tasks.language_modelling import LanguageModelling
from cnnrnn.tasks.translation import Translation
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.state import init_state
from cnnrnn.training.step import eval_step, train_step, train_steps

TASK = Classification(ConvNet(num_classes=3, features=(4, 4, 4)))


class RunningSum(nn.Module):
    """The least recurrent net: the mean of the pixels is added to a sum that continues from batch to batch."""

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

    def init(self, key, batch):
        return self.model.init(key, (self.preprocess(batch["image"]), self.init_carry(len(batch["mask"]))))

    def forward(self, variables, carry, batch, train=False, key=None):
        outputs, carry = self.model.apply(variables, (self.preprocess(batch["image"]), carry), train=train)
        return outputs, jax.lax.stop_gradient(carry), {}


def train(parallel, tx, batches, task=TASK, together=1):
    """Parameters and the metrics of each step; then those of an evaluation of the first batch."""
    devices = make_devices(parallel)
    run = devices.compile_train(partial(train_steps, task=task, tx=tx))
    batches = [devices.pad(batch) for batch in batches]
    state = devices.shard_state(jax.jit(partial(init_state, task, tx, seed=0))(batches[0]))
    history = []
    for first in range(0, len(batches), together):
        several = jax.tree.map(lambda *rows: np.stack(rows), *batches[first : first + together])
        state, metrics = run(state, devices.shard_batches(several))
        history += split_steps(jax.device_get(metrics))
    evaluation = devices.compile_eval(partial(eval_step, task=task))
    _, metrics = evaluation(state.variables, jax.device_get(state.carry), devices.shard_batch(batches[0]))
    return jax.device_get(state.params), [*history, jax.device_get(metrics)]


def uneven_batches(count):
    """Batches of 10, no multiple of the four devices, with between 1 and 9 real examples at random rows."""
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
    images, labels = TASK.preprocess(batch["image"])[real], batch["label"][real]

    def mean_loss(params):
        logits = TASK.model.apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    expected = jax.tree.map(lambda p, g: p - g, state.params, jax.jit(jax.grad(mean_loss))(state.params))
    params, _ = train("jit", optax.sgd(1.0), [batch])
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), params, jax.device_get(expected))


def test_a_batch_is_overfitted():
    batch = shapes_dataset(batch_size=12).batch(0)
    _, history = train("jit", optax.adam(0.01), [batch] * 80)
    assert history[-2]["loss"].total / 12 < 0.02 and history[-2]["accuracy"].total == 12


def jitted(task, tx, batch):
    """A state and a compiled step on one device."""
    state = jax.jit(partial(init_state, task, tx, seed=0))(batch)
    return state, jax.jit(partial(train_step, task=task, tx=tx))


@pytest.mark.parametrize("task", [TASK, RecurrentTask(RunningSum())], ids=["independent", "carried"])
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_a_batch_of_weight_0_changes_nothing(task, parallel):
    """Neither parameters nor momentum, decay, carry; its metrics are 0; and the next batch trains on."""
    tx = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
    first, second = uneven_batches(2)
    empty = first | {"mask": np.zeros(10, np.float32)}
    plain, _ = train(parallel, tx, [first, second], task)
    with_empty, history = train(parallel, tx, [first, empty, second], task)
    jax.tree.map(np.testing.assert_array_equal, plain, with_empty)
    assert tuple(history[1]["loss"]) == (0, 0)


def test_running_statistics_do_not_see_a_batch_of_weight_0():
    (batch,) = uneven_batches(1)
    task = Classification(BatchNormNet(num_classes=3, features=(4,), hidden_size=4))
    state, step = jitted(task, optax.sgd(0.1), batch)
    new, _ = step(state, batch | {"mask": np.zeros(10, np.float32)})
    jax.tree.map(np.testing.assert_array_equal, new.model_state, state.model_state)
    assert new.step == 1 and new.model_state


def test_nan_in_padding_has_no_gradient():
    """Logits of padding that are NaN change neither the loss nor any parameter."""
    (batch,) = uneven_batches(1)

    @dataclasses.dataclass(frozen=True)
    class Poisoned(Classification):
        def forward(self, variables, carry, batch, train=False, key=None):
            outputs, carry, mutated = super().forward(variables, carry, batch, train, key)
            return jnp.where(batch["mask"][:, None] > 0, outputs, jnp.nan), carry, mutated

    (state, step), (_, poisoned_step) = (
        jitted(kind(TASK.model), optax.sgd(0.1), batch) for kind in (type(TASK), Poisoned)
    )
    (plain, metrics), (poisoned, poisoned_metrics) = step(state, batch), poisoned_step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, (plain.params, metrics), (poisoned.params, poisoned_metrics))


def test_vmap_trains_many_seeds_of_an_lstm_at_once():
    """8 seeds of a language model over 20 steps, in one program, equal 8 runs."""
    task = LanguageModelling(RecurrentLM(vocab_size=5, hidden_size=6, num_layers=2, output_dropout_rate=0.2))
    tx, rng = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.3, momentum=0.9)), np.random.default_rng(0)
    tokens = rng.integers(0, 5, (20, 3, 8)).astype(np.int32)
    ones = np.ones(tokens.shape, np.float32)
    reset = np.zeros((20, 3), np.float32)
    batches = {"tokens": tokens[..., :-1], "targets": tokens[..., 1:], "mask": ones[..., 1:]}
    batches |= {"characters": ones[..., 1:], "reset": reset}
    first = jax.tree.map(lambda x: x[0], batches)

    def run(seed):
        return train_steps(init_state(task, tx, first, seed), batches, task=task, tx=tx)

    together, metrics = jax.jit(jax.vmap(run))(jnp.arange(8))
    one = jax.jit(run)
    for seed in range(8):
        alone, alone_metrics = one(seed)
        at = lambda tree, seed=seed: jax.tree.map(lambda x: x[seed], tree)  # noqa: E731
        jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-5), at(together.params), alone.params)
        np.testing.assert_allclose(at(metrics)["loss"].total, alone_metrics["loss"].total, rtol=1e-5)


def test_jit_equals_pmap_on_buckets_of_different_lengths():
    """Sequences of two padded lengths, with masks as uneven as the buckets make them."""
    lengths = np.random.default_rng(0).integers(1, 7, 43)
    sampler = BucketSampler(lengths, 6, (3, 6), seed=1)
    dataset = Dataset(Sequences(lengths), sampler, dims={}, info={})
    batches = [dataset.batch(step) for step in range(2 * sampler.num_batches)]
    assert {batch["image"].shape[1] for batch in batches} == {3, 6}
    assert {int(batch["mask"].sum()) for batch in batches} > {6}
    (params, history), (params_pmap, history_pmap) = (
        train(name, optax.sgd(0.1), batches, Classification(Bag())) for name in ("jit", "pmap")
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), params, params_pmap)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), history, history_pmap)


class Bag(nn.Module):
    """The mean of a sequence of pixels, then a dense layer."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3, name="dense")(nn.tanh(nn.Dense(4, name="hidden")(x)).mean((1, 2)))


class Sequences:
    """Columns of pixels of different lengths."""

    fingerprint = 0

    def __init__(self, lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (self.lengths[index], 1, 1)).astype(np.uint8)
        return {"image": image, "label": np.int32(index % 3)}


def test_jit_equals_pmap_in_translation():
    """Buckets of two lengths, with fewer pairs than devices in some."""
    info = {"source": {"unit": "character", "tokens": ["\n", "a", "b"]}, "max_length": 9}
    task = Translation(Seq2Seq(3, 3, hidden_size=4), info | {"target": info["source"]}, label_smoothing=0.1)
    rng, batches = np.random.default_rng(0), []
    for length, count in ((4, 3), (7, 6), (4, 5)):
        lengths = {name: rng.integers(2, length + 1, 6) for name in ("source_length", "target_length")}
        tokens = {name: rng.integers(1, 3, (6, length)).astype(np.int32) for name in ("source", "target")}
        batches.append(tokens | lengths | {"mask": (np.arange(6) < count).astype(np.float32)})
    (params, history), (params_pmap, history_pmap) = (
        train(name, optax.sgd(0.1), batches, task) for name in ("jit", "pmap")
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0, atol=1e-6), params, params_pmap)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-5), history, history_pmap)
