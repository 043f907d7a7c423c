"""Builders prepare original files without TensorFlow, and refuse others."""

import functools
import gzip
import hashlib
import http.server
import io
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from tensorflow_datasets.core.download.checksums import UrlInfo

from cnnrnn.data import builders
from cnnrnn.data.builders import cifar10, mnist, originals, text
from cnnrnn.data.builders.originals import Content
from cnnrnn.errors import DataError

REAL = Path(__file__).parents[3] / "shared" / "data" / "raw"


def load(builder: str, directory: Path, manual_dir: Path | None) -> dict[str, np.ndarray]:
    """The test split of one of MNIST's builders."""
    manual = None if manual_dir is None else str(manual_dir)
    return builders.load(f"mnist.{builder}", ("test",), str(directory / "store"), manual)["test"]


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture
def small_files(tmp_path, monkeypatch):
    """A folder with four small files in MNIST's format, known to the builder by their contents."""
    rng, folder, contents, arrays = np.random.default_rng(0), tmp_path / "originals", {}, {}
    folder.mkdir()
    for (split, names), count in zip(mnist.Mnist.FILES.items(), (50, 20), strict=True):
        arrays[split] = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8)
        for name, array in zip(names, arrays[split], strict=True):
            data = idx(array)
            contents[name] = Content(len(data), hashlib.sha256(data).hexdigest())
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    monkeypatch.setattr(mnist.Mnist, "CONTENTS", contents)
    return folder, arrays


@pytest.fixture
def server(small_files, monkeypatch):
    """Serves the small files where the builder downloads them from, known by the checksums they have now."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=small_files[0])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url, infos = f"http://127.0.0.1:{server.server_port}/", {}
        for file in small_files[0].iterdir():
            checksum = hashlib.sha256(file.read_bytes()).hexdigest()
            infos[url + file.name] = UrlInfo(file.stat().st_size, checksum, file.name)
        monkeypatch.setattr(mnist.Mnist, "URL", url)
        monkeypatch.setattr(mnist.Mnist, "url_infos", infos)
        yield
        server.shutdown()


def test_prepares_and_reads_what_the_files_hold(small_files, tmp_path, capfd):
    folder, arrays = small_files
    splits = builders.load("mnist.Mnist", ("train", "test"), str(tmp_path / "store"), str(folder))
    for split, (images, labels) in arrays.items():
        read = splits[split]
        assert read["image"].dtype == np.uint8 and read["image"].shape == (len(images), 28, 28, 1)
        pairs = {(image.tobytes(), int(label)) for image, label in zip(read["image"], read["label"], strict=True)}
        assert pairs == {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert "tensorflow" not in sys.modules
    assert capfd.readouterr().out.count("preparing mnist") == 1


def test_the_second_reading_is_the_same_with_or_without_its_cache(small_files, tmp_path, capfd):
    first = load("Mnist", tmp_path, small_files[0])
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


def test_damaged_records_are_refused(small_files, tmp_path):
    load("Mnist", tmp_path, small_files[0])
    for file in (tmp_path / "store").rglob("*test*"):
        if file.suffix == ".npz":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="it is made anew"):
        load("Mnist", tmp_path, None)


def test_a_missing_file_is_named(small_files, tmp_path):
    (small_files[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte in .*: found train-labels-idx1-ubyte, .* - put"):
        load("Mnist", tmp_path, small_files[0])


def test_a_file_that_is_not_the_original_is_refused(small_files, tmp_path):
    (small_files[0] / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(20, np.uint8))))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz is not the original") as refusal:
        load("Mnist", tmp_path, small_files[0])
    assert "\n" not in str(refusal.value)


def test_mnist_is_not_taken_for_fashion_mnist(small_files, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist.FashionMnist, "OTHERS", {"MNIST": mnist.Mnist.CONTENTS})
    strange = {name: Content(size, "0" * 64) for name, (size, *_) in mnist.Mnist.CONTENTS.items()}
    monkeypatch.setattr(mnist.FashionMnist, "CONTENTS", strange)
    with pytest.raises(
        DataError, match="no train-images-idx3-ubyte, .* in .*: files of MNIST found, .* among them - put"
    ):
        load("FashionMnist", tmp_path, small_files[0])


@pytest.mark.usefixtures("server")
def test_downloaded_files_give_the_arrays_of_those_in_a_folder(small_files, tmp_path):
    downloaded = load("Mnist", tmp_path / "downloaded", None)
    read = load("Mnist", tmp_path / "read", small_files[0])
    for name in ("image", "label"):
        np.testing.assert_array_equal(downloaded[name], read[name])


@pytest.mark.usefixtures("server")
def test_a_download_that_is_not_the_original_is_refused(small_files, tmp_path):
    (small_files[0] / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(28)))
    with pytest.raises(DataError, match="what came for mnist is not the original"):
        load("Mnist", tmp_path, None)


def test_a_missing_network_is_reported_at_once(tmp_path, monkeypatch):
    import requests

    def offline(*_, **__):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "head", offline)
    with pytest.raises(DataError, match="manual_dir=FOLDER"):
        load("FashionMnist", tmp_path, None)


@pytest.fixture
def color_files(monkeypatch):
    """Six small files in CIFAR-10's format: a test file with one image of each class, training files with two."""
    rng, files = np.random.default_rng(0), {}
    for names in cifar10.Cifar10.FILES.values():
        labels = rng.permutation(np.repeat(np.arange(10), len(names)))
        pixels = rng.integers(0, 256, (len(labels), 3072))
        records = np.concatenate([labels[:, None], pixels], 1).astype(np.uint8)
        files |= {name: part.tobytes() for name, part in zip(names, np.split(records, len(names)), strict=True)}
    contents = {}
    for name, content in cifar10.Cifar10.CONTENTS.items():
        start = hashlib.sha256(files[name][: 4 * cifar10.RECORD]).hexdigest()
        contents[name] = Content(10 * cifar10.RECORD, content.sha256 and start, 4 * cifar10.RECORD)
    monkeypatch.setattr(cifar10.Cifar10, "CONTENTS", contents)
    return files


