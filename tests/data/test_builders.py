"""Builders prepare original files without TensorFlow, and refuse others."""

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from cnnrnn.data import builders
from cnnrnn.data.builders import mnist
from cnnrnn.errors import DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "raw"


def write_idx(file: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">i4").tobytes()
    file.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def originals(tmp_path, monkeypatch):
    """A folder with four small files in MNIST's format, known to the builder by their checksums."""
    rng, folder, infos, arrays = np.random.default_rng(0), tmp_path / "originals", {}, {}
    folder.mkdir()
    for (split, (images, labels)), count in zip(mnist.FILES.items(), (50, 20), strict=True):
        arrays[split] = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8)
        for name, array in zip((images, labels), arrays[split], strict=True):
            write_idx(folder / name, array)
            data = (folder / name).read_bytes()
            infos[mnist.Mnist.URL + name] = UrlInfo(
                size=len(data), checksum=hashlib.sha256(data).hexdigest(), filename=name
            )
    monkeypatch.setattr(mnist.Mnist, "url_infos", infos)
    return folder, arrays


def test_prepares_and_reads_what_the_files_hold(originals, tmp_path, capfd):
    folder, arrays = originals
    for split, (images, labels) in arrays.items():
        read = builders.load("mnist.Mnist", split, tmp_path / "store", folder)
        assert read["image"].dtype == np.uint8 and read["image"].shape == (len(images), 28, 28, 1)
        pairs = {(image.tobytes(), int(label)) for image, label in zip(read["image"], read["label"], strict=True)}
        assert pairs == {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert "tensorflow" not in sys.modules
    assert capfd.readouterr().out.count("preparing mnist") == 1


def test_the_second_reading_is_the_same_with_or_without_its_cache(originals, tmp_path, capfd):
    first = builders.load("mnist.Mnist", "test", tmp_path / "store", originals[0])
    (cache,) = (tmp_path / "store").rglob("test.npz")
    again = builders.load("mnist.Mnist", "test", tmp_path / "store", None)
    data = bytearray(cache.read_bytes())
    data[len(data) // 2] ^= 1
    cache.write_bytes(data)
    mended = builders.load("mnist.Mnist", "test", tmp_path / "store", None)
    assert "test.npz is damaged" in capfd.readouterr().err
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        np.testing.assert_array_equal(array, mended[name])


def test_damaged_records_are_refused(originals, tmp_path):
    builders.load("mnist.Mnist", "test", tmp_path / "store", originals[0])
    for file in (tmp_path / "store").rglob("*test*"):
        if file.suffix == ".npz":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="it is made anew"):
        builders.load("mnist.Mnist", "test", tmp_path / "store", None)


def test_a_missing_file_is_named(originals, tmp_path):
    (originals[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte.gz in"):
        builders.load("mnist.Mnist", "test", tmp_path / "store", originals[0])


def test_a_file_that_is_not_the_original_is_refused(originals, tmp_path):
    write_idx(originals[0] / "t10k-labels-idx1-ubyte.gz", np.zeros(20, np.uint8))
    with pytest.raises(DataError, match="not the original one") as refusal:
        builders.load("mnist.Mnist", "test", tmp_path / "store", originals[0])
    assert "\n" not in str(refusal.value)


def test_no_network_is_said_at_once(tmp_path, monkeypatch):
    import requests

    def offline(*_, **__):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", offline)
    with pytest.raises(DataError, match="manual_dir=FOLDER"):
        builders.load("mnist.FashionMnist", "test", tmp_path / "store", None)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_files_have_the_registered_sums(name):
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"the original files of {name} are not in {folder}")
    builder = {"mnist": mnist.Mnist, "fashion_mnist": mnist.FashionMnist}[name]
    infos = {info.filename: info for url, info in builder.url_infos.items() if url.startswith(builder.URL)}
    assert len(infos) == 4
    for file, info in infos.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == info.checksum
    assert mnist.read_idx(folder / "t10k-labels-idx1-ubyte.gz").shape == (10_000,)
