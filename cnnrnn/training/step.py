"""One training step and one evaluation step, written once for every task and every kind of parallelism.

The loss is a sum, kept together with its weight. Gradients and metrics are added over the devices and divided once. So
the same code is exact on one device, for a batch sharded under `jit`, and under `pmap`, also if masks are uneven.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cnnrnn.errors import ConfigError
from cnnrnn.metrics import Sums
from cnnrnn.tasks.task import Batch, Task
from cnnrnn.training.state import TrainState


def train_step(
    state: TrainState, batch: Batch, *, task: Task, tx: optax.GradientTransformation, axis_name: str | None = None
) -> tuple[TrainState, Sums]:
    """One step of gradient descent.

    A batch in which all masks are 0 changes nothing but the step.

    Args:
      state: before the step.
      batch: arrays [B, ...]; inside a mapped axis, this device's share of them.
      task, tx: what is trained, and how.
      axis_name: of the mapped axis, if there is one.

    Returns:
      The next state, and the metrics of the batch as sums over all devices.
    """
    psum = partial(lax.psum, axis_name=axis_name) if axis_name else lambda tree: tree
    key = jax.random.fold_in(state.key, state.step)
    if axis_name:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))
    augment_key, forward_key = jax.random.split(key)
    batch = task.augment(augment_key, batch)

    def loss_sum(params):
        variables = {"params": params, **state.model_state}
        outputs, carry, mutated = task.forward(variables, state.carry, batch, train=True, key=forward_key)
        metrics = task.metrics(outputs, batch)
        return metrics["loss"].total, (metrics, carry, mutated)

    grads, (metrics, carry, mutated) = jax.grad(loss_sum, has_aux=True)(
        state.params
    )  # of the sum over examples, not yet the mean
    grads, metrics = psum((grads, metrics))
    if axis_name:  # running statistics have no weight: every device's share counts equally, its padding included
        mutated = lax.pmean(mutated, axis_name)
    weight = metrics["loss"].weight
    grads = jax.tree.map(lambda g: g / jnp.where(weight > 0, weight, 1), grads)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    new = (optax.apply_updates(state.params, updates), opt_state, mutated, carry)
    old = (state.params, state.opt_state, state.model_state, state.carry)
    params, opt_state, model_state, carry = jax.tree.map(lambda n, o: jnp.where(weight > 0, n, o), new, old)
    return TrainState(state.step + 1, params, opt_state, model_state, carry, state.key), metrics


def train_steps(state: TrainState, batches: Batch, **step: Any) -> tuple[TrainState, Sums]:
    """K steps in one program, on batches [K, B, ...]; see `train_step`. The metrics are [K] each."""
    return lax.scan(partial(train_step, **step), state, batches, unroll=len(batches["mask"]) == 1)


def eval_step(
    variables: dict, carry: Any, batch: Batch, *, task: Task, axis_name: str | None = None
) -> tuple[Any, Sums]:
    """Evaluates a batch [B, ...]. Returns the next carry, and the metrics as sums over all devices."""
    outputs, carry, _ = task.forward(variables, carry, batch)
    metrics = task.metrics(outputs, batch)
    return carry, lax.psum(metrics, axis_name) if axis_name else metrics


def check_batchnorm_padding(batch: Batch, padded: Batch, state: TrainState) -> None:
    """Refuses batches that must be padded to a multiple of the devices if running statistics would see the padding.

    Raises:
      ConfigError: the model has running statistics and the batch was padded.
    """
    size, count = len(batch["mask"]), jax.device_count()
    if state.model_state and len(padded["mask"]) != size:
        raise ConfigError(
            f"data.batch_size is {size} on {count} devices, for a net that normalises by the batch - "
            f"take a multiple of {count}"
        )
