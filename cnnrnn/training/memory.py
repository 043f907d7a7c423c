"""How much memory a training takes, from the shapes of its arrays, before a step is compiled."""

import math
from collections.abc import Iterable
from typing import Any

import jax
from jax.extend import core

from cnnrnn.data.dataset import Batch, Dataset
from cnnrnn.tasks.task import Task
from cnnrnn.training.state import TrainState


def estimate_memory(task: Task, splits: dict[str, Dataset], batch: Batch, state: TrainState) -> dict[str, int]:
    """The bytes of what a training step reads, writes and keeps.

    Of several devices each has a share of the batch and of the activations, and all parameters. The data are in the
    memory of the host. The compiler merges operations and reuses buffers, so the activations may take less than is said
    here, and its temporary arrays come in addition.

    Args:
      task: with its model.
      splits: the data; what is read from disk during training does not count.
      batch: of the training split.
      state: arrays or their shapes.

    Returns:
      {"data": bytes, "parameters": bytes, "gradients": ..., "optimizer": ..., "other state": ..., "batch": ...,
      "activations": ...}, the last being what the forward pass keeps for the backward pass.
    """
    parameters = _size(state.params)
    return {
        "data": sum(getattr(dataset.source, "nbytes", 0) for dataset in splits.values()),
        "parameters": parameters,
        "gradients": parameters,
        "optimizer": _size(state.opt_state),
        "other state": _size((state.model_state, state.carry)),
        "batch": _size(batch),
        "activations": _activations(task, batch, state),
    }


def _activations(task: Task, batch: Batch, state: TrainState) -> int:
    """The bytes of the arrays that the derivative of the loss needs, without parameters and batch."""

    def linearize(params: Any, model_state: Any, carry: Any, batch: Batch) -> Any:
        def loss(params):
            key = jax.random.key(0)
            outputs, _, _ = task.forward({"params": params, **model_state}, carry, batch, train=True, key=key)
            return task.metrics(outputs, batch)["loss"].total

        return jax.vjp(loss, params)[1]  # a pytree of what the forward pass keeps

    program = jax.make_jaxpr(linearize)(state.params, state.model_state, state.carry, batch).jaxpr
    kept = {variable for variable in program.outvars if not isinstance(variable, core.Literal)}
    return sum(_bytes(variable.aval) for variable in kept - {*program.invars, *program.constvars})


def _size(tree: Any) -> int:
    return sum(map(_bytes, _with_shape(jax.tree.leaves(tree))))


def _with_shape(leaves: Iterable[Any]) -> Iterable[Any]:
    return (leaf for leaf in leaves if hasattr(leaf, "shape"))


def _bytes(array: Any) -> int:
    return math.prod(array.shape) * array.dtype.itemsize