def load_cifar10(directory: Path, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    return builders.load("cifar10.Cifar10", ("train", "test"), str(directory / "store"), str(folder))


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_archive(folder: Path, files: dict[str, bytes]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return write_files(folder, {"archive": buffer.getvalue()})


@pytest.mark.parametrize("write", [write_files, write_archive])
def test_planes_of_color_become_pixels(write, color_files, tmp_path):
    splits = load_cifar10(tmp_path, write(tmp_path / "files", color_files))
    for split, names in cifar10.Cifar10.FILES.items():
        images, labels = splits[split]["image"], splits[split]["label"]
        assert images.dtype == np.uint8 and images.shape == (10 * len(names), 32, 32, 3)
        records = np.concatenate([np.frombuffer(color_files[name], np.uint8).reshape(10, 3073) for name in names])
        expected = {(r[1:1025].tobytes(), r[1025:2049].tobytes(), r[2049:].tobytes(), int(r[0])) for r in records}
        planes = [images[..., channel] for channel in range(3)]
        read = {(*(p.tobytes() for p in image), int(y)) for *image, y in zip(*planes, labels, strict=True)}
        assert read == expected


def replace(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


@pytest.mark.parametrize("write", [write_files, write_archive])
@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("data_batch_1.bin", lambda data: replace(data, 99, data[99] ^ 1), "no data_batch_1.bin in .*not the original"),
        ("test_batch.bin", lambda data: data[:3073], "no test_batch.bin in .*: found .*test_batch.bin.* is not"),
        ("data_batch_5.bin", lambda data: replace(data, 0, 10), "do not have 5 images of each class"),
        ("test_batch.bin", lambda data: replace(data, 9 * 3073, data[0]), "do not have 1 images of each class"),
    ],
)
def test_files_that_are_not_those_of_cifar10_are_refused(write, name, change, words, color_files, tmp_path):
    color_files[name] = change(color_files[name])
    with pytest.raises(DataError, match=f"{words}.* - put the original files there") as refusal:
        load_cifar10(tmp_path, write(tmp_path / "files", color_files))
    assert "\n" not in str(refusal.value)


def test_a_file_of_cifar10_under_the_name_of_another_is_refused(color_files, tmp_path):
    color_files["data_batch_3.bin"] = color_files["data_batch_2.bin"]
    with pytest.raises(DataError, match="data_batch_2.bin and data_batch_3.bin in .* are equal - put"):
        load_cifar10(tmp_path, write_files(tmp_path / "files", color_files))


def test_the_original_archive_is_known_by_its_checksum(color_files, tmp_path, monkeypatch):
    color_files["data_batch_1.bin"] = bytes(10 * cifar10.RECORD)  # nothing in it is held to anything else
    folder = write_archive(tmp_path / "files", color_files)
    data = (folder / "archive").read_bytes()
    url = cifar10.Cifar10.URL + "cifar-10-binary.tar.gz"
    info = UrlInfo(len(data), hashlib.sha256(data).hexdigest(), "cifar-10-binary.tar.gz")
    with pytest.raises(DataError, match="no data_batch_1.bin in"):
        load_cifar10(tmp_path, folder)
    monkeypatch.setattr(cifar10.Cifar10, "url_infos", {url: info})
    assert load_cifar10(tmp_path, folder)["train"]["image"].shape == (50, 32, 32, 3)


REAL_SETS = {
    "mnist": mnist.Mnist,
    "fashion_mnist": mnist.FashionMnist,
    "tiny_shakespeare": text.TinyShakespeare,
    "penn_treebank": text.PennTreebank,
}


def real_folder(name: str) -> Path:
    if not (REAL / name).is_dir():
        pytest.skip(f"the original files of {name} are not in {REAL / name}")
    return REAL / name


@pytest.mark.parametrize("name", REAL_SETS)
def test_the_real_files_have_the_registered_sums(name):
    folder, builder = real_folder(name), REAL_SETS[name]
    infos = [info for url, info in builder.url_infos.items() if builder.URL and url.startswith(builder.URL)]
    assert len(infos) == (len(builder.CONTENTS) if builder.URL else 0)
    for info in infos:
        assert hashlib.sha256((folder / info.filename).read_bytes()).hexdigest() == info.checksum
    found = originals.find(builder.CONTENTS, originals.list_files(folder))
    if "mnist" in name:
        assert mnist.read_idx(found["t10k-labels-idx1-ubyte"]).shape == (10_000,)


def test_the_real_images_have_the_registered_sums():
    with np.load(
        real_folder("cifar10_sample") / "cifar10_genuine_train4000_test1000.npz", allow_pickle=False
    ) as sample:
        for split, name in (("train", "data_batch_1.bin"), ("test", "test_batch.bin")):
            images, labels = sample[f"x_{split}"], sample[f"y_{split}"]
            planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
            records = np.concatenate([labels[:, None], planes], 1)
            content = cifar10.Cifar10.CONTENTS[name]
            assert records.dtype == np.uint8 and records.size == content.prefix
            assert hashlib.sha256(records.tobytes()).hexdigest() == content.sha256


def test_fashion_mnist_as_debian_packs_it_is_that_of_the_originals(tmp_path):
    """Packed again by `gzip -9n`, the largest file by `-1n`, which takes a tenth of the time; one is not packed."""
    folder, raw = real_folder("fashion_mnist"), tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    contents = {file.name.removesuffix(".gz"): gzip.decompress(file.read_bytes()) for file in folder.iterdir()}
    for name, data in contents.items():
        level = 1 if name.startswith("train-images") else 9
        (raw / f"{name}.gz").write_bytes(gzip.compress(data, level, mtime=0))
        assert (raw / f"{name}.gz").read_bytes() != (folder / f"{name}.gz").read_bytes()
    (raw / "train-labels-idx1-ubyte.gz").unlink()
    (raw / "train-labels.idx1-ubyte").write_bytes(contents["train-labels-idx1-ubyte"])
    splits = builders.load("mnist.FashionMnist", ("train", "test"), str(tmp_path / "store"), str(raw.parent))
    for split, (images, labels) in mnist.FashionMnist.FILES.items():
        expected = zip(mnist.read_idx(contents[images]), mnist.read_idx(contents[labels]), strict=True)
        read = zip(splits[split]["image"], splits[split]["label"], strict=True)
        assert sorted((x.tobytes(), int(y)) for x, y in read) == sorted((x.tobytes(), int(y)) for x, y in expected)


def test_texts_come_back_byte_for_byte(tmp_path):
    """The Penn Treebank as Mikolov packed it, and Shakespeare's plays under another name."""
    folder, plays = real_folder("penn_treebank"), (real_folder("tiny_shakespeare") / "input.txt").read_bytes()
    originals_folder, store = write_files(tmp_path / "files", {"tinyshakespeare.txt": plays}), str(tmp_path / "store")
    with tarfile.open(originals_folder / "simple-examples.tgz", "w:gz", compresslevel=1) as archive:
        archive.add(folder, "simple-examples/data")
    splits = builders.load("text.PennTreebank", tuple(text.PennTreebank.FILES), store, str(originals_folder))
    for split, (name,) in text.PennTreebank.FILES.items():
        assert splits[split]["text"].tobytes() == (folder / name).read_bytes()
    splits = builders.load("text.TinyShakespeare", ("whole",), store, str(originals_folder))
    assert splits["whole"]["text"].tobytes() == plays


def test_the_penn_treebank_is_never_downloaded(tmp_path):
    with pytest.raises(
        DataError, match="not downloaded - put ptb.train.txt, ptb.valid.txt, ptb.test.txt into a folder"
    ):
        builders.load("text.PennTreebank", ("train",), str(tmp_path), None)


def cut_header(data: bytes) -> bytes:
    """Of the array that it describes, NumPy would read 10 of 20 examples."""
    return data.replace(b"(20, 28, 28, 1)", b"(10, 28, 28, 1)")


def leave_out_labels(data: bytes) -> bytes:
    with np.load(io.BytesIO(data)) as arrays:
        file = io.BytesIO()
        np.savez(file, image=arrays["image"])
    return file.getvalue()


def encrypt(data: bytes) -> bytes:
    at = data.index(b"PK\1\2") + 8
    return data[:at] + b"\1" + data[at + 1 :]


def replace_by_one_array(_: bytes) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize("damage", [cut_header, leave_out_labels, encrypt, replace_by_one_array])
def test_saved_arrays_are_made_anew_whatever_their_damage(damage, small_files, tmp_path, capfd):
    first = load("Mnist", tmp_path, small_files[0])
    (cache,) = (tmp_path / "store").rglob("test.npz")
    cache.write_bytes(damage(cache.read_bytes()))
    again = load("Mnist", tmp_path, None)
    assert "test.npz is damaged" in capfd.readouterr().err
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])


