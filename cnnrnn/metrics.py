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


class CorpusScore(NamedTuple):
    """The statistics [n] from which sacrebleu computes a score of a corpus. Those of sentences add."""

    statistics: np.ndarray


class Bleu(CorpusScore):
    """Corpus BLEU, from 0 to 100. Source: Papineni et al. 2002, as in Post 2018."""

    @classmethod
    def of(
        cls, hypotheses: Sequence[str], references: Sequence[str], tokenize: str = "13a", lowercase: bool = False
    ) -> "Bleu":
        """The statistics of one reference for each hypothesis.

        Args:
          hypotheses, references: sentences.
          tokenize: sacrebleu's name of the tokenizer; "none" for sentences that are tokenized.
          lowercase: whether case is ignored.

        Raises:
          ConfigError: sacrebleu is not installed.
        """
        metric = _sacrebleu().BLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        return cls(_statistics(metric, hypotheses, references))

    @staticmethod
    def signature(tokenize: str = "13a", lowercase: bool = False) -> str:
        """sacrebleu's signature, which makes the score comparable."""
        return _signature(_sacrebleu().BLEU(tokenize=tokenize, lowercase=lowercase, force=True))

    def compute(self) -> float:
        """The score, with sacrebleu's default smoothing."""
        return _sacrebleu().BLEU()._compute_score_from_stats(self.statistics.astype(int).tolist()).score


class Chrf(CorpusScore):
    """chrF2, the F-score of n-grams of characters, from 0 to 100. Source: Popovic 2015, 2016."""

    @classmethod
    def of(cls, hypotheses: Sequence[str], references: Sequence[str], lowercase: bool = False) -> "Chrf":
        """The statistics of one reference for each hypothesis. See `Bleu.of`."""
        return cls(_statistics(_sacrebleu().CHRF(lowercase=lowercase), hypotheses, references))

    @staticmethod
    def signature(lowercase: bool = False) -> str:
        """sacrebleu's signature, which makes the score comparable."""
        return _signature(_sacrebleu().CHRF(lowercase=lowercase))

    def compute(self) -> float:
        """The score."""
        return _sacrebleu().CHRF()._compute_score_from_stats(self.statistics.astype(int).tolist()).score


def _sacrebleu():
    try:
        from sacrebleu import metrics
    except ImportError:
        raise ConfigError("BLEU needs sacrebleu - pip install '.[translation]'") from None
    return metrics


def _statistics(metric: Any, hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    # no public method of sacrebleu returns those of chrF
    return np.sum(metric._extract_corpus_statistics(list(hypotheses), [list(references)]), axis=0, dtype=float)


def _signature(metric: Any) -> str:
    metric.corpus_score(["a"], [["a"]])  # before it, sacrebleu does not know the number of references
    return metric.get_signature().format()


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
