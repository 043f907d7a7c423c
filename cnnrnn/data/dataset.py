"""A data set: a source of examples and a sampler make batches that are a pure function of (seed, step)."""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from cnnrnn.data.prefetch import Prefetcher
from cnnrnn.data.sampling import Plan, Sampler
from cnnrnn.errors import DataError

Example = dict[str, Any]
Batch = dict[str, np.ndarray]
Collate = Callable[[Sequence[Example], int | None], Batch]


class Source(Protocol):
    """The examples of a split, with random access. Several threads and processes may read them at once.

    Two methods are optional: `__getitems__(indices) -> list[Example]`, if examples are read faster together; and
    `take(indices) -> Batch`, if all examples are rows of arrays. So is the attribute `nbytes`, of what is in memory.

    Attributes:
      fingerprint: a checksum of the examples, or of what is known about them without reading them all.
      lengths: [N], if the examples differ in length, for `sampling.BucketSampler`.
    """

    fingerprint: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example:
        """One example: arrays, numbers and text, without a batch dimension.

        Raises:
          DataError: the example cannot be read.
        """
        ...


class ArraySource:
    """A source in memory.

    Args:
      arrays: {"image": [N, ...], ...}, one row for each example.
    """

    def __init__(self, arrays: Batch):
        self.arrays = arrays
        self.fingerprint = 0
        for name in sorted(arrays):
            self.fingerprint = zlib.crc32(np.ascontiguousarray(arrays[name]), self.fingerprint)
        self.nbytes = sum(array.nbytes for array in arrays.values())

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index: int) -> Example:
        return {name: array[index] for name, array in self.arrays.items()}

    def take(self, indices: np.ndarray) -> Batch:
        """A copy of many rows. Each array has the shape of the indices, followed by the shape of a row."""
        return {name: array[indices] for name, array in self.arrays.items()}


def collate(examples: Sequence[Example], length: int | None = None) -> Batch:
    """Stacks the arrays and numbers of examples. Other fields, such as text, are left out: see `Task.score`.

    >>> batch = collate([{"tokens": np.array([5, 6, 7]), "text": "b c d"}, {"tokens": np.array([8]), "text": "e"}], 4)
    >>> batch["tokens"].tolist()
    [[5, 6, 7, 0], [8, 0, 0, 0]]

    Args:
      examples: B of them, with the same fields.
      length: every array is padded with zeros along its first axis to this length; None does not pad.

    Returns:
      {field: [B, ...]}. Numbers of Python become int32, float32 and bool; the dtype of arrays stays.

    Raises:
      ValueError: the arrays of a field differ in shape, or one is longer than `length`.
    """
    fields = {name: [_as_array(example[name]) for example in examples] for name in examples[0]}
    return {name: _stack(name, rows, length) for name, rows in fields.items() if rows[0].dtype.kind in "biufc"}


def count_labels(labels: np.ndarray, class_names: Sequence[str]) -> dict[str, int]:
    """The number of examples of each class: {name: count}. The labels [N] are indices of the names."""
    counts = np.bincount(labels, minlength=len(class_names)).tolist()
    return dict(zip(class_names, counts, strict=True))


def pad_batch(batch: Batch, size: int) -> Batch:
    """The batch with zeros after its last row, [size, ...]. The mask of the padding is 0 too."""
    return {name: pad_rows(rows, size) for name, rows in batch.items()}


@dataclasses.dataclass(frozen=True)
class BatchMaker:
    """Makes batches: the part of a data set that other processes get a copy of."""

    source: Source
    sampler: Sampler
    collate: Collate

    def __call__(self, step: int) -> Batch:
        """Batch number `step`; see `Dataset.batch`."""
        plan = self.sampler.plan(step)
        present = plan.mask > 0 if plan.in_text is None else plan.in_text  # [B] or [B, T]
        if self.takes(plan):
            batch = self.source.take(plan.indices)
            if not present.all():
                for rows in batch.values():
                    rows[~present] = 0
        else:
            batch = pad_batch(self.collate(self.read(plan.indices[present]), plan.length), len(plan.mask))
        batch |= {"mask": plan.mask, "index": plan.indices}
        return batch if plan.reset is None else batch | {"reset": plan.reset}

    def takes(self, plan: Plan) -> bool:
        """Whether a batch is the rows `plan.indices` of arrays."""
        return plan.length is None and self.collate is collate and hasattr(self.source, "take")

    def read(self, indices: np.ndarray) -> Sequence[Example]:
        """Some examples, at once if the source can."""
        indices = indices.tolist()
        if hasattr(self.source, "__getitems__"):
            return self.source.__getitems__(indices)
        return [self.source[index] for index in indices]


