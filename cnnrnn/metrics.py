"""Metrics as sums that add: merging adds, computing divides, once, at the end.

So a metric over a data set does not depend on how the set was cut into batches, and a padded example counts nothing.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Average(NamedTuple):
    """A weighted sum on its way to a mean: two scalars, arrays in a step and numbers on the host."""

    total: jax.Array | float
    weight: jax.Array | float

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array) -> "Average":
        """The sum of `values` [...] where `mask` [...], of the same shape, is not 0."""
        mask = jnp.asarray(mask, jnp.float32)
        values = jnp.where(mask > 0, values.astype(jnp.float32), 0.0)  # padding may hold anything, NaN included
        return cls(jnp.sum(values * mask), jnp.sum(mask))

    def compute(self) -> float:
        """The mean; NaN if nothing was counted."""
        return float(self.total) / float(self.weight) if self.weight else float("nan")


class Perplexity(Average):
    """From the nats of tokens: e to their mean, at most e^700, which float64 still holds."""

    def compute(self) -> float:
        """See above."""
        return math.exp(min(super().compute(), 700.0))


class BitsPerCharacter(Average):
    """From the nats of a text and its number of characters, whatever a token was."""

    def compute(self) -> float:
        """The mean in bits."""
        return super().compute() / math.log(2)


def merge(one: dict[str, Average], other: dict[str, Average]) -> dict[str, Average]:
    """The metrics of two disjoint sets of examples taken together."""
    return {name: type(new)(*(a + b for a, b in zip(one[name], new, strict=True))) for name, new in other.items()}


def compute(metrics: dict[str, Average]) -> dict[str, float]:
    """Every metric as the number to report."""
    return {name: value.compute() for name, value in metrics.items()}


def fetch(batches: list[dict[str, Average]]) -> list[dict[str, Average]]:
    """The metrics of many batches brought from the device in one go, as float64, in which adding hardly rounds."""
    return jax.tree.map(np.float64, jax.device_get(batches))


def split(metrics: dict[str, Average]) -> list[dict[str, Average]]:
    """The metrics of K steps, [K] each, one by one."""
    count = len(metrics["loss"].total)
    return [jax.tree.map(lambda sums, k=k: sums[k], metrics) for k in range(count)]


def wait_for(batches: list[dict[str, Average]]) -> None:
    """Waits until the last of these is computed, so that no more than a few steps queue up on the device."""
    if batches:
        jax.block_until_ready(batches[-1])
