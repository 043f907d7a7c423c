"""Times one workload of ours: python ours.py WORKLOAD step|forward|scan|ceiling float32|bf16 SECONDS [notune]."""

import json
import sys
from functools import partial

from workloads import Images, LanguageModel, Layer, time_calls, workload

from cnnrnn import runtime

if __name__ == "__main__" and sys.argv[5:] != ["notune"]:
    runtime.configure_process()  # before JAX

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnrnn.layers.convolution import Conv
from cnnrnn.layers.pooling import AvgPool
from cnnrnn.layers.precision import dot_general
from cnnrnn.layers.rnn.cells import CELLS
from cnnrnn.layers.rnn.layer import Recurrent, Stack
from cnnrnn.models.alexnet import AlexNet
from cnnrnn.models.lenet5 import LeNet5
from cnnrnn.models.recurrent_lm import RecurrentLM
from cnnrnn.optim.optimizer import make_optimizer
from cnnrnn.tasks.classification import Classification
from cnnrnn.tasks.language_modelling import LanguageModelling
from cnnrnn.training.state import init_state
from cnnrnn.training.step import train_step

STEPS = 10  # of a scan


class CNN(nn.Module):
    """Two 3 x 3 convolutions, 32 and 64 channels, each with mean pooling, and 256 units: Flax's first example."""

    num_classes: int
    precision: str

    @nn.compact
    def __call__(self, x, train=False):
        for features in (32, 64):
            x = AvgPool()(nn.relu(Conv(features, (3, 3), precision=self.precision)(x)))
        dense = partial(nn.Dense, dot_general=dot_general(self.precision))
        x = nn.relu(dense(256)(x.reshape(len(x), -1)))
        return dense(self.num_classes)(x)


NETS = {"lenet5": LeNet5, "cnn_32_64_256": CNN, "alexnet": AlexNet}


class Tagger(nn.Module):
    """Bidirectional LSTM layers and a linear one, [B, T, F] -> [B, T, K]."""

    workload: object
    precision: str

    @nn.compact
    def __call__(self, frames):
        layer = partial(Recurrent, direction="both", precision=self.precision)
        outputs, _ = Stack((self.workload.hidden_size,) * self.workload.num_layers, layer)(frames)
        return nn.Dense(self.workload.num_classes, dot_general=dot_general(self.precision))(outputs)


def prepare(w, precision):
    """The initial state, a step (state -> state, metrics) and a forward pass (state -> outputs)."""
    rng = np.random.default_rng(0)
    if isinstance(w, Images):
        batch = {
            "image": rng.integers(0, 256, (w.batch_size, *w.shape)).astype(np.uint8),
            "label": rng.integers(0, w.num_classes, w.batch_size).astype(np.int32),
            "mask": np.ones(w.batch_size, np.float32),
        }
        task = Classification(NETS[w.net](num_classes=w.num_classes, precision=precision))
        return of_task(task, make_optimizer(10**6, name="sgd", learning_rate=0.01, momentum=0.9), batch)
    if isinstance(w, Layer):
        x = rng.normal(size=(w.batch_size, w.num_steps, w.hidden_size)).astype(np.float32)
        layer = Recurrent(w.hidden_size, CELLS[w.cell], precision=precision)
        lengths = jnp.array(w.lengths) if w.has_lengths else None
        state = jax.jit(layer.init)(jax.random.key(0), x), jnp.asarray(x)
        forward = lambda state: layer.apply(*state, lengths=lengths)[0]  # noqa: E731

        def step(state):
            grads = jax.grad(lambda state: forward(state).sum())(state)
            return (state[0], state[1] - 1e-9 * grads[1]), grads  # no step of a scan may equal the one before it

        return state, step, forward
    if isinstance(w, LanguageModel):
        tokens = rng.integers(0, w.vocab_size, (2, w.batch_size, w.num_steps)).astype(np.int32)
        ones = np.ones(tokens.shape[1:], np.float32)
        batch = {"tokens": tokens[0], "targets": tokens[1], "characters": ones, "mask": ones}
        batch["reset"] = np.zeros(w.batch_size, np.float32)
        rates = dict.fromkeys(("input_dropout_rate", "layer_dropout_rate", "output_dropout_rate"), w.dropout_rate)
        model = RecurrentLM(
            w.vocab_size, hidden_size=w.hidden_size, num_layers=w.num_layers, precision=precision, **rates
        )
        tx = make_optimizer(10**6, name="sgd", learning_rate=1.0, clip_norm=w.clip_norm)
        return of_task(LanguageModelling(model), tx, batch)
    frames = rng.normal(size=(w.batch_size, w.num_steps, w.num_features)).astype(np.float32)
    labels = rng.integers(1, w.num_classes, (w.batch_size, w.label_length))
    model, tx = Tagger(w, precision), optax.sgd(0.01, momentum=0.9)
    params = jax.jit(model.init)(jax.random.key(0), frames)

    def loss(params, frames, labels):
        logits = model.apply(params, frames)
        return optax.ctc_loss(logits, jnp.zeros(logits.shape[:2]), labels, jnp.zeros(labels.shape)).mean()

    def step(state):
        params, opt_state, *batch = state
        updates, opt_state = tx.update(jax.grad(loss)(params, *batch), opt_state)
        return (optax.apply_updates(params, updates), opt_state, *batch), ()

    return (params, tx.init(params), frames, labels), step, lambda state: model.apply(state[0], state[2])


def of_task(task, tx, batch):
    """The training step of the library. The batch is a part of the state, so that it is no constant of the program."""

    def step(pair):
        state, metrics = train_step(*pair, task=task, tx=tx)
        return (state, pair[1]), metrics

    forward = lambda pair: task.forward(pair[0].variables, pair[0].carry, pair[1])[0]  # noqa: E731
    return (jax.jit(partial(init_state, task, tx, seed=0))(batch), batch), step, forward


def ceiling(precision):
    """A product of 2048 x 2048 matrices, 17.2 GFLOP."""
    a = jnp.ones((2048, 2048), jnp.bfloat16 if precision == "bf16" else jnp.float32)
    return jax.jit(lambda: jnp.dot(a, a, preferred_element_type=jnp.float32))


def main(name: str, what: str, precision: str, seconds: float) -> None:
    """Prints the median time and the peak memory.

    Args:
      name: of the workload.
      what: "step", "forward", "scan" (a tenth of ten steps in one program) or "ceiling" (one large product).
      precision: "float32" or "bf16".
      seconds: of timed calls.
    """
    if what == "ceiling":
        print(json.dumps(time_calls(ceiling(precision), jax.block_until_ready, seconds)))
        return
    state, step, forward = prepare(workload(name), precision)
    if what == "forward":
        run = partial(jax.jit(forward), state)
    else:
        once = step
        if what == "scan":
            step = lambda state: jax.lax.scan(lambda s, _: once(s), state, length=STEPS)  # noqa: E731
        compiled, box = jax.jit(step, donate_argnums=0), [jax.tree.map(jnp.array, state)]

        def run():
            box[0], metrics = compiled(box[0])
            return box[0], metrics

    result = time_calls(run, jax.block_until_ready, seconds)
    result["ms"] /= STEPS if what == "scan" else 1
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:4], float(sys.argv[4]))