class Dataset:
    """One split of a data set. Without `workers` several threads may ask for batches at once.

    Args:
      source: the examples.
      sampler: their order.
      collate: makes a batch of examples.
      dims: what the model must know of the data, such as {"num_classes": 10}.
      info: stored by a run as JSON, so that its model can be used without the data set, and a change of the data set is
        noticed. The dims, the number of examples and the fingerprint are added.
      summary: what was understood of the data, as a JSON object for people: a run stores it, and `--dry_run` prints it.
      workers: how batches are made ahead: 0 by threads, n by n processes. With None they are not made ahead.
      timeout: seconds to wait for a batch, if they are made ahead.

    Attributes:
      num_batches: the number of batches in one pass.

    Raises:
      DataError: there are no examples.
    """

    def __init__(
        self,
        source: Source,
        sampler: Sampler,
        collate: Collate = collate,
        *,
        dims: dict[str, int],
        info: dict[str, Any],
        summary: dict[str, Any] | None = None,
        workers: int | None = None,
        timeout: float = 300.0,
    ):
        if not len(source):
            raise DataError("the split has no examples - name a set that has some")
        self.source, self.sampler, self.dims = source, sampler, dims
        self.info = {**info, "dims": dims, "num_examples": len(source), "fingerprint": source.fingerprint}
        self.summary = {"examples": len(source)} if summary is None else summary
        self.num_batches = sampler.num_batches
        self._make, self._prefetcher = BatchMaker(source, sampler, collate), None
        if workers is not None:
            end = self.num_batches if _has_one_pass(sampler) else None
            self._prefetcher = Prefetcher(self._make, end, workers, timeout=timeout)

    def batch(self, step: int) -> Batch:
        """Batch number `step`.

        Returns:
          {field: [B, ...]}. There always are "mask" float32, 1 where an example counts, and "index" int32, the index of
          the example in the source, 0 for padding. Both are [B], or [B, T] for a stream, which also has "reset" [B]
          float32, 1 where a row does not continue its row in the previous batch.

        Raises:
          IndexError: the sampler has one pass, and there is no such batch in it.
          DataError: an example cannot be read.
        """
        return self._make(step) if self._prefetcher is None else self._prefetcher.batch(step)

    @property
    def can_gather_on_device(self) -> bool:
        """Whether a batch is the rows `plan.indices` of arrays in memory: a device that has the arrays can make it."""
        return isinstance(self.source, ArraySource) and self._make.takes(self.sampler.plan(0))

    def examples(self, indices: np.ndarray) -> Sequence[Example]:
        """The examples of these indices, with the fields that batches leave out."""
        return self._make.read(indices)

    def close(self) -> None:
        """Ends the threads or processes that make batches ahead. A later batch starts them again."""
        if self._prefetcher is not None:
            self._prefetcher.close()


def _has_one_pass(sampler: Sampler) -> bool:
    try:
        sampler.plan(sampler.num_batches)
    except IndexError:
        return True
    return False


def _as_array(value: Any) -> np.ndarray:
    if type(value) is int:
        return np.asarray(value, np.int32)
    return np.asarray(value, np.float32) if type(value) is float else np.asarray(value)


def _stack(name: str, rows: Sequence[np.ndarray], length: int | None) -> np.ndarray:
    """[B, ...] of a field's rows."""
    if length is None or not rows[0].ndim:
        return np.stack(rows)
    if (longest := max(map(len, rows))) > length:
        raise ValueError(f"{name} of an example has length {longest}, which is more than {length}")
    return np.stack([pad_rows(row, length) for row in rows])


def pad_rows(rows: np.ndarray, size: int) -> np.ndarray:
    """Rows [n, ...] followed by zeros, [size, ...]."""
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
