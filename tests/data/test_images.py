"""The embedded digits, and labels that a net could not have."""

import numpy as np
import pytest

from cnnrnn.data import images
from cnnrnn.errors import DataError


def test_digits_are_split_shuffled_and_whole():
    splits = images.digits(seed=0)
    train, test = splits["train"], splits["test"]
    assert train.arrays["image"].shape == (4000, 28, 28, 1) and test.arrays["image"].shape == (1000, 28, 28, 1)
    assert train.arrays["image"].dtype == np.uint8 and train.arrays["label"].dtype == np.int32
    both = np.concatenate([train.arrays["label"], test.arrays["label"]])
    np.testing.assert_array_equal(np.bincount(both), [500] * 10)
    assert np.bincount(test.arrays["label"]).min() > 70
    assert train.dims == {"num_classes": 10} and train.info["class_names"] == list("0123456789")


def test_digits_say_what_is_missing(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(images.importlib.resources, "files", missing)
    with pytest.raises(DataError, match=r"pip install 'cnnrnn\[examples\]'"):
        images.digits(0)


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_out_of_range_is_refused(monkeypatch, label):
    labels = np.zeros(5, np.int64)
    labels[3] = label
    arrays = {"train": {"image": np.zeros((5, 28, 28, 1), np.uint8), "label": labels}}
    monkeypatch.setattr(images, "_prepared", lambda *_: arrays)
    with pytest.raises(DataError, match=f"label {label} of example 3, train split - labels are 0 to 9"):
        images.mnist(0)


def test_colour_photographs_say_how_pictures_become_theirs(monkeypatch):
    arrays = {
        split: {"image": np.zeros((5, 32, 32, 3), np.uint8), "label": np.arange(5)} for split in ("train", "test")
    }
    monkeypatch.setattr(images, "_prepared", lambda *_: arrays)
    info = images.cifar10(0)["train"].info
    assert info["pictures"] == {"shape": [32, 32, 3], "light_on_dark": False, "ink_size": None, "cut": True}
    assert info["dims"] == {"num_classes": 10} and info["class_names"][::9] == ["airplane", "truck"]
    assert images.mnist(0)["train"].info["pictures"] == {"shape": [32, 32, 3], "light_on_dark": True, "ink_size": 20}
