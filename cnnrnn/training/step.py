"""One training step and one evaluation step, written once for every task and every way of running over devices.

The loss is a sum and its weight travels with it, so the same arithmetic is right for one device, for a batch sharded
under `jit` and for `pmap`, with masks as uneven as they like: gradients and metrics are added over the devices and
divided once.
"""

from functools import partial
from typing import Any

import jax
import optax
from jax import lax

from cnnrnn.metrics import Average
from cnnrnn.tasks.task import Batch, Task
from cnnrnn.training.state import TrainState


def train_step(
    state: TrainState, batch: Batch, *, task: Task, tx: optax.GradientTransformation, axis_name: str | None = None
) -> tuple[TrainState, dict[str, Average]]:
    """One step of gradient descent on a batch [B, ...]; inside a mapped axis, on this device's share of it.

    Returns:
      The next state and the metrics of the batch, as sums over all devices.
    """
    psum = partial(lax.psum, axis_name=axis_name) if axis_name else lambda tree: tree
    key = jax.random.fold_in(state.key, state.step)
    if axis_name:
        key = jax.random.fold_in(key, lax.axis_index(axis_name))

    def loss_sum(params):
        outputs, carry, mutated = task.forward(
            {"params": params, **state.model_state}, state.carry, batch, train=True, key=key
        )
        metrics = task.metrics(outputs, batch)
        return metrics["loss"].total, (metrics, carry, mutated)

    grads, (metrics, carry, mutated) = jax.grad(loss_sum, has_aux=True)(state.params)  # of a sum
    grads, metrics = psum((grads, metrics))
    grads = jax.tree.map(lambda g: g / metrics["loss"].weight, grads)
    if axis_name:  # running statistics carry no weight: each device's share counts as much, its filling included
        mutated = lax.pmean(mutated, axis_name)
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    new_state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
        model_state=mutated,
        carry=carry,
    )
    return new_state, metrics


def train_steps(state: TrainState, batches: Batch, **step: Any) -> tuple[TrainState, dict[str, Average]]:
    """As many steps in one program as there are batches, [K, B, ...]; see `train_step`, the metrics are [K] each."""
    return lax.scan(partial(train_step, **step), state, batches, unroll=len(batches["mask"]) == 1)


def eval_step(
    variables: dict, carry: Any, batch: Batch, *, task: Task, axis_name: str | None = None
) -> tuple[Any, dict[str, Average]]:
    """The next carry and the metrics of a batch [B, ...], as sums over all devices, without training."""
    outputs, carry, _ = task.forward(variables, carry, batch)
    metrics = task.metrics(outputs, batch)
    return carry, lax.psum(metrics, axis_name) if axis_name else metrics
