"""Metrics are sums: they do not depend on the division of a set into batches."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn import metrics
from cnnrnn.metrics import Average, BitsPerCharacter, ErrorRate, Perplexity


def test_masked_values_count_nothing_whatever_they_are():
    average = Average.of(jnp.array([1.0, 2.0, jnp.nan, jnp.inf]), jnp.array([1, 1, 0, 0]))
    assert average.compute() == 1.5


def test_uneven_batches_merge_to_the_mean_of_all():
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    parts = [{"x": Average.of(jnp.asarray(part), jnp.ones(len(part)))} for part in np.split(values, [3, 50, 51])]
    total = parts[0]
    for part in parts[1:]:
        total = metrics.merge(total, part)
    assert metrics.compute(total)["x"] == pytest.approx(values.mean(), rel=1e-5)


def test_nothing_counted_is_no_number():
    assert math.isnan(Average(0.0, 0.0).compute())


def test_an_error_rate_is_of_all_references_together():
    merged = metrics.merge({"x": ErrorRate(1, 2)}, {"x": ErrorRate(3, 8)})["x"]
    assert isinstance(merged, ErrorRate) and merged.compute() == 0.4
    assert math.isnan(ErrorRate(0, 0).compute())


def test_the_steps_of_a_program_are_split():
    sums = {"loss": Average(jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]))}
    assert [one["loss"] for one in metrics.split_steps(sums)] == [(1, 3), (2, 4)]


def test_fetch_brings_float64():
    (fetched,) = metrics.fetch([{"x": Average.of(jnp.array([0.1]), jnp.array([1.0]))}])
    assert fetched["x"].total.dtype == np.float64 and isinstance(fetched["x"], Average)


def test_perplexity_and_bits_are_of_the_whole():
    nats = jnp.log(jnp.array([[2.0, 8.0], [4.0, 1e9]]))
    mask = jnp.array([[1.0, 1.0], [1.0, 0.0]])
    sums = Average.of(nats, mask)
    assert Perplexity(*sums).compute() == pytest.approx(4.0)
    assert BitsPerCharacter(sums.total, 12.0).compute() == pytest.approx(0.5)
    assert np.isfinite(Perplexity(1e9, 1.0).compute())
