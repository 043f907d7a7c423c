"""Exact evaluation: every example of a split counts once, whatever the batch size."""

import functools
from collections.abc import Callable

import numpy as np

from cnnrnn import metrics
from cnnrnn.data.dataset import Dataset
from cnnrnn.errors import NumericalError
from cnnrnn.training.parallel import AHEAD, Devices


def evaluate(
    step: Callable, variables: dict, dataset: Dataset, devices: Devices, init_carry: Callable
) -> dict[str, float]:
    """The metrics of a model over a whole split.

    Args:
      step: an evaluation step compiled for the devices.
      variables: of the model.
      dataset: the split.
      devices: where it runs.
      init_carry: makes the recurrent state before the first batch of a size.

    Returns:
      {metric: value}, computed once from sums added in float64.

    Raises:
      NumericalError: the loss is not finite.
    """
    sums, carry = [], None
    for number in range(dataset.num_batches):
        batch = devices.fill(dataset.batch(number))
        carry = init_carry(len(batch["mask"])) if carry is None else carry
        carry, batch_sums = step(variables, carry, devices.put_batch(batch))
        sums.append(batch_sums)
        metrics.wait_for(sums[:-AHEAD])
    values = metrics.compute(functools.reduce(metrics.merge, metrics.fetch(sums)))
    if not np.isfinite(values["loss"]):
        raise NumericalError(f"the loss of the evaluation is {values['loss']} - lower optim.learning_rate")
    return values
