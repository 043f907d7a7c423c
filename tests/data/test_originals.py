"""Original files are found by their contents, whatever their names and their packing; an error says what was found."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cnnrnn.data.builders import originals
from cnnrnn.data.builders.cifar10 import Cifar10
from cnnrnn.data.builders.originals import Content
from cnnrnn.errors import DataError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


DATA = {IMAGES: noise(0, 50_000), LABELS: noise(1, 3_000)}
OTHER_DATA = {IMAGES: noise(2, 50_000), LABELS: noise(3, 3_000)}  # of a set of the same names and sizes


def table(data: dict[str, bytes]) -> dict[str, Content]:
    return {name: Content(len(content), hashlib.sha256(content).hexdigest()) for name, content in data.items()}


def search(folder: Path, **settings) -> dict[str, bytes]:
    return originals.find(table(DATA), originals.list_files(folder), {"Other": table(OTHER_DATA)}, **settings)


def refusal(folder: Path, **settings) -> str:
    with pytest.raises(DataError) as refused:
        search(folder, **settings)
    message = str(refused.value)
    assert "\n" not in message and " - " in message and "--config.data.manual_dir=FOLDER" in message
    return message


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def make_tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def make_zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def packed(compress, suffix: str = ".x") -> dict[str, bytes]:
    return {name + suffix: compress(data) for name, data in DATA.items()}


def debian(data: bytes) -> bytes:
    return gzip.compress(data, 9, mtime=0)


WAYS = {
    "unpacked": lambda: DATA,
    "dots in the names": lambda: {"train-images.idx3-ubyte": DATA[IMAGES], "train-labels.idx1-ubyte": DATA[LABELS]},
    "other names": lambda: {"a": DATA[IMAGES], "b": DATA[LABELS]},
    "names exchanged": lambda: {IMAGES: DATA[LABELS], LABELS: DATA[IMAGES]},
    "a sub-folder": lambda: {f"MNIST/raw/{name}": data for name, data in DATA.items()},
    "gzip": lambda: packed(debian),
    "gzip with a name in its header": lambda: {f"{name}.gz": gzip.compress(DATA[name], 1) for name in DATA},
    "gzip in blocks": lambda: packed(lambda data: debian(data[:1000]) + debian(data[1000:]) + debian(b"")),
    "bzip2": lambda: packed(bz2.compress),
    "xz": lambda: packed(lzma.compress),
    "tar": lambda: {"all": make_tar(DATA)},
    "tar.gz": lambda: {"all": gzip.compress(make_tar({f"MNIST/{name}": data for name, data in DATA.items()}))},
    "tar.bz2": lambda: {"all": make_tar(DATA, "w:bz2")},
    "tar.xz": lambda: {"all": make_tar(DATA, "w:xz")},
    "zip": lambda: {"all": make_zip({"raw/": b""} | {f"raw/{name}": data for name, data in DATA.items()})},
    "zip, stored": lambda: {"all": make_zip(DATA, zipfile.ZIP_STORED)},
    "zip of gzip": lambda: {"all": make_zip(packed(debian))},
    "tar of gzip": lambda: {"all": make_tar(packed(debian))},
    "tar.gz of gzip": lambda: {"all": gzip.compress(make_tar(packed(debian)))},
    "zip of tar.gz": lambda: {"all": make_zip({"inner": gzip.compress(make_tar(DATA))})},
    "two ways": lambda: {"a.zip": make_zip({"x": DATA[IMAGES]}), "b.xz": lzma.compress(DATA[LABELS])},
}


@pytest.mark.parametrize("way", WAYS)
def test_contents_are_found_in_every_packing(way, tmp_path):
    write(tmp_path, WAYS[way]() | {"README": b"not one of them", "notes.gz": gzip.compress(b"nor this")})
    assert search(tmp_path) == DATA


def test_what_is_missing_and_what_was_found_are_named(tmp_path):
    message = refusal(write(tmp_path / "MNIST", {"images.gz": gzip.compress(DATA[IMAGES])}))
    assert message.startswith(f"no {LABELS} in {tmp_path / 'MNIST'}: found {IMAGES} - ")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("labels", noise(9, 3_000)),
        ("labels.xz", lzma.compress(noise(9, 3_000))),
        ("train-labels.idx1-ubyte", noise(9, 200)),
        ("train-labels-idx1-ubyte.gz", gzip.compress(noise(9, 200))),
    ],
)
def test_a_file_of_the_right_size_or_name_with_other_contents_is_named(name, data, tmp_path):
    write(tmp_path, {IMAGES: DATA[IMAGES], name: data})
    assert refusal(tmp_path).startswith(f"no {LABELS} in {tmp_path}: found {IMAGES}; {name} is not the original - ")


def test_the_files_of_another_set_are_recognised(tmp_path):
    write(tmp_path, {"all.zip": make_zip(OTHER_DATA)})
    assert f"{tmp_path}: files of Other found, {IMAGES} in all.zip among them - " in refusal(tmp_path)


def test_the_files_of_another_set_do_no_harm(tmp_path):
    write(tmp_path, OTHER_DATA | {f"mine/{name}": data for name, data in DATA.items()})
    assert search(tmp_path) == DATA


def flip_flag(data: bytes) -> bytes:
    """A zip file whose members are said to be encrypted."""
    data = bytearray(data)
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = -1
        while (at := data.find(signature, at + 1)) >= 0:
            data[at + offset] |= 1
    return bytes(data)


DAMAGED = {
    "cut gzip": lambda: (data := gzip.compress(DATA[LABELS]))[:1000] + data[-4:],
    "changed gzip": lambda: (data := gzip.compress(DATA[LABELS]))[:900] + bytes(100) + data[1000:],
    "cut bzip2": lambda: bz2.compress(DATA[LABELS])[:1000],
    "cut xz": lambda: lzma.compress(DATA[LABELS])[:1000],
    "changed xz": lambda: (data := lzma.compress(DATA[LABELS]))[:900] + bytes(100) + data[1000:],
    "cut tar": lambda: make_tar({LABELS: DATA[LABELS]})[:2000],
    "cut tar.gz": lambda: make_tar({LABELS: DATA[LABELS]}, "w:gz")[:1500],
    "cut zip": lambda: make_zip({LABELS: DATA[LABELS]})[:1000],
    "changed zip": lambda: (data := make_zip({LABELS: DATA[LABELS]}))[:900] + bytes(100) + data[1000:],
    "encrypted zip": lambda: flip_flag(make_zip({LABELS: DATA[LABELS]})),
    "zip of a cut gzip": lambda: make_zip({LABELS: gzip.compress(DATA[LABELS])[:1000]}),
    "unknown method": lambda: make_zip({LABELS: DATA[LABELS]}).replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0"),
}


@pytest.mark.parametrize("way", DAMAGED)
def test_a_damaged_archive_is_named_if_something_is_missing(way, tmp_path):
    write(tmp_path, {IMAGES: DATA[IMAGES], "damaged": DAMAGED[way]()})
    message = refusal(tmp_path)
    assert f"found {IMAGES}; could not be read: " in message and "damaged" in message.partition("could not be read")[2]


@pytest.mark.parametrize("way", DAMAGED)
def test_a_damaged_archive_beside_good_files_does_no_harm(way, tmp_path):
    write(tmp_path, {"0damaged": DAMAGED[way](), "x/images.gz": gzip.compress(DATA[IMAGES]), "x/y": DATA[LABELS]})
    assert search(tmp_path) == DATA


def test_random_bytes_after_every_signature_raise_nothing_else(tmp_path):
    starts = [*originals.DECOMPRESSORS, b"PK\3\4", b"PK\5\6", bytes(257) + b"ustar\x0000"]
    write(tmp_path, {str(number): start + noise(number, 5_000) for number, start in enumerate(starts)})
    assert "could not be read" in refusal(tmp_path)


def test_pipes_and_circles_of_links_do_not_hang(tmp_path):
    write(tmp_path / "files", DATA)
    os.mkfifo(tmp_path / "files" / "pipe.gz")
    (tmp_path / "files" / "circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "files" / "self").symlink_to("self")
    (tmp_path / "files" / f"{LABELS}.gz").symlink_to("nowhere")
    assert search(tmp_path) == DATA


def test_links_to_the_files_are_followed(tmp_path):
    write(tmp_path / "store", DATA)
    (tmp_path / "names").mkdir()
    for name in DATA:
        (tmp_path / "names" / f"link to {name}").symlink_to(tmp_path / "store" / name)
    assert search(tmp_path / "names") == DATA


@pytest.mark.parametrize("folder", ["none", "empty", IMAGES])
def test_a_folder_without_files_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path, {IMAGES: DATA[IMAGES]})
    assert str(tmp_path / folder) in refusal(tmp_path / folder)


def test_a_bomb_costs_no_memory(tmp_path):
    """Each file unpacks to 200 MB of zeros: as a content, as the member of an archive, and as its first header."""
    zeros = bytes(200_000_000)
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, len(zeros)
    long_name = header.tobuf(format=tarfile.GNU_FORMAT) + zeros
    for name, data in {"name.gz": long_name, "member.gz": make_tar({"x": zeros}), "content.gz": zeros}.items():
        write(tmp_path, {name: gzip.compress(data, 1)})
    write(tmp_path, {"bomb.xz": lzma.compress(zeros, preset=0), "bomb.zip": make_zip({IMAGES: zeros})})
    tracemalloc.start()
    try:
        message = refusal(tmp_path, read_limit=10_000_000)
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()
    assert "not read beyond 10000000 bytes" in message
    assert search(write(tmp_path, DATA), read_limit=10_000_000) == DATA


@pytest.mark.parametrize("compress", [bz2.compress, lambda data: lzma.compress(data, preset=0)])
def test_no_more_is_unpacked_than_the_largest_content(compress, tmp_path):
    write(tmp_path, {"large": compress(bytes(50_000_000))})
    tracemalloc.start()
    try:
        assert "1 files of other contents found" in refusal(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_well_named_files_are_tried_first_then_small_ones_until_all_is_found(tmp_path, monkeypatch):
    files = {"1": noise(0, 100), "2": noise(0, 50), "3": DATA[LABELS], "4": noise(0, 9_000)}
    opened, listed = [], originals.list_files(write(tmp_path, files | {f"{IMAGES}.raw": DATA[IMAGES]}))
    monkeypatch.setattr(originals, "open", lambda file, mode: opened.append(Path(file).name) or open(file, mode), False)
    originals.find(table(DATA), listed)
    assert opened == [f"{IMAGES}.raw", "2", "1", "3"]


def test_an_archive_of_too_many_members_is_left_out(tmp_path):
    members = {f"a{number}": b"" for number in range(originals.MAX_MEMBERS)} | DATA
    for name, data in {"all.zip": make_zip(members), "all.tar": make_tar(members)}.items():
        folder = write(tmp_path / name, {name: data})
        assert f"could not be read: {name} (" in refusal(folder) and "10000 members" in refusal(folder)


def test_a_content_of_unknown_checksum_is_known_by_its_name(tmp_path):
    start = hashlib.sha256(DATA[IMAGES][:1_000]).hexdigest()
    contents = {IMAGES: Content(50_000, start, prefix=1_000), LABELS: Content(3_000, None)}
    files = {"a": DATA[IMAGES][:1_000] + bytes(49_000), "b": DATA[LABELS], "train_labels.idx1-ubyte.xz": b""}
    files["train_labels.idx1-ubyte.xz"] = lzma.compress(OTHER_DATA[LABELS])
    found = originals.find(contents, originals.list_files(write(tmp_path, files)))
    assert found == {IMAGES: files["a"], LABELS: OTHER_DATA[LABELS]}


def test_the_archive_of_cifar10_is_within_the_limit(tmp_path):
    """It is read packed, as a tar, and member by member."""
    (archive,) = Cifar10(data_dir=tmp_path).downloads.values()
    members = sum(content.size for content in Cifar10.CONTENTS.values())
    assert int(archive.size) + 2.1 * members < originals.READ_LIMIT
