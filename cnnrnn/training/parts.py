"""What a config names, built: the data, the model with its task, and the optimizer."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from cnnrnn.analysis.summary import find_call, format_rows, summarize
from cnnrnn.config import as_config_error, build
from cnnrnn.data.dataset import Batch, Dataset
from cnnrnn.tasks.task import Task
from cnnrnn.training.memory import estimate_memory
from cnnrnn.training.state import TrainState


class Parts(NamedTuple):
    """What a run consists of.

    Attributes:
      task: with its model.
      tx: the optimizer.
      splits: "train"; and "validation", "test" or both.
    """

    task: Task
    tx: optax.GradientTransformation
    splits: dict[str, Dataset]


@contextmanager
def build_parts(config: ConfigDict) -> Iterator[Parts]:
    """Builds what a checked config names: `with build_parts(config) as parts`. At the end the data are closed.

    Raises:
      ConfigError: a constructor refuses a value, or the model, the task or the optimizer does within the context.
      DataError: the data are missing or damaged.
    """
    with ExitStack() as stack:
        tx = build("optim", config.optim, num_steps=config.train.num_steps)
        splits = build("data", config.data, seed=config.seed)
        for dataset in splits.values():
            stack.callback(dataset.close)
        model = build("model", config.model, **splits["train"].dims)
        task = build("task", config.task, model=model, info=splits["train"].info)
        stack.enter_context(as_config_error(config))
        yield Parts(task, tx, splits)


def describe_model(parts: Parts, batch: Batch, state: TrainState) -> str:
    """The table of the model for one example, and the memory that training takes. No step is compiled.

    Args:
      parts: of the run.
      batch: of the training split.
      state: arrays or their shapes.
    """
    task, _, splits = parts
    example = {name: rows[:1] for name, rows in batch.items()}
    rows = summarize(task.model, *find_call(task.model, lambda: task.init(jax.random.key(0), example)))
    memory = estimate_memory(task, splits, batch, state)
    sizes = {"memory, about": sum(memory.values())} | {f"  {name}": size for name, size in memory.items()}
    return "\n".join(
        [
            f"{type(task.model).__name__} on {jax.device_count()} x {jax.devices()[0].device_kind}",
            "",
            format_rows(rows),
            "",
            *(f"{name:15}{size / 1e6:10,.1f} MB" for name, size in sizes.items()),
        ]
    )
