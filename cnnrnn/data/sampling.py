"""Samplers: which examples are in a batch.

A plan is a pure function of (seed, step), so a resumed run needs only its step. Several threads may use one sampler.
Other processes use a copy.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Plan(NamedTuple):
    """The examples of a batch; or the windows of a stream, which is one long sequence of tokens.

    Attributes:
      indices: [B] int32, the index of each example in its source; 0 for padding. Of a stream [B, T], the index of each
        target.
      mask: float32 of the same shape, 1 where an example or a target counts.
      length: the length to which sequences are padded; None for examples of one shape.
      reset: of a stream, [B] float32, 1 where a row does not continue its row in the previous batch.
      in_text: of a stream, [B, T] bool, false for padding. Tokens of the warmup are in the text, but their mask is 0.
    """

    indices: np.ndarray
    mask: np.ndarray
    length: int | None = None
    reset: np.ndarray | None = None
    in_text: np.ndarray | None = None


class Sampler(Protocol):
    """The order in which a split is read: endless passes to train, or one pass to evaluate.

    Attributes:
      num_batches: the number of batches in one pass.
    """

    num_batches: int

    def plan(self, step: int) -> Plan:
        """Batch number `step`.

        Raises:
          IndexError: the sampler has one pass, and there is no such batch in it.
        """
        ...


@dataclasses.dataclass(frozen=True)
class ShuffledSampler:
    """Endless passes, each in another order. A batch may end one pass and begin the next.

    Attributes:
      num_examples: N of the split.
      batch_size: B.
      seed: of the orders.
    """

    num_examples: int
    batch_size: int
    seed: int

    @property
    def num_batches(self) -> int:
        """Batches in one pass; the last may reach into the next pass."""
        return -(-self.num_examples // self.batch_size)

    def plan(self, step: int) -> Plan:
        """See `Sampler`."""
        positions = step * self.batch_size + np.arange(self.batch_size)
        passes, within = np.divmod(positions, self.num_examples)  # [B]
        indices = np.empty(self.batch_size, np.int32)
        for number in np.unique(passes):
            order = _permutation(self.seed, int(number), self.num_examples)
            indices[passes == number] = order[within[passes == number]]
        return Plan(indices, np.ones(self.batch_size, np.float32))


@dataclasses.dataclass(frozen=True)
class SequentialSampler:
    """One pass in the order of the source. The last batch is padded with mask 0.

    Attributes:
      num_examples: N of the split.
      batch_size: B.
    """

    num_examples: int
    batch_size: int

    @property
    def num_batches(self) -> int:
        """Batches in the pass."""
        return -(-self.num_examples // self.batch_size)

    def plan(self, step: int) -> Plan:
        """See `Sampler`."""
        _check_step(step, self.num_batches)
        positions = step * self.batch_size + np.arange(self.batch_size)
        valid = positions < self.num_examples
        return Plan(np.where(valid, positions, 0).astype(np.int32), valid.astype(np.float32))


class BucketSampler:
    """Batches of sequences of similar length, padded to one of a few lengths: one compiled program for each.

    An example belongs to the bucket of the smallest boundary that is at least its length. In each pass the examples of
    a bucket are shuffled and divided into batches, the last of which is padded with mask 0; then the batches of all
    buckets are shuffled. Each example is seen once a pass.

    >>> sampler = BucketSampler([3, 9, 2, 4, 8], batch_size=2, boundaries=(4, 9), seed=None)
    >>> [sampler.plan(step).indices.tolist() for step in range(sampler.num_batches)]
    [[0, 2], [3, 0], [1, 4]]
    >>> sampler.plan(1).mask.tolist(), sampler.plan(1).length
    ([1.0, 0.0], 4)
    >>> round(sampler.padding_fraction, 2)  # 26 of 2 x 4 + 2 x 4 + 2 x 9 steps are real
    0.24

    Args:
      lengths: [N], of the examples.
      batch_size: B.
      boundaries: the padded lengths, see `bucket_boundaries`.
      seed: of the orders of endless passes. None is one pass: bucket by bucket, each in the order of the source.

    Raises:
      ValueError: an example is longer than the last boundary.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, boundaries: Sequence[int], seed: int | None):
        lengths, boundaries = np.asarray(lengths), np.unique(boundaries)
        if not len(boundaries) or (lengths > boundaries[-1]).any():
            longest, last = lengths.max(initial=0), boundaries[-1] if len(boundaries) else 0
            raise ValueError(f"an example of length {longest} is longer than the last boundary, {last}")
        self.batch_size, self.seed = batch_size, seed
        buckets = np.searchsorted(boundaries, lengths)  # [N]
        members = [(int(boundary), np.flatnonzero(buckets == number)) for number, boundary in enumerate(boundaries)]
        self._buckets = [(boundary, indices) for boundary, indices in members if len(indices)]
        self.num_batches = sum(-(-len(indices) // batch_size) for _, indices in self._buckets)
        self._num_steps = int(lengths.sum())  # without padding

    def plan(self, step: int) -> Plan:
        """See `Sampler`."""
        if self.seed is None:
            _check_step(step, self.num_batches)
        number, batch = divmod(step, self.num_batches)
        indices, masks, padded_lengths = _bucket_batches(self, number)
        return Plan(indices[batch].copy(), masks[batch].copy(), int(padded_lengths[batch]))

    @property
    def padding_fraction(self) -> float:
        """The share of padding in the steps of a pass; rows without an example are padding too."""
        padded_lengths = _bucket_batches(self, 0)[2]  # [num_batches]
        return 1 - self._num_steps / (self.batch_size * int(padded_lengths.sum()))


@dataclasses.dataclass(frozen=True)
class WindowSampler:
    """Windows of a stream of tokens. B rows are read in parallel; each continues where it ended in the previous batch.

    The stream of N tokens is divided into B consecutive rows of L = ceil(N / B) tokens. Batch j of a pass, after the
    warm-up, has tokens j T to (j + 1) T of every row. In each pass every token counts exactly once as a target.

    Without `warmup` there are endless passes, for training. With it there is one pass, for evaluation. Its first
    batches are the `warmup` tokens before each row, which do not count. If the net forgets within them, the carry at
    the start of a row is as if the whole text had been read before it, and the result is the same for every B and T.

    Attributes:
      num_tokens: N.
      batch_size, window: B and T.
      warmup: the number of tokens that a row reads before its own, rounded up to whole windows; None for training.
    """

    num_tokens: int
    batch_size: int
    window: int
    warmup: int | None = None

    @property
    def row_length(self) -> int:
        """L. With `warmup` it is rounded up to whole windows, so that the text begins with a window."""
        length = -(-self.num_tokens // self.batch_size)
        return length if self.warmup is None else -(-length // self.window) * self.window

    @property
    def warmup_windows(self) -> int:
        """The number of batches before the first that counts."""
        return -(-(self.warmup or 0) // self.window)

    @property
    def num_batches(self) -> int:
        """Batches in one pass."""
        return self.warmup_windows + -(-self.row_length // self.window)

    def plan(self, step: int) -> Plan:
        """See `Sampler`."""
        if self.warmup is None:
            step %= self.num_batches
        _check_step(step, self.num_batches)
        in_row = (step - self.warmup_windows) * self.window + np.arange(self.window)  # [T], offsets in the row
        offsets = np.arange(self.batch_size)[:, None] * self.row_length + in_row  # [B, T], offsets in the stream
        in_text = (offsets >= 0) & (offsets < self.num_tokens)
        counts = in_text & (in_row >= 0) & (in_row < self.row_length)
        reset = (offsets[:, 0] == 0) | (step == 0)
        return Plan(
            indices=np.where(in_text, offsets, 0).astype(np.int32),
            mask=counts.astype(np.float32),
            reset=reset.astype(np.float32),
            in_text=in_text,
        )


def bucket_boundaries(lengths: Sequence[int], count: int) -> tuple[int, ...]:
    """At most `count` padded lengths, so that the buckets have equal numbers of examples.

    >>> bucket_boundaries([3, 9, 2, 4, 8, 2], 3)
    (2, 4, 9)
    """
    ranked = np.sort(lengths)
    last = np.ceil(np.arange(1, count + 1) * len(ranked) / count).astype(int) - 1  # of each bucket
    return tuple(np.unique(ranked[last[last >= 0]]).tolist())


def best_boundaries(lengths: Sequence[int], count: int) -> tuple[int, ...]:
    """At most `count` padded lengths for which the examples have the least padding.

    >>> best_boundaries([1, 1, 1, 9, 9, 10], 2)
    (1, 10)
    """
    values, numbers = np.unique(lengths, return_counts=True)
    before = np.concatenate([[0], np.cumsum(numbers)])  # examples shorter than each value
    cost = np.full(len(values) + 1, np.inf)  # of the examples before each value, padded with the boundaries so far
    cost[0] = 0
    choices = []
    for _ in range(min(count, len(values))):
        # a bucket from value i up to value j pads its examples to value j
        totals = cost[:-1, None] + (before[1:] - before[:-1, None]) * values  # [i, j]
        totals[np.tril_indices(len(values), -1)] = np.inf
        choices.append(totals.argmin(0))
        cost = np.concatenate([[np.inf], totals.min(0)])
    boundaries, end = [], len(values)
    for choice in reversed(choices):
        boundaries.append(int(values[end - 1]))
        end = choice[end - 1]
        if end == 0:
            break
    return tuple(reversed(boundaries))


def _check_step(step: int, num_batches: int) -> None:
    if not 0 <= step < num_batches:
        raise IndexError(f"batch {step} of {num_batches}")


@functools.lru_cache(maxsize=4)  # a batch may need two passes, and threads may ask for two splits
def _permutation(seed: int, number: int, num_examples: int) -> np.ndarray:
    """The order [N] of the examples in pass `number`."""
    return np.random.default_rng((seed, number)).permutation(num_examples)


@functools.lru_cache(maxsize=4)
def _bucket_batches(sampler: BucketSampler, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All batches of pass `number`: the indices and masks [num_batches, B] and padded lengths [num_batches]."""
    rng = None if sampler.seed is None else np.random.default_rng((sampler.seed, number))
    indices, masks, padded_lengths = [], [], []
    for boundary, members in sampler._buckets:
        members = members if rng is None else rng.permutation(members)
        padding = (0, -len(members) % sampler.batch_size)
        indices.append(np.pad(members, padding).reshape(-1, sampler.batch_size))
        masks.append(np.pad(np.ones(len(members)), padding).reshape(-1, sampler.batch_size))
        padded_lengths.append(np.full(len(indices[-1]), boundary))
    order = np.arange(sampler.num_batches) if rng is None else rng.permutation(sampler.num_batches)
    return (
        np.concatenate(indices).astype(np.int32)[order],
        np.concatenate(masks).astype(np.float32)[order],
        np.concatenate(padded_lengths)[order],
    )
