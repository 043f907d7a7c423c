"""Batches reach the devices the same, one by one or several at once, from the host or from a set that lies there."""

import jax
import numpy as np
import pytest
from conftest import shapes_dataset
from ml_collections import ConfigDict

from cnnrnn.errors import ConfigError
from cnnrnn.training import loop
from cnnrnn.training.feed import Feed, steps_together
from cnnrnn.training.parallel import make_devices


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_a_set_on_the_devices_gives_the_batches_of_the_host(parallel):
    data, devices = shapes_dataset(batch_size=10), make_devices(parallel)  # 10 are filled up to 12
    host, device = (Feed(data, devices, where).batches(2, 3) for where in ("host", "device"))
    assert device["image"].dtype == np.uint8 and device["mask"].sum() == 30
    for name in ("image", "label"):  # what is filled in may differ: its mask is 0
        ours, expected = (np.asarray(batches[name])[np.asarray(batches["mask"]) > 0] for batches in (device, host))
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_the_run_is_the_same(tmp_path, config: ConfigDict, parallel):
    config.train.parallel = parallel
    config.data.batch_size = 10
    plain = loop.train(config, str(tmp_path / "plain"))
    config.train.update(data_on="device", steps_per_dispatch=2)
    other = loop.train(config, str(tmp_path / "other"))
    assert other == {name: pytest.approx(value, rel=1e-5) for name, value in plain.items()}


def test_steps_come_together_where_nothing_is_due_between():
    cut = lambda per_dispatch, *periods: [*_walk(40, per_dispatch, *periods)]  # noqa: E731
    assert cut(10, 20, None) == [10] * 4
    assert cut(8, 40) == [8] * 5
    assert cut(8, 20) == [8, 8, 1, 1, 1, 1, 1, 1, 1, 1, 8, 8]
    assert cut(1, 7) == [1] * 40
    assert cut(30, 40) == [30] + [1] * 10  # the end of the run is due too


def _walk(num_steps, *arguments):
    step = 0
    while step < num_steps:
        yield (count := steps_together(step, num_steps, *arguments))
        step += count


def test_a_text_cannot_lie_on_the_device():
    with pytest.raises(ConfigError, match="data_on"):
        Feed(object(), make_devices("jit"), "device")


def test_auto_sends_each_batch_on_a_cpu():
    assert jax.default_backend() == "cpu" and Feed(shapes_dataset(), make_devices("jit"), "auto")._set is None
