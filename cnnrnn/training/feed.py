"""Training batches on their way to the devices: several for one program, and from a set that lies there already."""

from typing import Literal

import jax
import numpy as np

from cnnrnn.data.dataset import ArrayDataset, Batch, Dataset
from cnnrnn.errors import ConfigError
from cnnrnn.training.parallel import Devices

DataOn = Literal["auto", "host", "device"]
SHARE = 0.25  # of a device's memory that "auto" gives to a set


class Feed:
    """Hands out the batches of a training split, on the devices.

    Args:
      dataset: the split.
      devices: where it runs.
      data_on: "host" sends every batch; "device" sends the whole set once, as it is (pictures as uint8), to every
        device, where batches are gathered from it; "auto" does so on a GPU or TPU if the set is small beside its
        memory. The batches are the same.

    Raises:
      ConfigError: "device", and the set is no set of arrays.
    """

    def __init__(self, dataset: Dataset, devices: Devices, data_on: DataOn):
        self._dataset, self._devices = dataset, devices
        if data_on == "device" and not isinstance(dataset, ArrayDataset):
            raise ConfigError(
                f"train.data_on is 'device', but a {type(dataset).__name__} is read on the host - say auto"
            )
        self._set = self._gather = None
        if data_on == "device" or (data_on == "auto" and _fits(dataset)):
            self._set, self._gather = devices.put_set(dataset.arrays), devices.compile_gather(_gather)

    def batches(self, step: int, count: int) -> dict[str, jax.Array]:
        """Batches `step` to `step + count`, [count, B, ...], filled up to a multiple of the devices."""
        one = self._dataset.batch if self._gather is None else self._dataset.places
        parts = [self._devices.fill(one(number)) for number in range(step, step + count)]
        parts = self._devices.put_batches({name: np.stack([part[name] for part in parts]) for name in parts[0]})
        return parts if self._gather is None else self._gather(self._set, parts)


def steps_together(step: int, num_steps: int, per_dispatch: int, *periods: int | None) -> int:
    """How many steps the next program runs: `per_dispatch`, or one at a time where anything is due in between.

    It depends on the step alone, so that a resumed run cuts its steps as an unbroken one.

    Args:
      step: done so far.
      num_steps: the length of the run.
      per_dispatch: see `loop.fit`.
      periods: at the multiples of which something is due.
    """
    last = step + per_dispatch - 1
    due = last >= num_steps or any(period and last // period > step // period for period in periods)
    return 1 if step % per_dispatch or due else per_dispatch


def _gather(arrays: Batch, places: Batch) -> Batch:
    return {name: array[places["row"]] for name, array in arrays.items()} | {"mask": places["mask"]}


def _fits(dataset: Dataset) -> bool:
    if jax.default_backend() == "cpu" or not isinstance(dataset, ArrayDataset):
        return False
    stats = jax.local_devices()[0].memory_stats() or {}
    return sum(array.nbytes for array in dataset.arrays.values()) <= SHARE * stats.get("bytes_limit", 0)