def test_the_saved_arrays_of_another_split_are_not_taken(small_files, tmp_path):
    first = builders.load("mnist.Mnist", ("train", "test"), str(tmp_path / "store"), str(small_files[0]))
    (cache,) = (tmp_path / "store").rglob("test.npz")
    cache.write_bytes(cache.with_name("train.npz").read_bytes())
    np.testing.assert_array_equal(load("Mnist", tmp_path, None)["image"], first["test"]["image"])


@pytest.mark.parametrize("damage", [b"", b"[1]", b"{\xff", b'{"name": 3}'])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_a_damaged_description_is_refused_with_its_folder(name, damage, small_files, tmp_path):
    first = load("Mnist", tmp_path, small_files[0])
    (file,) = (tmp_path / "store").rglob(name)
    for cache in file.parent.glob("*.npz"):
        cache.unlink()
    file.write_bytes(damage)
    try:
        arrays = load("Mnist", tmp_path, None)
    except DataError as error:
        assert f"{file.parent}" in str(error) and "it is made anew" in str(error) and "\n" not in str(error)
    else:
        np.testing.assert_array_equal(arrays["image"], first["image"])


def test_the_folder_of_an_unknown_user_is_refused(tmp_path):
    with pytest.raises(DataError, match="no folder ~nobody_has_this_name/mnist"):
        load("Mnist", tmp_path, Path("~nobody_has_this_name/mnist"))
