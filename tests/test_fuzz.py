"""Fuzz: damaged files, odd folders and any bytes as text end well or in one line, in time and in bounded memory.

The suite tries the same examples each time. The profile "long" tries many more, random ones, for a quarter of an hour:

  python -m pytest tests/test_fuzz.py --hypothesis-profile=long -n 2 --dist=load
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import resource
import shutil
import signal
import stat
import struct
import tarfile
import tempfile
import unicodedata
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import run_command
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from cnnrnn import command
from cnnrnn.data import builders, text, token_store
from cnnrnn.data.builders import mnist, originals
from cnnrnn.data.builders.originals import Content
from cnnrnn.data.dataset import Dataset
from cnnrnn.data.images import convert
from cnnrnn.data.images.convert import TURNS
from cnnrnn.data.images.custom import image_set
from cnnrnn.data.text_files import read_blocks
from cnnrnn.data.vocabulary import normalise, tokenize
from cnnrnn.inference import images as inference

TIME_LIMIT = 20  # seconds for an example
MEMORY_LIMIT = 1 << 30  # bytes that an example may take
UNITS = ("character", "word", "whitespace")


def fuzz(num_examples: int) -> settings:
    """The number of examples in the suite; the profile "long" tries a hundred times as many."""
    is_long = settings.default is settings.get_profile("long")
    return settings(
        settings.get_profile("long"),
        max_examples=num_examples * (100 if is_long else 1),
        derandomize=not is_long,
    )


# --- what "ends well" means


class Timeout(BaseException):
    """The example took too long. No `except Exception` in the code swallows it."""


def end_well(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What a call returns, or the one line by which it tells the user what is wrong.

    A bug, a wait, more memory than the limit and any text that a library prints fail the test.
    """
    with bounded():
        try:
            return call(), None
        except MemoryError:
            raise AssertionError(f"more than {MEMORY_LIMIT} bytes") from None
        except Exception as error:
            if (user_error := command._as_user_error(error)) is None:
                raise
            assert user_error.exit_code in (2, 3), repr(user_error)
            assert_one_line(str(user_error))
            return None, str(user_error)


