"""Moves training batches to the devices: stacks K of them for a K-step program, or gathers them on the devices."""

from typing import Literal

import jax
import numpy as np

from cnnrnn.data.dataset import Batch, Dataset
from cnnrnn.errors import ConfigError
from cnnrnn.training.parallel import Devices

DataOn = Literal["auto", "host", "device"]
MEMORY_SHARE = 0.25  # the largest share of a device's memory that a data set may take with "auto"


class BatchLoader:
    """Hands out the batches of a training split, on the devices.

    Args:
      dataset: the split.
      devices: where it runs.
      data_on: "host" sends every batch. "device" sends the data set once, as it is (images as uint8), and gathers the
        batches there. "auto" does so on a GPU or TPU if the set is small beside its memory. The batches are the same
        but for the values of padding.

    Raises:
      ConfigError: data_on is "device", and the batches are not rows of arrays in memory.
    """

    def __init__(self, dataset: Dataset, devices: Devices, data_on: DataOn):
        self._dataset, self._devices = dataset, devices
        if data_on == "device" and not dataset.can_gather_on_device:
            raise ConfigError("train.data_on is 'device', but batches are made on the host - set it to auto")
        self._arrays = self._gather = None
        if data_on == "device" or (data_on == "auto" and _fits(dataset)):
            self._arrays = devices.replicate(dataset.source.arrays)
            self._gather = devices.compile_gather(_gather)

    def batches(self, step: int, count: int) -> dict[str, jax.Array]:
        """Batches `step` to `step + count`, [count, B, ...], padded to a multiple of the devices."""
        make = self._dataset.batch if self._gather is None else self._indices
        batches = [self._devices.pad(make(number)) for number in range(step, step + count)]
        stacked = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}
        on_devices = self._devices.shard_batches(stacked)
        return on_devices if self._gather is None else self._gather(self._arrays, on_devices)

    def chunk_length(self, step: int, num_steps: int, steps_per_dispatch: int, *periods: int | None) -> int:
        """The number of steps of the next program: `steps_per_dispatch`, or 1 where something is due in between.

        It is also 1 where the shapes of the batches change in between. It depends only on the step and the settings of
        the run, so a resumed run divides its steps like an uninterrupted one.

        Args:
          step: the number of steps done.
          num_steps: the length of the run.
          steps_per_dispatch: see `loop.fit`.
          periods: in steps; something is due at their multiples.
        """
        if steps_per_dispatch == 1 or step % steps_per_dispatch:
            return 1
        last = step + steps_per_dispatch - 1
        if last >= num_steps or any(period and last // period > step // period for period in periods):
            return 1
        plan = self._dataset.sampler.plan
        lengths = {plan(number).length for number in range(step, last + 1)}
        return steps_per_dispatch if len(lengths) == 1 else 1

    def _indices(self, step: int) -> Batch:
        plan = self._dataset.sampler.plan(step)
        return {"index": plan.indices, "mask": plan.mask}


def _gather(arrays: Batch, plan: Batch) -> Batch:
    return {name: array[plan["index"]] for name, array in arrays.items()} | plan


def _fits(dataset: Dataset) -> bool:
    if jax.default_backend() == "cpu" or not dataset.can_gather_on_device:
        return False
    stats = jax.local_devices()[0].memory_stats() or {}
    return dataset.source.nbytes <= MEMORY_SHARE * stats.get("bytes_limit", 0)
