"""The embedded digits, and labels that a net could not have."""

import numpy as np
import pytest

from cnnrnn.data import builders
from cnnrnn.data.images import published
from cnnrnn.errors import DataError


def test_digits_are_split_shuffled_and_complete():
    splits = published.digits(seed=0)
    train, test = (splits[split].source.arrays for split in ("train", "test"))
    assert train["image"].shape == (4000, 28, 28, 1) and test["image"].shape == (1000, 28, 28, 1)
    assert train["image"].dtype == np.uint8 and train["label"].dtype == np.int32
    np.testing.assert_array_equal(np.bincount(np.concatenate([train["label"], test["label"]])), [500] * 10)
    assert np.bincount(test["label"]).min() > 70
    assert splits["train"].dims == {"num_classes": 10}
    info = splits["train"].info
    assert info["class_names"] == list("0123456789") and info["inference"] == "images" and info["num_examples"] == 4000


def test_a_batch_of_digits_is_those_of_its_indices():
    train = published.digits(seed=0, batch_size=5)["train"]
    batch = train.batch(7)
    shapes = {name: array.shape for name, array in batch.items()}
    assert shapes == {"image": (5, 28, 28, 1), "label": (5,), "mask": (5,), "index": (5,)}
    for name in ("image", "label"):
        np.testing.assert_array_equal(batch[name], train.source.arrays[name][batch["index"]])


def test_digits_say_what_is_missing(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(published.importlib.resources, "files", missing)
    with pytest.raises(DataError, match=r"pip install 'cnnrnn\[examples\]'"):
        published.digits(0)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_out_of_range_is_refused(monkeypatch, label):
    labels = np.zeros(5, np.int64)
    labels[3] = label
    arrays = {"train": {"image": np.zeros((5, 28, 28, 1), np.uint8), "label": labels}}
    monkeypatch.setattr(builders, "load", lambda *_: arrays)
    with pytest.raises(DataError, match=f"label {label} of example 3, train split - labels are 0 to 9"):
        published.mnist(0)


def test_the_info_says_how_images_are_converted(monkeypatch):
    arrays = {
        split: {"image": np.zeros((5, 32, 32, 3), np.uint8), "label": np.arange(5)} for split in ("train", "test")
    }
    monkeypatch.setattr(builders, "load", lambda *_: arrays)
    info = published.cifar10(0)["train"].info
    assert info["images"] == {"shape": [32, 32, 3], "light_on_dark": False, "ink_size": None, "center_crop": True}
    assert info["dims"] == {"num_classes": 10} and info["class_names"][::9] == ["airplane", "truck"]
    assert published.mnist(0)["train"].info["images"] == {"shape": [32, 32, 3], "light_on_dark": True, "ink_size": 20}
