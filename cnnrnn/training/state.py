"""All that changes during training, and so all that a checkpoint holds."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from cnnrnn.optim import averaged
from cnnrnn.tasks.task import Batch, Task


@struct.dataclass
class TrainState:
    """The state of a run.

    Attributes:
      step: int32, the number of steps done.
      params: the model's parameters.
      opt_state: the optimiser's state.
      model_state: the model's other collections (batch_stats), {} for most.
      carry: recurrent state from batch to batch, [B, ...], () where batches are independent.
      key: the run's key, never advanced: step t draws from fold_in(key, t).
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    model_state: Any
    carry: Any
    key: jax.Array

    @property
    def variables(self) -> dict:
        """What the model is tested with, and used with later."""
        return {"params": averaged(self.opt_state, self.params), **self.model_state}


def init_state(task: Task, tx: optax.GradientTransformation, batch: Batch, seed: int) -> TrainState:
    """The state before the first step; a pure function, so that `jax.eval_shape` can tell its shapes."""
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = task.model.init(init_key, *task.inputs(batch), train=False)
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    carry = task.init_carry(len(batch["mask"]))
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state, carry, key)
