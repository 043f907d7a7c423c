"""The protocol of a data set, and the set that lies in memory as arrays."""

import functools
import zlib
from typing import NamedTuple, Protocol

import numpy as np

from cnnrnn.errors import DataError

Batch = dict[str, np.ndarray]


class Dataset(Protocol):
    """One split of a data set; a batch of it is a pure function of (seed, step), so a resumed run needs only its step.

    Attributes:
      num_batches: batches in one pass.
      dims: what the model must know: {"num_classes": 10}.
      info: what is kept with a run as JSON: enough to use its model without the set, and to notice that the set has
        changed.
    """

    num_batches: int
    dims: dict[str, int]
    info: dict

    def batch(self, step: int) -> Batch:
        """Batch number `step`: arrays [B, ...], with "mask" [B] or [B, T] float32, 1 where it is real."""
        ...


class Order(NamedTuple):
    """Which examples a batch holds: for training of an endless stream of passes, each in an order of its own.

    Attributes:
      num_examples: N of the split.
      batch_size: B.
      seed: of the order; None is one pass in the order of the examples, whose last batch may not be full.
    """

    num_examples: int
    batch_size: int
    seed: int | None

    @property
    def num_batches(self) -> int:
        """Batches in one pass."""
        return -(-self.num_examples // self.batch_size)

    def places(self, step: int) -> Batch:
        """Where the examples of a batch stand in the split: "row" [B] int32, and "mask" [B] float32, 1 where one does.

        Raises:
          IndexError: the pass has no such batch.
        """
        positions = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        if self.seed is None:
            mask = positions < self.num_examples
            if not mask.any():
                raise IndexError(f"batch of examples {positions[0]} to {positions[-1]} of {self.num_examples}")
            return {"row": np.where(mask, positions, 0).astype(np.int32), "mask": mask.astype(np.float32)}
        passes, within = np.divmod(positions, self.num_examples)
        orders = ((p, _permutation(self.seed, int(p), self.num_examples)) for p in np.unique(passes))
        rows = np.concatenate([order[within[passes == p]] for p, order in orders])
        return {"row": rows.astype(np.int32), "mask": np.ones(len(rows), np.float32)}


class ArrayDataset:
    """A split in memory: for training an endless stream of passes, each in an order of its own; else one pass.

    Args:
      arrays: {"image": [N, ...], ...}, one row an example, of the same N.
      batch_size: B.
      seed: of the order; None keeps the order of the arrays, and the last batch is filled up with zeros of mask 0.
      dims, info: see `Dataset`; a checksum of the arrays joins the info.

    Raises:
      DataError: there is no example.
    """

    def __init__(self, arrays: Batch, batch_size: int, seed: int | None, dims: dict[str, int], info: dict):
        self.arrays, self.batch_size, self.seed, self.dims = arrays, batch_size, seed, dims
        self.num_examples = len(next(iter(arrays.values())))
        if not self.num_examples:
            raise DataError("the split has no examples - name a set that has some")
        self._order = Order(self.num_examples, batch_size, seed)
        self.num_batches = self._order.num_batches
        checksum = 0
        for name in sorted(arrays):
            checksum = zlib.crc32(np.ascontiguousarray(arrays[name]), checksum)
        self.info = {**info, "dims": dims, "num_examples": self.num_examples, "crc32": checksum}

    def batch(self, step: int) -> Batch:
        """See `Dataset`. In training a batch may end one pass over the examples and begin the next."""
        places = self.places(step)
        real = places["row"][places["mask"] > 0]
        return {name: fill_up(array[real], self.batch_size) for name, array in self.arrays.items()} | {
            "mask": places["mask"]
        }

    def places(self, step: int) -> Batch:
        """Where the examples of a batch stand in the arrays, see `Order.places`."""
        return self._order.places(step)


@functools.lru_cache(maxsize=4)  # two passes meet in a batch; and threads may read ahead for two splits
def _permutation(seed: int, number: int, num_examples: int) -> np.ndarray:
    """The order [N] of the examples in pass `number`."""
    return np.random.default_rng((seed, number)).permutation(num_examples)


def fill_up(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows [n, ...] with zeros behind them, [size, ...]."""
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
