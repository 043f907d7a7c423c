"""The training state: everything that a training step reads and updates, and that a checkpoint stores."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from cnnrnn.optim.nt_asgd import eval_params
from cnnrnn.tasks.task import Batch, Task


@struct.dataclass
class TrainState:
    """The state of a run.

    Attributes:
      step: int32, the number of steps done.
      params: the model's parameters.
      opt_state: the optimizer's state.
      model_state: the model's other collections (batch_stats); {} for most models.
      carry: the recurrent state from batch to batch, [B, ...]; () where batches are independent.
      key: the run's key. It never advances: step t uses fold_in(key, t).
    """

    step: jax.Array
    params: Any
    opt_state: optax.OptState
    model_state: Any
    carry: Any
    key: jax.Array

    @property
    def variables(self) -> dict:
        """The variables that the model is evaluated with."""
        return {"params": eval_params(self.opt_state, self.params), **self.model_state}


def init_state(task: Task, tx: optax.GradientTransformation, batch: Batch, seed: int) -> TrainState:
    """The state before the first step. A pure function: `jax.eval_shape` gives its shapes, `jax.vmap` many seeds."""
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = task.init(init_key, batch)
    params = variables["params"]
    model_state = {name: value for name, value in variables.items() if name != "params"}
    carry = task.init_carry(len(batch["mask"]))
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), model_state, carry, key)
