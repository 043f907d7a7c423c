"""Exact evaluation: every example of a split counts once, whatever the batch size."""

import functools
from collections.abc import Callable

from cnnrnn import metrics
from cnnrnn.data.dataset import Dataset
from cnnrnn.training.state import TrainState


def evaluate(
    step: Callable, state: TrainState, dataset: Dataset, put_batch: Callable, init_carry: Callable
) -> dict[str, float]:
    """The metrics of a model over a whole split.

    Args:
      step: a compiled evaluation step.
      state: of which the parameters are tested.
      dataset: the split.
      put_batch: brings a batch onto the devices.
      init_carry: makes the recurrent state before the first batch of a size.

    Returns:
      {metric: value}, computed once from sums added in float64.
    """
    sums, state = [], state.replace(carry=init_carry(len(dataset.batch(0)["mask"])))
    for number in range(dataset.num_batches):
        state, batch_sums = step(state, put_batch(dataset.batch(number)))
        sums.append(batch_sums)
    return metrics.compute(functools.reduce(metrics.merge, metrics.fetch(sums)))
