"""The type of a task: a few pure functions around a model. It owns no parameters, no data and no loop."""

import abc
import dataclasses
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from cnnrnn.metrics import Average

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What the training loop knows of a task.

    Attributes:
      model: a linen module whose call takes the task's inputs and `train`.
    """

    model: nn.Module

    @abc.abstractmethod
    def inputs(self, batch: Batch) -> tuple:
        """The positional arguments of the model for a batch [B, ...]."""

    @abc.abstractmethod
    def metrics(self, outputs: Any, batch: Batch) -> dict[str, Average]:
        """Sums over the batch; "loss" is the one whose total is minimised. Examples with mask 0 count nothing."""

    def init_carry(self, batch_size: int) -> Any:
        """The state before the first batch, [B, ...], of a task in which one batch continues the last; else ()."""
        return ()

    def forward(
        self, variables: dict, carry: Any, batch: Batch, *, train: bool = False, key: jax.Array | None = None
    ) -> tuple[Any, Any, dict]:
        """Applies the model.

        Args:
          variables: {"params": ..., and the model's other collections}.
          carry: what the last batch left, see `init_carry`.
          train: dropout falls and running statistics move.
          key: for dropout; needed to train.

        Returns:
          outputs, the new carry, the collections other than params.
        """
        others = [name for name in variables if name != "params"]
        outputs, mutated = self.model.apply(
            variables,
            *self.inputs(batch),
            train=train,
            rngs={"dropout": key} if train else None,
            mutable=others if train else [],
        )
        return outputs, carry, mutated

    def decode(self, variables: dict, batch: Batch) -> Any:
        """Predictions [B, ...] made without the targets; by default the model's outputs."""
        return self.forward(variables, self.init_carry(len(batch["mask"])), batch)[0]

    def draw(self, variables: dict, dataset: Any, directory: Path) -> None:  # noqa: B027, a default
        """Puts pictures of a trained model's work on a split into a directory; none by default."""
