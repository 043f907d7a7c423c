"""A batch is a function of (seed, step), whatever holds the examples; padding is masked; and JAX is not needed."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnrnn import signatures
from cnnrnn.data.dataset import ArraySource, Dataset, collate, pad_batch
from cnnrnn.data.images import published
from cnnrnn.data.images.custom import image_set
from cnnrnn.data.sampling import BucketSampler, Plan, SequentialSampler, ShuffledSampler
from cnnrnn.data.text import stream
from cnnrnn.errors import DataError


class Examples:
    """The rows of arrays as examples, one at a time."""

    def __init__(self, arrays):
        self.arrays, self.fingerprint = arrays, 7

    def __len__(self):
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, index):
        assert type(index) is int
        return {name: array[index] for name, array in self.arrays.items()}


class ManyExamples(Examples):
    """The same, many at a time."""

    def __getitems__(self, indices):
        return [super(ManyExamples, self).__getitem__(index) for index in indices]

    def __getitem__(self, index):
        raise AssertionError("read one at a time")


def make_sampler(count, batch_size, seed):
    return SequentialSampler(count, batch_size) if seed is None else ShuffledSampler(count, batch_size, seed)


def numbers(count, batch_size, seed, source=ArraySource):
    arrays = {"x": np.arange(count) + 100, "image": np.arange(6 * count, dtype=np.uint8).reshape(count, 2, 3)}
    return Dataset(source(arrays), make_sampler(count, batch_size, seed), dims={}, info={})


@pytest.mark.parametrize("source", [ArraySource, Examples, ManyExamples])
@given(st.integers(1, 30), st.integers(1, 12), st.sampled_from([None, 0, 7]), st.integers(0, 9))
def test_a_batch_is_what_the_plan_says(source, count, batch_size, seed, step):
    data = numbers(count, batch_size, seed, source)
    assert data.num_batches == data.sampler.num_batches
    if seed is None and step >= data.num_batches:
        with pytest.raises(IndexError):
            data.batch(step)
        return
    batch, plan = data.batch(step), data.sampler.plan(step)
    assert batch.keys() == {"x", "image", "index", "mask"}
    np.testing.assert_array_equal(batch["index"], plan.indices)
    np.testing.assert_array_equal(batch["mask"], plan.mask)
    assert (batch["index"].dtype, batch["mask"].dtype) == (np.int32, np.float32)
    for name, array in data.source.arrays.items():
        for index, mask, row in zip(plan.indices, plan.mask, batch[name], strict=True):
            np.testing.assert_array_equal(row, array[index] if mask else 0)
        assert batch[name].dtype == array.dtype


def test_a_batch_in_memory_is_one_gather_a_field_and_a_copy():
    class Counted(np.ndarray):
        gathers = 0

        def __getitem__(self, index):
            Counted.gathers += isinstance(index, np.ndarray) and index.dtype == np.int32
            return super().__getitem__(index)

    array = np.arange(40).view(Counted)
    data = Dataset(ArraySource({"x": array}), ShuffledSampler(40, 8, 0), dims={}, info={})
    batch = data.batch(0)
    assert Counted.gathers == 1
    batch["x"][:] = -1
    assert (data.source.arrays["x"] >= 0).all()


def test_evaluation_batches_hold_every_example_once():
    data = numbers(20, 7, None)
    batches = [data.batch(step) for step in range(data.num_batches)]
    real = np.concatenate([batch["x"][batch["mask"] == 1] for batch in batches])
    np.testing.assert_array_equal(real, np.arange(20) + 100)


def test_the_info_notices_a_changed_array():
    one = numbers(5, 2, 0)
    other = Dataset(ArraySource({**one.source.arrays, "x": np.array([0, 1, 2, 3, 5])}), one.sampler, dims={}, info={})
    assert one.info["num_examples"] == 5 and one.info != other.info and one.info == numbers(5, 3, 1).info
    data = Dataset(Examples(one.source.arrays), one.sampler, dims={"num_classes": 2}, info={"class_names": ["a", "b"]})
    assert data.info == {"class_names": ["a", "b"], "dims": data.dims, "num_examples": 5, "fingerprint": 7}


def test_an_empty_split_is_refused():
    with pytest.raises(DataError, match="no examples"):
        numbers(0, 2, 0)


# --- examples of different lengths


class Sentences:
    """Sentences of one to four words, and what a score would compare with."""

    fingerprint = 0

    def __init__(self, count=20):
        self.lengths = np.arange(count) % 4 + 1

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, index):
        length = int(self.lengths[index])
        return {"tokens": np.full(length, index + 1, np.int32), "length": length, "text": "x " * length, "id": 0.5}


def test_sequences_are_padded_to_the_length_of_their_bucket():
    source = Sentences()
    data = Dataset(source, BucketSampler(source.lengths, 4, (2, 4), 0), dims={}, info={})
    shapes = set()
    for step in range(data.num_batches):
        batch = data.batch(step)
        assert batch.keys() == {"tokens", "length", "id", "mask", "index"}  # text has no shape
        assert batch["tokens"].shape == (4, data.sampler.plan(step).length)
        expected = np.where(batch["mask"] == 1, source.lengths[batch["index"]], 0)
        np.testing.assert_array_equal(batch["length"], expected)
        np.testing.assert_array_equal((batch["tokens"] > 0).sum(1), expected)
        np.testing.assert_array_equal(batch["tokens"].max(1), np.where(batch["mask"] == 1, batch["index"] + 1, 0))
        shapes.add(batch["tokens"].shape)
    assert shapes == {(4, 2), (4, 4)}


def test_a_source_in_memory_goes_through_a_collate_of_the_users_and_through_buckets():
    source = ArraySource({"x": np.arange(12).reshape(6, 2)})
    double = lambda examples, length: {"y": 2 * collate(examples, length)["x"]}  # noqa: E731
    batch = Dataset(source, SequentialSampler(6, 4), double, dims={}, info={}).batch(1)
    assert batch["y"].tolist() == [[16, 18], [20, 22], [0, 0], [0, 0]]
    batch = Dataset(source, BucketSampler([2] * 6, 4, (3,), None), dims={}, info={}).batch(0)
    assert batch["x"].tolist() == [[0, 1, 0], [2, 3, 0], [4, 5, 0], [6, 7, 0]]


def test_collate_stacks_numbers_and_arrays_alone():
    example = {"a": 3, "b": 2.5, "c": True, "d": np.float64(1)}
    example |= {"e": "text", "f": b"bytes", "g": np.str_("x"), "h": None, "i": ["a"]}
    batch = collate([example, example])
    kinds = {name: array.dtype for name, array in batch.items()}
    assert kinds == {"a": np.int32, "b": np.float32, "c": np.bool_, "d": np.float64}
    assert all(array.shape == (2,) for array in batch.values())


def test_an_example_longer_than_its_batch_is_refused():
    with pytest.raises(ValueError, match="tokens of an example has length 3, which is more than 2"):
        collate([{"tokens": np.arange(3)}], 2)


def test_a_batch_is_padded_with_zeros():
    batch = {"x": np.ones((3, 2), np.uint8), "mask": np.ones(3, np.float32)}
    padded = pad_batch(batch, 5)
    assert padded["x"].tolist() == [[1, 1]] * 3 + [[0, 0]] * 2 and padded["mask"].tolist() == [1, 1, 1, 0, 0]
    assert padded["x"].dtype == np.uint8 and pad_batch(batch, 3)["x"].shape == (3, 2)


def test_a_stream_is_gathered_where_there_is_text():
    class Pairs:
        num_batches = 1

        def plan(self, step):
            indices = np.array([[0, 1], [3, 0]], np.int32)
            in_text = np.array([[True, True], [True, False]])
            mask = np.array([[0, 1], [1, 0]], np.float32)
            return Plan(indices, mask, reset=np.array([1, 0], np.float32), in_text=in_text)

    data = Dataset(ArraySource({"x": np.array([5, 6, 7, 8])}), Pairs(), dims={}, info={})
    batch = data.batch(0)
    assert batch["x"].tolist() == [[5, 6], [8, 0]] and batch["mask"].tolist() == [[0, 1], [1, 0]]
    assert batch["index"].tolist() == [[0, 1], [3, 0]] and batch["reset"].tolist() == [1, 0]


# --- the constructors of a config


@pytest.mark.parametrize(
    "constructor", [published.digits, published.mnist, published.fashion_mnist, published.cifar10, image_set, stream]
)
def test_where_the_data_are_and_how_they_are_read_may_change_when_a_run_is_resumed(constructor):
    fields = signatures.read(constructor)
    may_change = {"source", "data_dir", "manual_dir", "eval_batch_size", "workers", "timeout"}
    assert {name for name, field in fields.items() if field.resumable} == may_change & fields.keys()


# --- without JAX

SCRIPT = """
import importlib, pkgutil, sys
import cnnrnn.data
for module in pkgutil.walk_packages(cnnrnn.data.__path__, "cnnrnn.data."):
    importlib.import_module(module.name)
from cnnrnn.data.images.custom import image_set
if __name__ == "__main__":
    train = image_set(0, source=sys.argv[1], size=8, batch_size=2, memory_limit=0, workers=int(sys.argv[2]))["train"]
    assert all(train.batch(step)["image"].any() for step in range(4))
    train.close()
    print(*{"jax", "flax", "optax", "grain", "tensorflow", "torch"} & sys.modules.keys())
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_data_is_read_without_jax(tmp_path, workers):
    """Whatever of the package is imported; a set that is read during training imports nothing more."""
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9, 9), (9, 9, number + 1)).save(tmp_path / "set" / name / f"{number}.png")
    (tmp_path / "script.py").write_text(SCRIPT)
    words = [sys.executable, tmp_path / "script.py", tmp_path / "set", str(workers)]
    done = subprocess.run(words, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout == "\n", done.stdout + done.stderr
