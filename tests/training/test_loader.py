"""The devices get the same batches, one by one or several at once, from the host or from a data set on the devices."""

import jax
import numpy as np
import pytest
from conftest import shapes_dataset
from ml_collections import ConfigDict

from cnnrnn.data.dataset import Dataset
from cnnrnn.data.sampling import BucketSampler
from cnnrnn.errors import ConfigError
from cnnrnn.training import loop
from cnnrnn.training.loader import BatchLoader
from cnnrnn.training.parallel import make_devices


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_a_set_on_the_devices_gives_the_batches_of_the_host(parallel):
    data, devices = shapes_dataset(batch_size=10), make_devices(parallel)  # 10 are padded to 12
    host, device = (BatchLoader(data, devices, where).batches(2, 3) for where in ("host", "device"))
    assert device["image"].dtype == np.uint8 and device["mask"].sum() == 30
    for name in ("image", "label", "index"):  # padding may differ: its mask is 0
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


def chunks(loader, num_steps, *arguments):
    """The lengths of the programs of a run."""
    step = 0
    while step < num_steps:
        yield (count := loader.chunk_length(step, num_steps, *arguments))
        step += count


def test_steps_are_chunked_where_nothing_is_due_between():
    loader = BatchLoader(shapes_dataset(), make_devices("jit"), "host")
    assert [*chunks(loader, 40, 10, 20, None)] == [10] * 4
    assert [*chunks(loader, 40, 8, 40)] == [8] * 5
    assert [*chunks(loader, 40, 8, 20)] == [8, 8, 1, 1, 1, 1, 1, 1, 1, 1, 8, 8]
    assert [*chunks(loader, 40, 1, 7)] == [1] * 40
    assert [*chunks(loader, 40, 30, 40)] == [30] + [1] * 10  # the end of the run is due too


class Words:
    """Sequences of 1 to 4 numbers, all equal to their length."""

    fingerprint = 0
    lengths = np.arange(64) % 4 + 1

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        return {"x": np.full(self.lengths[index], self.lengths[index])}


def test_chunks_end_where_shapes_change():
    sampler = BucketSampler(Words.lengths, 4, (2, 4), seed=0)
    loader = BatchLoader(Dataset(Words(), sampler, dims={}, info={}), make_devices("jit"), "host")
    lengths = [sampler.plan(step).length for step in range(32)]
    assert {2, 4} == set(lengths)
    step, seen = 0, set()
    for count in chunks(loader, 32, 2):
        assert len(set(lengths[step : step + count])) == 1
        assert loader.batches(step, count)["x"].shape == (count, 4, lengths[step])
        step, seen = step + count, seen | {count}
    assert seen == {1, 2}


def test_a_data_set_on_disk_cannot_be_on_the_device():
    with pytest.raises(ConfigError, match="data_on"):
        sampler = BucketSampler(Words.lengths, 4, (2, 4), seed=0)
        BatchLoader(Dataset(Words(), sampler, dims={}, info={}), make_devices("jit"), "device")


def test_auto_sends_each_batch_on_a_cpu():
    assert jax.default_backend() == "cpu"
    assert BatchLoader(shapes_dataset(), make_devices("jit"), "auto")._arrays is None