def assert_one_line(line: str) -> None:
    assert not [c for c in line if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")], ascii(line)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Bounds time and memory. Python may print single lines, and no library anything."""
    notes = io.StringIO()
    with (
        warnings.catch_warnings(record=True) as caught,
        contextlib.redirect_stderr(notes),
        contextlib.redirect_stdout(notes),
        printing_nothing(),
        memory_limit(),
        time_limit(),
    ):
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # which Python does not show
        yield
    for line in notes.getvalue().split("\n"):
        assert_one_line(line)
    shown = [str(warning) for warning in caught if "/PIL/" not in warning.filename]  # convert.py silences Pillow
    assert not shown, shown


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    def stop(*_):
        raise Timeout

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT)
    try:
        yield
    except Timeout:
        raise AssertionError(f"not done in {TIME_LIMIT} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def memory_limit() -> Iterator[None]:
    used = int(re.search(r"VmData:\s*(\d+)", Path("/proc/self/status").read_text())[1]) << 10
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_LIMIT, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextlib.contextmanager
def printing_nothing() -> Iterator[None]:
    """Holds libraries in C, which know nothing of Python's sys.stderr, to print nothing."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        printed.seek(0)
        assert not (text := printed.read()), text


def read_batches(splits: dict[str, Dataset]) -> str:
    """Reads the first and the last batch of every split. Returns what a run stores of them, as JSON."""
    try:
        for data in splits.values():
            for step in {0, data.num_batches - 1}:
                assert {*map(len, data.batch(step).values())} == {len(data.batch(step)["mask"])}
        return json.dumps({split: [data.info, data.summary] for split, data in splits.items()})
    finally:
        for data in splits.values():
            data.close()


# --- damage


VALUES = [b"\0", b"\0" * 4, b"\xff" * 2, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\x40"]  # of a size or an offset


@st.composite
def damaged(draw, files: Sequence[bytes]) -> bytes:
    """One of the files with some bytes changed, cut, deleted, inserted, repeated or taken from another file."""
    data = draw(st.sampled_from(files))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, min(len(data), 200)) | st.integers(0, len(data)))  # headers are what breaks
        end = at + draw(st.sampled_from([1, 2, 4, 8, 50, 1000]))
        kind = draw(st.sampled_from(["change", "value", "cut", "delete", "insert", "repeat", "splice"]))
        if kind == "change":
            data = data[:at] + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[at : at + 1]) + data[at + 1 :]
        elif kind == "value":
            value = draw(st.sampled_from(VALUES))
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "delete":
            data = data[:at] + data[end:]
        elif kind == "insert":
            data = data[:at] + draw(st.binary(max_size=40)) + data[at:]
        elif kind == "repeat":
            data = data[:end] + data[at:]
        else:
            other = draw(st.sampled_from(files))
            data = data[:at] + other[draw(st.integers(0, len(other))) :]
    return data


def encode_image(image: Image.Image, format: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **how)
    return file.getvalue()


def make_images() -> dict[str, bytes]:
    """A file of every format and kind that is read."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 4)).astype(np.uint8)
    rgba, gray = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    rgb, deep = rgba.convert("RGB"), Image.fromarray(pixels[..., :2].copy().view(np.uint16)[..., 0])
    palette, frames = rgb.quantize(16), dict(save_all=True, append_images=[rgb.rotate(90), rgb])
    exif, words = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112], exif[0x010F] = 6, "maker"
    words.add_text("Comment", "words " * 30, zip=True)
    words.add_itxt("Title", "ä" * 40)
    files = {
        "rgb.png": encode_image(rgb, "PNG", pnginfo=words, exif=exif, dpi=(72, 72)),
        "gray.png": encode_image(gray, "PNG", transparency=7),
        "palette.png": encode_image(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "rgba.png": encode_image(rgba, "PNG"),
        "deep.png": encode_image(deep, "PNG"),
        "bits.png": encode_image(gray.convert("1"), "PNG"),
        "frames.png": encode_image(rgb, "PNG", **frames),
        "rgb.jpg": encode_image(rgb, "JPEG", exif=exif, comment=b"words", icc_profile=b"x" * 200, dpi=(72, 72)),
        "gray.jpg": encode_image(gray, "JPEG", progressive=True),
        "cmyk.jpg": encode_image(rgb.convert("CMYK"), "JPEG"),
        "pair.jpg": encode_image(rgb, "MPO", save_all=True, append_images=[rgb]),
        "palette.gif": encode_image(palette, "GIF", comment=b"words"),
        "frames.gif": encode_image(rgb, "GIF", **frames, transparency=3),
        "rgb.bmp": encode_image(rgb, "BMP"),
        "palette.bmp": encode_image(palette, "BMP"),
        "bits.bmp": encode_image(gray.convert("1"), "BMP"),
        "rgb.webp": encode_image(rgb, "WEBP", exif=exif),
        "rgba.webp": encode_image(rgba, "WEBP", lossless=True),
        "frames.webp": encode_image(rgb, "WEBP", **frames),
        "rgb.ppm": encode_image(rgb, "PPM"),
        "gray.pgm": encode_image(gray, "PPM"),
        "deep.pgm": encode_image(deep, "PPM"),
        "plain.pgm": b"P2\n3 2\n255\n" + b" 17" * 6,
        "rgba.tif": encode_image(rgba, "TIFF", exif=exif),
        "deep.tif": encode_image(deep, "TIFF"),
        "float.tif": encode_image(Image.fromarray(pixels[..., 0].astype(np.float32)), "TIFF"),
        "lab.tif": encode_image(Image.merge("LAB", rgb.split()), "TIFF"),
        "fax.tif": encode_image(gray.convert("1"), "TIFF", compression="group4"),
    }
    ways = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return files | {f"{way}.tif": encode_image(rgb, "TIFF", compression=way) for way in ways}


IMAGES = make_images()
ANY_FILE = [*IMAGES.values(), b"", b"plain text\n", gzip.compress(b"text"), b"%PDF-1.4"]
RULES = [
    dict(shape=[16, 16, 3], center_crop=True),
    dict(shape=[28, 28, 1], light_on_dark=True, ink_size=20),
    dict(shape=[12, 30, 3]),
    dict(shape=[30, 12, 1], center_crop=True),
]


# --- images


@fuzz(400)
@given(damaged(ANY_FILE), st.sampled_from(RULES))
def test_a_damaged_image_is_converted_or_refused(data, rule):
    """As predict reads it."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "a\n\x1b[2J.png")
        Path(file).write_bytes(data)
        (images, errors), line = end_well(lambda: inference._read((file, file), rule))
    assert line is None and len(images) + len(errors) == 2
    for error in errors:
        assert error.exit_code == 3
        assert_one_line(str(error))
    for _, image in images:
        assert image.dtype == np.uint8 and image.shape == tuple(rule["shape"])
        np.testing.assert_array_equal(image, images[0][1])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("transparent", [False, True])
def test_a_small_file_of_a_huge_image_costs_bounded_memory(rule, transparent):
    """A screen of GIF as large as Pillow allows, with one pixel on it, and one a little larger."""
    control = b"!\xf9\4\1\0\0\0\0" if transparent else b""
    for width, height in ((13_300, 13_400), (13_400, 13_400)):
        frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2D\1\0;"
        data = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + control + frame
        rule = rule | {"shape": tuple(rule["shape"])}
        _, line = end_well(partial(convert.read, io.BytesIO(data), **rule, name="bomb"))
        assert (line is None) == (width == 13_300), line


def jpeg_segments(data: bytes) -> list[tuple[int, int, int]]:
    """(marker, start, end) of what the segments before the pixels hold."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], at + 4, end))
        at = end
    return found


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(type, content) of each chunk."""
    found, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


@st.composite
def damaged_metadata(draw) -> tuple[bytes, bytes]:
    """An image, and the same with damage where neither its pixels nor its size are."""
    names = ["rgb.jpg", "pair.jpg", "gray.jpg", "cmyk.jpg", "rgb.png", "palette.png", "frames.png"]
    data = IMAGES[name := draw(st.sampled_from(names))]
    if name.endswith("jpg"):
        new = data[:2]
        for marker, start, end in jpeg_segments(data):
            content = data[start:end]
            if marker in (0xE1, 0xE2, 0xED, 0xFE) or marker == 0xE0 and draw(st.booleans()):
                content = draw(damaged([content]) | st.just(content) | st.binary(max_size=40))[:60_000]
            new += struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
        return data, new + data[end:]
    new = data[:8]
    for kind, content in png_chunks(data):
        checksum = zlib.crc32(kind + content)
        if kind not in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            content = draw(damaged([content]) | st.just(content))
            checksum = draw(st.sampled_from([zlib.crc32(kind + content), checksum]))
        elif kind == b"IDAT" and draw(st.booleans()):
            large = b"Comment\0\0" + zlib.compress(bytes(draw(st.sampled_from([0, 2_000_000]))))
            new += struct.pack(">I", len(large)) + b"zTXt" + large + struct.pack(">I", zlib.crc32(b"zTXt" + large))
        new += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return data, new


@fuzz(200)
@given(damaged_metadata())
def test_damaged_metadata_change_no_pixel(images):
    """But they may turn it."""
    (before, _), (after, line) = (
        end_well(partial(convert.read, io.BytesIO(data), (24, 24, 3), name="a")) for data in images
    )
    assert line is None, line
    turned = [np.asarray(Image.fromarray(before).transpose(turn)) for turn in TURNS.values()]
    assert any(np.array_equal(after, image) for image in [before, *turned])


# --- folders


HOSTILE = [b"a\nb", b"\x1b[2J", b"$x_{y}", b"caf\xe9", b"~", b"x" * 250, b"[red]", "\u202egnp".encode(), b"-rf", b" "]
SPLIT_LIKE = [b"Training", b"VAL", b"test set", b"Dev", b"train", b"TEST", b"validation_images"]
LEFT_BEHIND = [b"._x.png", b"__MACOSX", b".hidden", b"@eaDir", b"config.json", b".lock", b"Thumbs.db"]
SUFFIXES = [b"", b".png", b".JPG", b".gif", b".tif", b".txt", b".TXT", b".test.txt", b".csv"]
NAMES = st.one_of(
    st.sampled_from(HOSTILE + SPLIT_LIKE + LEFT_BEHIND + [b"cat", b"dog"]),
    st.binary(min_size=1, max_size=20).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
).flatmap(lambda name: st.sampled_from([name + suffix for suffix in SUFFIXES]))
TEXTS = [b"", b"one two\nthree\n" * 20, "ä 中\u0301".encode() * 30, b"\0\0", b"latin \xe9 1", b"no newline" * 9]
PNG = IMAGES["rgb.png"]
LINKS = [b"..", b".", b"nowhere", b"cat", b"train", b"a.png", b"/dev/zero", b"/dev/null", b"../dog", b"loop"]

FILES = st.sampled_from([PNG, IMAGES["gray.jpg"], PNG[:100], *TEXTS])
LINK = st.sampled_from(LINKS).map(lambda target: ("link", target))
SPECIAL = st.sampled_from([("pipe", stat.S_IFIFO), ("socket", stat.S_IFSOCK)])
ANY_TREE = st.recursive(
    st.one_of(FILES, FILES, LINK, SPECIAL), lambda inner: st.dictionaries(NAMES, inner, max_size=5), max_leaves=15
)
CLASS = st.dictionaries(NAMES, st.just(PNG) | ANY_TREE, max_size=3).map(
    lambda more: {b"a.png": PNG, b"b.png": PNG} | more
)
CLASSES = st.dictionaries(NAMES | st.sampled_from([b"cat", b"dog"]), CLASS, min_size=2, max_size=4)
TREES = st.one_of(
    st.dictionaries(NAMES, ANY_TREE, max_size=6),
    CLASSES,
    CLASSES.map(lambda classes: {b"only": classes}),
    st.builds(lambda train, more: {b"Train": train, b"test": train} | more, CLASSES, st.dictionaries(NAMES, ANY_TREE)),
    st.builds(
        lambda files, more: more | files,
        st.dictionaries(st.sampled_from([b"train.txt", b"Valid.txt", b"my.test.txt", b"book.txt"]), FILES, min_size=1),
        st.dictionaries(NAMES, ANY_TREE, max_size=4),
    ),
    st.builds(lambda tree, depth: nest(tree, depth), CLASSES, st.sampled_from([2, 40, 200])),
)


def nest(tree: dict, depth: int) -> dict:
    """A class whose images are in folders that are nested; 200 of them have a path longer than the system takes."""
    for _ in range(depth):
        tree = {b"deep" * 20: tree}
    return {b"cat": tree, b"dog": {b"a.png": PNG, b"b.png": PNG}}


def grow(tree: dict, folder: int) -> None:
    """Makes the files and folders of a tree in an open folder."""
    for name, entry in tree.items():
        name = name[:255]
        try:
            if isinstance(entry, dict):
                os.mkdir(name, dir_fd=folder)
                inner = os.open(name, os.O_RDONLY, dir_fd=folder)
                grow(entry, inner)
                os.close(inner)
            elif isinstance(entry, bytes):
                with open(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, dir_fd=folder), "wb") as file:
                    file.write(entry)
            elif entry[0] == "link":
                os.symlink(entry[1], name, dir_fd=folder)
            else:
                os.mknod(name, 0o600 | entry[1], dir_fd=folder)
        except FileExistsError:  # "." and ".."
            pass


@contextlib.contextmanager
def grown(tree: dict) -> Iterator[str]:
    """The path of a folder that holds a tree. Nothing else is in the folder above it, to which links may lead."""
    with tempfile.TemporaryDirectory() as above:
        root = os.path.join(above, "set")
        os.mkdir(root)
        folder = os.open(root, os.O_RDONLY)
        grow(tree, folder)
        os.close(folder)
        yield root


def read_images(source: str, **how) -> str:
    return read_batches(image_set(0, source=source, batch_size=4, **how))


def read_text(source: str, unit: str, data_dir: str, vocab_size: int = 100) -> str:
    how = dict(batch_size=2, window=3, eval_batch_size=2, warmup=2, vocab_size=vocab_size, data_dir=data_dir)
    splits = text.stream(0, source=source, unit=unit, **how)
    for data in splits.values():
        data.source.sample_line()
    return read_batches(splits)


@fuzz(80)
@given(TREES, st.sampled_from([0, 2**28]), st.sampled_from(UNITS))
def test_any_folder_is_read_or_refused(tree, memory_limit, unit):
    """And it is the same folder if it is read again or named in another way."""
    with grown(tree) as root, contextlib.chdir(root):
        for read in (
            lambda source: read_images(source, memory_limit=memory_limit, size=8),
            lambda source: read_text(source, unit, root),
        ):
            (first, line), again, (here, line_here) = (end_well(partial(read, source)) for source in (root, root, "."))
            assert (first, line) == again
            assert (line is None) == (line_here is None), (line, line_here)
            if first:
                parts = [re.sub(r'"first": "[^"]*"|the same folder as [^"]*', "", some) for some in (first, here)]
                assert parts[0] == parts[1]


SOURCES = [
    "~nobody_has_this_name/x",
    "x" * 300,
    "a\0b",
    "x/" * 3000,
    "/dev/null",
    "/dev/zero",
    "/proc/self/mem",
    "tfds:",
]
RELATIVE = st.text(st.characters(exclude_characters="/~"), min_size=1)  # not the disk, nor somebody's home
ANY_SOURCE = st.sampled_from(SOURCES) | RELATIVE | RELATIVE.map(lambda name: f"tfds:{name}")


@fuzz(60)
@given(ANY_SOURCE)
def test_any_name_of_a_set_is_found_or_refused(source):
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for read in (
            lambda: read_images(source, data_dir=folder),
            lambda: read_images("tfds:mnist", data_dir=source),
            lambda: read_text(source, "word", folder),
            lambda: load_mnist(folder, source),
        ):
            _, line = end_well(read)
            assert line or source in (".", ".."), line


@fuzz(60)
@given(st.lists(damaged(ANY_FILE) | st.just(PNG), min_size=4, max_size=6), st.sampled_from([0, 2**28]))
def test_a_set_with_damaged_images_is_read_or_refused_by_name(files, memory_limit):
    tree: dict[bytes, dict] = {b"x": {}, b"y": {}}
    for number, data in enumerate(files):
        tree[b"xy"[number % 2 :][:1]][b"%d.png" % number] = data
    with grown(tree) as root:
        _, line = end_well(lambda: read_images(root, memory_limit=memory_limit))
        assert line is None or f"{root}/" in line


# --- texts

SPECIAL_CHARACTERS = "ab .\r\n\u0301\u0327\u200d\u2028\x1c\x85\u3000\u1112\u1161\u11ab中ไé'-\U0001f1e6\U0001f1e7"
CHARACTERS = st.one_of(
    st.text(st.characters(exclude_characters="\0"), max_size=60), st.text(SPECIAL_CHARACTERS, max_size=200)
)
UTF = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")
CODECS = (*UTF, "latin-1", "cp1251", "shift-jis")
ENCODED = st.builds(lambda some, codec: some.encode(codec, "replace"), CHARACTERS, st.sampled_from(CODECS))
SURROGATES = st.text(st.characters(), max_size=30).map(lambda some: some.encode("utf-8", "surrogatepass"))
BYTES = st.one_of(st.binary(max_size=300), ENCODED, SURROGATES, damaged(TEXTS + [b"<unk> " * 40, b"\r" * 50]))


@fuzz(150)
@given(BYTES, st.sampled_from([1, 10]), st.sampled_from(UNITS), st.sampled_from([1, 2, 3, 10, 10**9]))
def test_any_bytes_are_a_text_or_refused(data, times, unit, vocab_size):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "a.txt")
        file.write_bytes(data * times)
        _, line = end_well(lambda: read_text(str(file), unit, folder, vocab_size))
        if line and (byte := re.search(r"byte (\d+) is (0x..)", line)):
            assert (data * times)[int(byte[1])] == int(byte[2], 16)


@fuzz(200)
@given(st.lists(CHARACTERS, min_size=1, max_size=3), st.integers(1, 50), st.sampled_from(UNITS))
def test_a_text_in_blocks_has_the_tokens_of_the_whole(texts, block_size, unit):
    texts = [some.encode("utf-8", "replace").decode() for some in texts]
    without_marks = [some.removeprefix("\ufeff") for some in texts]
    whole, characters = tokenize("\n".join(map(normalise, without_marks)), unit)
    blocks = [tokenize(block, unit) for block, _ in read_blocks([some.encode() for some in texts], block_size)]
    assert [token for some, _ in blocks for token in some] == whole
    if all(some for some, _ in blocks):  # in a block of whitespace, no token can count its characters
        assert [count for _, counts in blocks for count in counts] == characters.tolist()


@fuzz(60)
@given(st.data(), st.sampled_from(UNITS))
def test_damaged_tokens_are_noticed_and_made_anew(data, unit):
    def encode() -> tuple:
        splits, *rest = token_store.encode({"train": [words], "test": [b"one more"]}, unit, 50, 0.1, Path(folder), 0)
        arrays = [None if array is None else array.tolist() for some in splits.values() for array in some]
        return [*splits], arrays, rest

    words = b"one two three, four\nfive\n" * 8
    with tempfile.TemporaryDirectory() as folder:
        expected, _ = end_well(encode)
        files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
        file = data.draw(st.sampled_from(files))
        file.write_bytes(data.draw(damaged([some.read_bytes() for some in [file] * 4 + files])))
        assert end_well(encode) == (expected, None)


# --- published and prepared sets


LABELS, PIXELS = "labels-idx1-ubyte", "images-idx3-ubyte"
DATA = {PIXELS: np.random.default_rng(0).bytes(3000), LABELS: np.random.default_rng(1).bytes(300)}
CONTENTS = {name: Content(len(data), hashlib.sha256(data).hexdigest()) for name, data in DATA.items()}
BY_NAME = CONTENTS | {LABELS: Content(300, None)}  # the checksum of the labels is not known


def make_archives() -> list[bytes]:
    """Each has both contents."""
    packers = [gzip.compress, bz2.compress, lzma.compress]
    members = DATA | {f"{name}.gz": gzip.compress(data) for name, data in DATA.items()}
    buffers = {mode: io.BytesIO() for mode in ("w", "w:gz", "w:bz2", "w:xz")}
    for mode, buffer in buffers.items():
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for name, data in members.items():
                entry = tarfile.TarInfo(name if mode == "w:gz" else "long/" * 30 + name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    archives = [buffer.getvalue() for buffer in buffers.values()]
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        archives.append(buffer.getvalue())
    return archives + [pack(archive) for pack in packers for archive in (archives[0], archives[5])]


ARCHIVES = make_archives()
PACKED = [pack(data) for pack in (gzip.compress, bz2.compress, lzma.compress) for data in DATA.values()]


def find(contents: dict[str, Content], folder: str) -> dict[str, bytes]:
    return originals.find(contents, originals.list_files(folder), {"Other": CONTENTS})


@fuzz(150)
@given(st.lists(damaged(ARCHIVES) | damaged(PACKED) | st.sampled_from(PACKED), min_size=1, max_size=3), NAMES)
def test_the_originals_are_found_whole_or_not_at_all(files, name):
    tree = {name[:200] + str(number).encode(): data for number, data in enumerate(files)}
    with grown(tree) as root:
        for contents in (CONTENTS, BY_NAME):
            found, line = end_well(partial(find, contents, root))
            assert line or found[PIXELS] == DATA[PIXELS] and found.keys() == contents.keys()
            assert line or contents is BY_NAME or found == DATA


class Prepared:
    """A published set that is prepared from small files, and a set of encoded images."""

    def __init__(self, folder: Path):
        self.store, self.files = folder / "store", {}
        rng = np.random.default_rng(0)
        for names, count in zip(mnist.Mnist.FILES.values(), (30, 20), strict=True):
            arrays = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count).astype(np.uint8)
            for name, array in zip(names, arrays, strict=True):
                shape = np.asarray(array.shape, ">i4").tobytes()
                self.files[name] = bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()
        self.contents = {n: Content(len(data), hashlib.sha256(data).hexdigest()) for n, data in self.files.items()}
        self._prepare_photos()

    def _prepare_photos(self) -> None:
        import tensorflow_datasets as tfds

        features = {
            "photo": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "kind": tfds.features.ClassLabel(names=["cat", "dog"]),
        }
        examples = [{"photo": PNG, "kind": number % 2} for number in range(12)]

        def info(builder):
            return tfds.core.DatasetInfo(builder=builder, features=tfds.features.FeaturesDict(features))

        members = dict(VERSION=tfds.core.Version("1.0.0"), _info=info, pkg_dir_path=self.store, __module__=__name__)
        members |= dict(_generate_examples=None, _split_generators=lambda *_: {"train": iter(enumerate(examples))})
        builder = type("Photos", (tfds.core.GeneratorBasedBuilder,), members, skip_registration=True)
        tfds.disable_progress_bar()
        builder(data_dir=self.store, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Iterator[Prepared]:
    folder = tmp_path_factory.mktemp("prepared")
    made = Prepared(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist.Mnist, "CONTENTS", made.contents)
        # each call of it leaves an empty folder in /tmp
        patch.setattr("tensorflow_datasets.core.DatasetInfo.initialize_from_bucket", lambda _: None)
        for name, data in made.files.items():
            (folder / name).write_bytes(data)
        made.arrays = load_mnist(made.store, folder)
        yield made


def load_mnist(store: Path | str, manual_dir: Path | str | None = None) -> dict:
    splits = builders.load("mnist.Mnist", ("train", "test"), str(store), manual_dir and str(manual_dir))
    return {
        (split, name): (array.dtype, array.shape, array.tobytes())
        for split, arrays in splits.items()
        for name, array in arrays.items()
    }


@st.composite
def damaged_store(draw, store: Path, name: str) -> tuple[str, bytes]:
    """The path of a file of a prepared set, relative to the store, and other bytes for it."""
    files = sorted(file for file in (store / name).rglob("*") if file.is_file())
    file = draw(st.sampled_from(files))
    return str(file.relative_to(store)), draw(damaged([some.read_bytes() for some in [file] * 4 + files]))


@fuzz(40)
@given(st.data())
def test_a_damaged_prepared_set_gives_its_arrays_or_is_refused(prepared, data):
    file, damage = data.draw(damaged_store(prepared.store, "mnist"))
    with tempfile.TemporaryDirectory() as store:
        shutil.copytree(prepared.store, store, dirs_exist_ok=True)
        Path(store, file).write_bytes(damage)
        arrays, line = end_well(lambda: load_mnist(store))
        assert arrays == prepared.arrays or line and store in line
        assert line is None or not file.endswith(".npz"), line


@fuzz(60)
@given(st.data(), st.sampled_from(["mnist", "photos"]), st.sampled_from([0, 2**28]))
def test_damaged_records_are_read_or_refused(prepared, data, name, memory_limit):
    file, damage = data.draw(damaged_store(prepared.store, name))
    with tempfile.TemporaryDirectory() as store:
        shutil.copytree(prepared.store, store, dirs_exist_ok=True)
        Path(store, file).write_bytes(damage)
        _, line = end_well(lambda: read_images(f"tfds:{name}", data_dir=store, memory_limit=memory_limit))
        assert line is None or store in line or f"tfds:{name}" in line


@fuzz(15)
@given(st.data())
def test_damaged_originals_are_refused_before_anything_is_prepared(prepared, data):
    name = data.draw(st.sampled_from(sorted(prepared.files)))
    damage = data.draw(damaged([prepared.files[name], gzip.compress(prepared.files[name])]))
    with tempfile.TemporaryDirectory() as folder:
        for other, content in prepared.files.items():
            Path(folder, other).write_bytes(damage if other == name else content)
        arrays, line = end_well(lambda: load_mnist(f"{folder}/store", folder))
        assert line or arrays == prepared.arrays
        assert line is None or not os.path.exists(f"{folder}/store/mnist")


# --- whole programs


@pytest.mark.parametrize(("extra", "exit_code"), [({}, 0), ({b"\x1b\xff.tif": IMAGES["packbits.tif"][:300]}, 3)])
def test_the_program_prints_one_line_for_each_thing(extra, exit_code):
    """An image that Pillow warns of is read in silence."""
    good = {name.encode(): data for name, data in IMAGES.items() if name != "lab.tif"}
    entries = good[b"rgb.jpg"].index(b"Exif\0\0") + 14  # their number
    good[b"warning.jpg"] = good[b"rgb.jpg"][:entries] + b"\xff\xff" + good[b"rgb.jpg"][entries + 2 :]
    tree = {name: good | extra | {b"loop": ("link", b"..")} for name in (b"caf\xe9\n", b"$x \x1b[2J")}
    with grown(tree) as root:
        words = ["--config", "configs/custom_images.py", f"--config.data.source={root}", "--dry_run"]
        with time_limit():
            done = run_command("main", *words)
    assert done.returncode == exit_code, done.stderr
    assert len(done.stderr.splitlines()) == 1 + bool(extra), done.stderr
    for line in done.stderr.splitlines() + done.stdout.splitlines():
        assert_one_line(line)
