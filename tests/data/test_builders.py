"""Builders prepare original files without TensorFlow, and refuse others."""

import gzip
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from cnnrnn.data import builders
from cnnrnn.data.builders import cifar10, mnist, text
from cnnrnn.errors import DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "raw"


def load(builder: str, directory: Path, manual_dir: Path | None) -> dict[str, np.ndarray]:
    """The test split of one of MNIST's builders."""
    manual = None if manual_dir is None else str(manual_dir)
    return builders.load(f"mnist.{builder}", ("test",), str(directory / "store"), manual)["test"]


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
    splits = builders.load("mnist.Mnist", ("train", "test"), str(tmp_path / "store"), str(folder))
    for split, (images, labels) in arrays.items():
        read = splits[split]
        assert read["image"].dtype == np.uint8 and read["image"].shape == (len(images), 28, 28, 1)
        pairs = {(image.tobytes(), int(label)) for image, label in zip(read["image"], read["label"], strict=True)}
        assert pairs == {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert "tensorflow" not in sys.modules
    assert capfd.readouterr().out.count("preparing mnist") == 1


def test_the_second_reading_is_the_same_with_or_without_its_cache(originals, tmp_path, capfd):
    first = load("Mnist", tmp_path, originals[0])
    (cache,) = (tmp_path / "store").rglob("test.npz")
    again = load("Mnist", tmp_path, None)
    data = bytearray(cache.read_bytes())
    data[len(data) // 2] ^= 1
    cache.write_bytes(data)
    remade = load("Mnist", tmp_path, None)
    assert "test.npz is damaged" in capfd.readouterr().err
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        np.testing.assert_array_equal(array, remade[name])


def test_damaged_records_are_refused(originals, tmp_path):
    load("Mnist", tmp_path, originals[0])
    for file in (tmp_path / "store").rglob("*test*"):
        if file.suffix == ".npz":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="it is made anew"):
        load("Mnist", tmp_path, None)


def test_a_missing_file_is_named(originals, tmp_path):
    (originals[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte.gz in"):
        load("Mnist", tmp_path, originals[0])


def test_a_file_that_is_not_the_original_is_refused(originals, tmp_path):
    write_idx(originals[0] / "t10k-labels-idx1-ubyte.gz", np.zeros(20, np.uint8))
    with pytest.raises(DataError, match="not the original one") as refusal:
        load("Mnist", tmp_path, originals[0])
    assert "\n" not in str(refusal.value)


def test_a_missing_network_is_reported_at_once(tmp_path, monkeypatch):
    import requests

    def offline(*_, **__):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", offline)
    with pytest.raises(DataError, match="manual_dir=FOLDER"):
        load("FashionMnist", tmp_path, None)


@pytest.fixture
def color_archive(tmp_path, monkeypatch):
    """A folder with a small archive in CIFAR-10's format, by a function that changes its members or its bytes."""
    rng, folder = np.random.default_rng(0), tmp_path / "originals"
    folder.mkdir()
    monkeypatch.setattr(cifar10, "RECORDS", 6)
    members = {
        name: np.concatenate([rng.integers(0, 10, (6, 1)), rng.integers(0, 256, (6, 3072))], 1).astype(np.uint8)
        for names in cifar10.MEMBERS.values()
        for name in names
    }

    def make(change=lambda contents: None, damage=lambda data: data):
        contents, buffer = {name: records.tobytes() for name, records in members.items()}, io.BytesIO()
        change(contents)
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in contents.items():
                entry = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        data = damage(buffer.getvalue())
        (folder / cifar10.ARCHIVE).write_bytes(data)
        info = UrlInfo(size=len(data), checksum=hashlib.sha256(data).hexdigest(), filename=cifar10.ARCHIVE)
        monkeypatch.setattr(cifar10.Cifar10, "url_infos", {cifar10.Cifar10.URL + cifar10.ARCHIVE: info})
        return folder

    return make, members


def load_cifar10(directory: Path, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    return builders.load("cifar10.Cifar10", ("train", "test"), str(directory / "store"), str(folder))


def test_planes_of_color_become_pixels(color_archive, tmp_path):
    make, members = color_archive
    splits = load_cifar10(tmp_path, make())
    for split, names in cifar10.MEMBERS.items():
        images, labels = splits[split]["image"], splits[split]["label"]
        assert images.dtype == np.uint8 and images.shape == (6 * len(names), 32, 32, 3)
        records = np.concatenate([members[name] for name in names])
        expected = {(r[1:1025].tobytes(), r[1025:2049].tobytes(), r[2049:].tobytes(), int(r[0])) for r in records}
        planes = [images[..., channel] for channel in range(3)]
        read = {(*(p.tobytes() for p in image), int(y)) for *image, y in zip(*planes, labels, strict=True)}
        assert read == expected


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (dict(change=lambda contents: contents.pop("data_batch_3.bin")), "no data_batch_3.bin in"),
        (dict(change=lambda contents: contents.update({"test_batch.bin": bytes(3073)})), "has 3073 bytes, not 18438"),
        (dict(damage=lambda data: data[: len(data) // 2]), "is damaged"),
        (dict(damage=lambda data: data[:12] + bytes(100) + data[112:]), "is damaged"),
        (dict(damage=lambda data: b"no archive"), "is damaged"),
    ],
)
def test_a_damaged_archive_is_refused(color_archive, tmp_path, how, words):
    with pytest.raises(DataError, match=f"{words}.* - replace the archive") as refusal:
        load_cifar10(tmp_path, color_archive[0](**how))
    assert "\n" not in str(refusal.value)


REAL_SETS = {
    "mnist": (mnist.Mnist, 4),
    "fashion_mnist": (mnist.FashionMnist, 4),
    "tiny_shakespeare": (text.TinyShakespeare, 1),
    "penn_treebank": (text.PennTreebank, 3),
    "cifar10": (cifar10.Cifar10, 1),
}


def real_folder(name: str) -> Path:
    if not (REAL / name).is_dir():
        pytest.skip(f"the original files of {name} are not in {REAL / name}")
    return REAL / name


@pytest.mark.parametrize("name", REAL_SETS)
def test_the_real_files_have_the_registered_sums(name):
    folder, (builder, count) = real_folder(name), REAL_SETS[name]
    infos = {info.filename: info for url, info in builder.url_infos.items() if url.startswith(builder.URL)}
    assert len(infos) == count
    for file, info in infos.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == info.checksum
    if "mnist" in name:
        assert mnist.read_idx(folder / "t10k-labels-idx1-ubyte.gz").shape == (10_000,)


def test_texts_come_back_byte_for_byte(tmp_path):
    folder, files = real_folder("penn_treebank"), text.PennTreebank.FILES
    splits = builders.load("text.PennTreebank", tuple(files), str(tmp_path), str(folder))
    for split, name in files.items():
        assert splits[split]["text"].tobytes() == (folder / name).read_bytes()


def test_the_penn_treebank_is_never_downloaded(tmp_path):
    with pytest.raises(
        DataError, match="not downloaded - put ptb.train.txt, ptb.valid.txt, ptb.test.txt into a folder"
    ):
        builders.load("text.PennTreebank", ("train",), str(tmp_path), None)
