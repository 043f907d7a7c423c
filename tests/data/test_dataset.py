"""A batch is a function of (seed, step), a pass shows every example once, padding is masked."""

import numpy as np
import pytest

from cnnrnn.data.dataset import ArrayDataset, Order
from cnnrnn.errors import DataError


def numbers(count, batch_size, seed):
    return ArrayDataset({"x": np.arange(count)}, batch_size, seed, {}, {})


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (12, 4), (3, 7), (100, 7)])
def test_every_pass_shows_every_example_once_in_a_new_order(count, batch_size):
    data = numbers(count, batch_size, seed=1)
    stream = np.concatenate([data.batch(step)["x"] for step in range(3 * count // batch_size + 1)])
    passes = stream[: 3 * count].reshape(3, count)
    assert (np.sort(passes, axis=1) == np.arange(count)).all()
    if count >= 10:
        assert (passes[0] != passes[1]).any()


def test_a_batch_depends_on_seed_and_step_alone():
    data, again, other = (numbers(50, 8, seed) for seed in (1, 1, 2))
    for step in (17, 3, 0, 17):
        np.testing.assert_array_equal(data.batch(step)["x"], again.batch(step)["x"])
    assert (data.batch(3)["x"] != other.batch(3)["x"]).any()
    assert data.batch(0)["mask"].tolist() == [1] * 8


@pytest.mark.parametrize("batch_size", [1, 7, 20, 33])
def test_evaluation_batches_hold_every_example_once(batch_size):
    data = numbers(20, batch_size, seed=None)
    batches = [data.batch(number) for number in range(data.num_batches)]
    assert all(len(batch["x"]) == len(batch["mask"]) == batch_size for batch in batches)
    real = np.concatenate([batch["x"][batch["mask"] == 1] for batch in batches])
    np.testing.assert_array_equal(real, np.arange(20))
    with pytest.raises(IndexError):
        data.batch(data.num_batches)


def test_info_notices_a_changed_array():
    one, other = numbers(5, 2, 0), ArrayDataset({"x": np.array([0, 1, 2, 3, 5])}, 2, 0, {}, {})
    assert one.info["num_examples"] == 5 and one.info != other.info and one.info == numbers(5, 3, 1).info


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match="no examples"):
        numbers(0, 2, 0)


def test_the_order_is_that_of_numpys_generator_for_seed_and_pass():
    """Runs that were started long ago go on with it."""
    order, rng = Order(num_examples=10, batch_size=4, seed=3), np.random.default_rng
    stream = np.concatenate([rng((3, number)).permutation(10) for number in range(4)])
    rows = np.concatenate([order.places(step)["row"] for step in range(10)])
    np.testing.assert_array_equal(rows, stream)
    assert rows.dtype == np.int32 and order.num_batches == 3
    places = Order(10, 4, None).places(2)
    assert places["row"].tolist() == [8, 9, 0, 0] and places["mask"].tolist() == [1, 1, 0, 0]
