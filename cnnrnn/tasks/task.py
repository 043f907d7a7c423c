"""The contract of a task: a few pure functions around a model. A task owns no parameters, no data and no loop."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from cnnrnn.metrics import Sums

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """The interface that the training loop expects of a task.

    Attributes:
      model: a linen module.
      info: facts about the training set, such as class names or the vocabulary; the JSON object that the run stores.

    >>> import jax.numpy as jnp
    >>> from cnnrnn.metrics import Average
    >>> class LinearRegression(Task):  # init, forward and metrics are all that a task must define
    ...     def forward(self, variables, carry, batch, train=False, key=None):
    ...         return self.model.apply(variables, batch["x"]), carry, {}
    ...     def metrics(self, outputs, batch):
    ...         return {"loss": Average.of((outputs[:, 0] - batch["y"]) ** 2, batch["mask"])}
    ...     def init(self, key, batch):
    ...         return self.model.init(key, batch["x"])
    >>> batch = {"x": jnp.ones((2, 3)), "y": jnp.zeros(2), "mask": jnp.ones(2)}
    >>> task = LinearRegression(nn.Dense(1))
    >>> outputs, carry, mutated = task.forward(task.init(jax.random.key(0), batch), (), batch)
    >>> task.metrics(outputs, batch)["loss"].weight
    Array(2., dtype=float32)
    """

    model: nn.Module
    info: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @abc.abstractmethod
    def init(self, key: jax.Array, batch: Batch) -> dict:
        """The model's initial variables, {"params": ..., and other collections}.

        Raises:
          ValueError: the batch does not fit the task or the model.
        """

    def init_carry(self, batch_size: int) -> Any:
        """The carry before the first batch: arrays [B, ...] if each batch continues the previous one, else ()."""
        return ()

    def augment(self, key: jax.Array, batch: Batch) -> Batch:
        """A random change of a training batch, on the device; identity by default."""
        return batch

    @abc.abstractmethod
    def forward(
        self, variables: dict, carry: Any, batch: Batch, train: bool = False, key: jax.Array | None = None
    ) -> tuple[Any, Any, dict]:
        """Applies the model.

        Args:
          variables: the model's, as from `init`.
          carry: the recurrent state after the previous batch.
          batch: arrays [B, ...].
          train: dropout is on, and running statistics are updated.
          key: of dropout; needed in training.

        Returns:
          The outputs, the new carry, and the updated collections of variables other than "params".
        """

    @abc.abstractmethod
    def metrics(self, outputs: Any, batch: Batch) -> Sums:
        """Sums over the batch. The total of "loss", an `Average`, is minimised. Examples with mask 0 do not count."""

    def decode(self, variables: dict, batch: Batch) -> Any:
        """Predictions, arrays [B, ...], made without the targets; the outputs by default. It is jitted."""
        return self.forward(variables, self.init_carry(len(batch["mask"])), batch)[0]

    def score(self, predictions: Any, examples: Sequence[dict]) -> Sums:
        """Scores predictions on the host, against references that are not arrays, such as text; {} by default.

        Args:
          predictions: of `decode`, NumPy arrays [n, ...], without padding.
          examples: the n examples as the source gives them, with the fields that are left out of batches.
        """
        return {}

    def lines(self, predictions: Any, examples: Sequence[dict]) -> list[tuple[str, str]]:
        """The predictions as text, which a run writes to a file and shows examples of; [] by default.

        It is called where `score` is, for tasks that define that.

        Args:
          predictions, examples: see `score`.

        Returns:
          For each example a line of the file, and a line for people, who want to see the input too.
        """
        return []

    @property
    def signatures(self) -> dict[str, str]:
        """{score: the settings it was computed with}, for scores that are comparable only with the same settings."""
        return {}

    @property
    def has_score(self) -> bool:
        """Whether the task defines `score`. If so, an evaluation with scores decodes predictions."""
        return type(self).score is not Task.score

    def apply(self, variables: dict, *inputs: Any, train: bool, key: jax.Array | None) -> tuple[Any, dict]:
        """Calls the model on its inputs; returns its outputs and, in training, its updated collections."""
        mutable = [name for name in variables if name != "params"] if train else []
        rngs = {"dropout": key} if train else None
        return self.model.apply(variables, *inputs, train=train, rngs=rngs, mutable=mutable)
