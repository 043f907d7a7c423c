"""Metrics as sums. Merging adds the fields of two sums; computing divides, once, at the end.

So a metric of a data set does not depend on its division into batches or devices, and padding does not count.
A sum is a named tuple of numbers with a method `compute`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cnnrnn.errors import ConfigError


class Sum(Protocol):
    """A named tuple whose fields may be added: scalars on a device inside a step, numbers on the host."""

    def compute(self) -> float:
        """The number to report."""
        ...


Sums = dict[str, Sum]


class Average(NamedTuple):
    """A weighted sum, and the sum of its weights.

    >>> first = Average.of(jnp.array([1.0, 3.0]), mask=jnp.array([1, 1]))
    >>> last = Average.of(jnp.array([5.0, jnp.nan]), mask=jnp.array([1, 0]))  # padded
    >>> merge({"loss": first}, {"loss": last})["loss"].compute()
    3.0
    """

    total: jax.Array | float
    weight: jax.Array | float

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array) -> "Average":
        """Sums `values` [...] where `mask` [...] is not 0.

        Masked values may be NaN. Their gradients are finite only if the inputs of `values` are masked as well.
        """
        mask = jnp.asarray(mask, jnp.float32)
        values = jnp.where(mask > 0, values.astype(jnp.float32), 0.0)  # NaN * 0 would be NaN
        return cls(jnp.sum(values * mask), jnp.sum(mask))

    def compute(self) -> float:
        """The mean; NaN if the weight is 0."""
        return float(self.total) / float(self.weight) if self.weight else float("nan")


class Perplexity(Average):
    """The exponential of the mean loss in nats, at most e^700, which float64 still holds."""

    def compute(self) -> float:
        """exp(total / weight)."""
        return math.exp(min(super().compute(), 700.0))


class BitsPerCharacter(Average):
    """The loss of a text in nats, and its number of characters, whatever a token is."""

    def compute(self) -> float:
        """The mean in bits."""
        return super().compute() / math.log(2)


class ErrorRate(NamedTuple):
    """Edits that turn the predictions into the references, and the length of the references."""

    edits: float
    length: float

    def compute(self) -> float:
        """Edits per unit of reference; it may exceed 1. NaN without references."""
        return float(self.edits) / float(self.length) if self.length else float("nan")


class Bleu(NamedTuple):
    """The counts of sacrebleu's corpus BLEU: n-grams of the hypotheses, and how many of them the references have.

    Attributes:
      matches, totals: [4], for n = 1 to 4.
      length, reference_length: in tokens of sacrebleu.
    """

    matches: np.ndarray
    totals: np.ndarray
    length: float
    reference_length: float

    @classmethod
    def of(cls, hypotheses: Sequence[str], references: Sequence[str]) -> "Bleu":
        """Counts one reference for each hypothesis: mixed case, tokenized as mteval-v13a does.

        Raises:
          ConfigError: sacrebleu is not installed.
        """
        score = _sacrebleu().BLEU().corpus_score(list(hypotheses), [list(references)])
        return cls(np.array(score.counts, float), np.array(score.totals, float), score.sys_len, score.ref_len)

    def compute(self) -> float:
        """From 0 to 100."""
        counts = [[int(number) for number in numbers] for numbers in (self.matches, self.totals)]
        sizes = int(self.length), int(self.reference_length)
        return _sacrebleu().BLEU.compute_bleu(*counts, *sizes, smooth_method="exp").score


def _sacrebleu():
    try:
        from sacrebleu import metrics
    except ImportError:
        raise ConfigError("BLEU needs sacrebleu - pip install '.[translation]'") from None
    return metrics


def edit_distance(first: Sequence, second: Sequence) -> int:
    """The smallest number of insertions, deletions and replacements that turn one sequence into the other.

    >>> edit_distance("kitten", "sitting")
    3
    """
    row = list(range(len(second) + 1))
    for number, one in enumerate(first, start=1):
        diagonal, row[0] = row[0], number
        for place, other in enumerate(second, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (one != other))
    return row[-1]


def merge(first: Sums, second: Sums) -> Sums:
    """The sums over the union of two disjoint sets of examples."""
    return {name: type(new)(*(a + b for a, b in zip(first[name], new, strict=True))) for name, new in second.items()}


def compute(sums: Sums) -> dict[str, float]:
    """Every metric as a number."""
    return {name: value.compute() for name, value in sums.items()}


def fetch(sums: Any) -> Any:
    """Moves a tree of sums to the host in one transfer, as float64, so that their sums hardly round."""
    return jax.tree.map(np.float64, jax.device_get(sums))


def split_steps(sums: Sums) -> list[Sums]:
    """The sums of K steps, arrays [K], as a list of the sums of each step."""
    return [jax.tree.map(lambda x, k=k: x[k], sums) for k in range(len(sums["loss"].total))]
