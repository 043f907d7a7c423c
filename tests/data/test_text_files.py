"""Text files: any bytes, names and blocks are read as the whole text would be, or refused in one line."""

import os
from pathlib import Path

import pytest

from cnnrnn.data import text
from cnnrnn.data.text_files import WHOLE, read_blocks
from cnnrnn.data.token_store import encode
from cnnrnn.data.vocabulary import tokenize
from cnnrnn.errors import DataError


@pytest.mark.parametrize("unit", ["word", "whitespace"])
@pytest.mark.parametrize("separator", ["\x1c", "\x1f", "\v", "\u3000"])
def test_whitespace_is_the_same_in_blocks_and_in_tokens(unit, separator):
    words = f"one {separator}two{separator} three{separator}{separator}\n{separator}four"
    blocks = [tokenize(block, unit)[0] for block, _ in read_blocks([words.encode()], 1)]
    assert [token for some in blocks for token in some] == tokenize(words, unit)[0]
    assert [token for some in blocks for token in some if token != "\n"] == ["one", "two", "three", "four"]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("block_size", [1, 2, 4, 1000])
def test_the_byte_that_is_no_utf8_is_named(mark, block_size):
    data = f"{mark}é1".encode() + b"\xffend"
    with pytest.raises(DataError, match=f"byte {data.index(255)} is 0xff"):
        list(read_blocks([data], block_size))


@pytest.mark.parametrize("data", [b"\xef", b"\xef\xbb"])
def test_a_cut_byte_order_mark_is_refused(data):
    with pytest.raises(DataError, match="is cut short"):
        list(read_blocks([data]))


def test_a_missing_file_of_a_long_text_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("words " * 9)
    (tmp_path / "b.txt").symlink_to("nowhere")
    files = {WHOLE: [tmp_path / "a.txt", tmp_path / "b.txt"]}
    with pytest.raises(DataError, match="b.txt is a link to a file that is missing - "):
        encode(files, "word", 50, 0.1, tmp_path / "stored", min_stored_size=1)


@pytest.mark.parametrize("unit", ["character", "word"])
def test_damage_in_any_file_of_stored_tokens_is_noticed(tmp_path, unit):
    def stored() -> tuple:
        encoded = encode({WHOLE: [b"one two three\n" * 30]}, unit, 50, 0.1, tmp_path, min_stored_size=1)
        lengths = [part.characters for part in encoded.splits.values()]
        lengths = [None if array is None else array.tolist() for array in lengths]
        return [part.ids.tolist() for part in encoded.splits.values()], lengths, encoded[1:]

    expected = stored()
    (folder,) = tmp_path.iterdir()
    for name in sorted(os.listdir(folder)):
        good = (folder / name).read_bytes()
        for damaged in (good[:-1] + bytes([good[-1] ^ 1]), good[:9] + b"((" + good[11:], b"[" * 100_000, b""):
            (folder / name).write_bytes(damaged)
            assert stored() == expected
            assert (folder / name).read_bytes() == good


@pytest.mark.parametrize("source", ["~nobody_has_this_name/a.txt", "x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(source):
    with pytest.raises(DataError, match="no text file or folder"):
        text.stream(0, source=source)


def test_the_current_folder_is_a_text(tmp_path, monkeypatch):
    Path(tmp_path, "book").mkdir()
    Path(tmp_path, "book", "a.txt").write_text("some words\n" * 300)
    monkeypatch.chdir(tmp_path)
    here, there = (text.stream(0, source=source) for source in (".", str(tmp_path)))
    assert here["train"].info == there["train"].info
