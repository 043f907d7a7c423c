"""A plan is a function of (seed, step), and each example is seen once a pass, whatever the sampler."""

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnrnn.data.sampling import BucketSampler, SequentialSampler, ShuffledSampler, WindowSampler, bucket_boundaries

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=60)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (3, 7), (100, 7)])
def test_every_pass_shows_every_example_once_in_a_new_order(count, batch_size):
    sampler = ShuffledSampler(count, batch_size, seed=1)
    stream = np.concatenate([sampler.plan(step).indices for step in range(3 * count // batch_size + 1)])
    passes = stream[: 3 * count].reshape(3, count)
    assert (np.sort(passes, axis=1) == np.arange(count)).all()
    if count >= 10:
        assert (passes[0] != passes[1]).any()


def test_a_shuffled_order_is_that_of_numpys_generator_for_seed_and_pass():
    """Runs of earlier versions continue with it."""
    sampler, rng = ShuffledSampler(num_examples=10, batch_size=4, seed=3), np.random.default_rng
    stream = np.concatenate([rng((3, number)).permutation(10) for number in range(4)])
    indices = np.concatenate([sampler.plan(step).indices for step in range(10)])
    np.testing.assert_array_equal(indices, stream)
    assert indices.dtype == np.int32 and sampler.num_batches == 3
    plan = SequentialSampler(10, 4).plan(2)
    assert plan.indices.tolist() == [8, 9, 0, 0] and plan.mask.tolist() == [1, 1, 0, 0]


SAMPLERS = [
    lambda seed: ShuffledSampler(50, 8, seed),
    lambda seed: BucketSampler(np.arange(50) % 7 + 1, 8, (3, 7), seed),
]


@pytest.mark.parametrize("make", SAMPLERS)
def test_a_plan_depends_on_seed_and_step_alone(make):
    sampler, again, other = make(1), pickle.loads(pickle.dumps(make(1))), make(2)  # noqa: S301
    for step in (17, 3, 0, 17):
        np.testing.assert_equal(sampler.plan(step), again.plan(step))
    assert any((sampler.plan(step).indices != other.plan(step).indices).any() for step in range(3))
    sampler.plan(4).indices[:] = sampler.plan(4).mask[:] = -1  # the caller owns what it gets
    np.testing.assert_equal(sampler.plan(4), again.plan(4))


@pytest.mark.parametrize("make", SAMPLERS)
def test_threads_that_ask_at_once_get_the_same_plans(make):
    sampler, wrong = make(1), []
    expected = [make(1).plan(step) for step in range(60)]  # of more passes than are cached

    def ask(steps):
        wrong.extend(step for step in steps if (sampler.plan(step).indices != expected[step].indices).any())

    rng = np.random.default_rng(0)
    threads = [threading.Thread(target=ask, args=(rng.permutation(60),)) for _ in range(8)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert not wrong


@pytest.mark.parametrize("make", SAMPLERS)
def test_the_order_of_a_pass_is_computed_once(make, monkeypatch):
    sampler, calls, rng = make(12345), [], np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: calls.append(seed) or rng(seed))
    for step in range(sampler.num_batches):
        sampler.plan(step)
    assert 1 <= len(calls) <= 2  # a shuffled batch may reach into the second pass


@pytest.mark.parametrize("batch_size", [1, 7, 20, 33])
def test_one_pass_holds_every_example_once(batch_size):
    sampler = SequentialSampler(20, batch_size)
    plans = [sampler.plan(step) for step in range(sampler.num_batches)]
    assert all(len(plan.indices) == len(plan.mask) == batch_size for plan in plans)
    np.testing.assert_array_equal(np.concatenate([plan.indices[plan.mask == 1] for plan in plans]), np.arange(20))
    assert all((plan.indices[plan.mask == 0] == 0).all() for plan in plans)


@pytest.mark.parametrize(
    "sampler", [SequentialSampler(20, 6), BucketSampler(np.arange(20), 6, (9, 20), None), WindowSampler(20, 2, 3, 0)]
)
def test_there_is_nothing_outside_one_pass(sampler):
    sampler.plan(sampler.num_batches - 1)
    for step in (sampler.num_batches, -1):
        with pytest.raises(IndexError, match=f"batch {step} of {sampler.num_batches}"):
            sampler.plan(step)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 5), st.sampled_from([None, 0, 7]))
def test_buckets_hold_every_example_once_a_pass(lengths, batch_size, num_buckets, seed):
    boundaries = bucket_boundaries(lengths, num_buckets)
    sampler = BucketSampler(lengths, batch_size, boundaries, seed)
    for number in range(1 if seed is None else 2):
        seen, padded = [], 0
        for step in range(number * sampler.num_batches, (number + 1) * sampler.num_batches):
            plan = sampler.plan(step)
            real = plan.indices[plan.mask == 1]
            assert plan.indices.shape == plan.mask.shape == (batch_size,) and len(real)
            assert (plan.indices.dtype, plan.mask.dtype, type(plan.length)) == (np.int32, np.float32, int)
            assert (plan.indices[len(real) :] == 0).all() and plan.mask[: len(real)].all()
            for index in real:
                assert plan.length == min(boundary for boundary in boundaries if boundary >= lengths[index])
            seen += real.tolist()
            padded += batch_size * plan.length
        assert sorted(seen) == list(range(len(lengths)))
        np.testing.assert_allclose(sampler.padding_fraction, 1 - sum(lengths) / padded)


def test_batches_of_buckets_are_shuffled_and_their_examples_too():
    lengths = [1] * 20 + [5] * 20
    sampler, ordered = BucketSampler(lengths, 4, (1, 5), 0), BucketSampler(lengths, 4, (5, 1), None)
    assert [ordered.plan(step).length for step in range(10)] == [1] * 5 + [5] * 5
    assert np.concatenate([ordered.plan(step).indices for step in range(10)]).tolist() == list(range(40))
    passes = [[sampler.plan(number * 10 + step) for step in range(10)] for number in range(2)]
    orders = [[plan.length for plan in plans] for plans in passes]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == [1] * 5 + [5] * 5
    batches = [{tuple(sorted(plan.indices)) for plan in plans} for plans in passes]
    assert batches[0] != batches[1]  # other examples meet


def test_an_example_that_no_bucket_holds_is_refused():
    for boundaries in ((4, 8), ()):
        with pytest.raises(ValueError, match="length 9 is longer than the last boundary"):
            BucketSampler([3, 9, 2], 2, boundaries, 0)


@given(LENGTHS, st.integers(1, 8))
def test_boundaries_are_few_and_divide_the_examples_equally(lengths, count):
    boundaries = bucket_boundaries(lengths, count)
    assert list(boundaries) == sorted({*boundaries}) and 1 <= len(boundaries) <= count
    assert boundaries[-1] == max(lengths) and {*boundaries} <= {*lengths}
    different = bucket_boundaries(range(1, 25), count)
    sizes = np.diff([0, *different])
    assert len(different) == count and np.ptp(sizes) <= 1


def test_more_buckets_pad_less():
    lengths = np.random.default_rng(0).poisson(12, 1000) + 1
    shares = [BucketSampler(lengths, 10, bucket_boundaries(lengths, n), 0).padding_fraction for n in (1, 2, 4, 8)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.4 and shares[-1] < 0.2
    assert BucketSampler([4] * 20, 10, (4,), 0).padding_fraction == 0
