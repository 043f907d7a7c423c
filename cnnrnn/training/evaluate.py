"""Exact evaluation: every example of a split counts once, whatever the batch size."""

import functools
from collections.abc import Callable
from functools import partial

import jax
import numpy as np

from cnnrnn import metrics
from cnnrnn.data.dataset import Batch, Dataset
from cnnrnn.errors import ConfigError, DataError, NumericalError
from cnnrnn.metrics import Sums
from cnnrnn.signatures import did_you_mean
from cnnrnn.tasks.task import Task
from cnnrnn.training.accumulator import MAX_IN_FLIGHT
from cnnrnn.training.parallel import Devices
from cnnrnn.training.state import TrainState
from cnnrnn.training.step import eval_step


class Evaluator:
    """Evaluates the model of a task on whole splits.

    Args:
      task: the task, with its model.
      devices: where it runs. Its programs are compiled once for each shape of a batch.
    """

    def __init__(self, task: Task, devices: Devices):
        self._task, self._devices = task, devices
        self._step = devices.compile_eval(partial(eval_step, task=task))
        self._decode = devices.compile_decode(task.decode)

    def __call__(
        self,
        variables: dict,
        dataset: Dataset,
        *,
        with_score: bool = False,
        keep_lines: Callable[[list[tuple[str, str]]], None] | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, float] | None:
        """The metrics of a split, and with `with_score` the scores of its predictions, if the task has a score.

        Args:
          variables: of the model.
          dataset: the split.
          with_score: whether to decode.
          keep_lines: called with `Task.lines` of all examples, in the order of the source, if the task has any.
          should_stop: called before every batch; if it returns True, the evaluation ends.

        Returns:
          {metric: value}, computed once from sums that were added in float64; None if `should_stop` ended it.

        Raises:
          DataError: all masks of the split are 0.
          NumericalError: the loss is not finite.
        """
        sums, scores, carry, lines = [], [], None, {}
        for number in range(dataset.num_batches):
            if should_stop():
                return None
            batch = self._devices.pad(dataset.batch(number))
            carry = self._task.init_carry(len(batch["mask"])) if carry is None else carry
            on_devices = self._devices.shard_batch(batch)
            carry, batch_sums = self._step(variables, carry, on_devices)
            sums.append(batch_sums)
            if with_score and self._task.has_score:
                batch_scores, batch_lines = self._score(variables, on_devices, batch, dataset)
                scores.append(batch_scores)
                lines |= batch_lines
            elif len(sums) > MAX_IN_FLIGHT:
                jax.block_until_ready(sums[-MAX_IN_FLIGHT - 1])
        total = functools.reduce(metrics.merge, metrics.fetch(sums))
        if not total["loss"].weight:
            raise DataError("no example of the split counts: all masks are 0 - give it examples with targets")
        values = metrics.compute(total)
        if not np.isfinite(values["loss"]):
            raise NumericalError(f"the loss of the evaluation is {values['loss']} - lower optim.learning_rate")
        if lines and keep_lines:
            keep_lines([lines[index] for index in sorted(lines)])
        return values | (metrics.compute(functools.reduce(metrics.merge, scores)) if scores else {})

    def _score(self, variables: dict, on_devices: dict, batch: Batch, dataset: Dataset) -> tuple[Sums, dict]:
        """The scores of a batch, and {index of an example: its lines}."""
        predictions = jax.device_get(self._decode(variables, on_devices))
        valid = batch["mask"] > 0  # [B]
        indices = batch["index"][valid]
        examples = dataset.examples(indices)
        predictions = jax.tree.map(lambda x: np.asarray(x)[valid], predictions)
        lines = self._task.lines(predictions, examples)
        return self._task.score(predictions, examples), dict(zip(indices.tolist(), lines, strict=False))


def check_best_metric(
    name: str | None, mode: str | None, task: Task, state: TrainState, batch: Batch, dataset: Dataset
) -> None:
    """Refuses a metric that an evaluation does not report, or whose best value is not known. Nothing is compiled.

    Args:
      name, mode: of the metric, see `fit`; None is no metric.
      task: the task.
      state: arrays or their shapes.
      batch: of the training split.
      dataset: an evaluated split.

    Raises:
      ConfigError: there is no such metric, or it has no mode.
    """
    if name is None:
        return
    if mode is None:
        raise ConfigError(f"train.best_metric is {name}, without a train.best_mode - say whether min or max is best")
    variables = {"params": state.params, **state.model_state}
    _, sums = jax.eval_shape(partial(eval_step, task=task), variables, task.init_carry(len(batch["mask"])), batch)
    names = [*sums]
    if name not in names and task.has_score:
        shapes = jax.eval_shape(task.decode, variables, batch)
        predictions = jax.tree.map(lambda x: np.zeros((1, *x.shape[1:]), x.dtype), shapes)
        names += task.score(predictions, dataset.examples(np.zeros(1, int)))
    if name not in names:
        raise ConfigError(f"train.best_metric is {name}, which no evaluation reports{did_you_mean(name, names)}")
