"""Texts are read in blocks, encoded into the smallest integer type, and stored once if they are long."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from cnnrnn.data import tokens
from cnnrnn.data.text import TokenSource
from cnnrnn.data.text_files import WHOLE, find_texts, read_blocks
from cnnrnn.data.token_store import encode
from cnnrnn.data.vocabulary import Vocabulary, normalise, tokenize
from cnnrnn.errors import DataError

BOOK = "".join(f"{number} Käse, {number % 7} мир!\n" for number in range(900))


def write(file: Path, text: str = BOOK, encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode(encoding))
    return file


# --- files


@given(st.lists(st.text("ab é\u0301\r\n\t\u2028म\u093fक,.-", max_size=40), min_size=1, max_size=3), st.integers(1, 9))
def test_blocks_are_the_normalised_text_and_divide_no_word(texts, block_size):
    whole = "\n".join(map(normalise, texts))
    blocks = [text for text, _ in read_blocks([text.encode() for text in texts], block_size)]
    assert "".join(blocks) == whole
    for unit in ("character", "word", "whitespace"):
        assert [token for block in blocks for token in tokenize(block, unit)[0]] == tokenize(whole, unit)[0]


@pytest.mark.parametrize("line_end", ["\r", "\r\n", "\n", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("block_size", [1, 5, 100])
def test_the_line_ends_of_every_system_are_line_ends(line_end, block_size):
    text = line_end.join(["one", "two", "", "three", ""]).encode()
    assert "".join(block for block, _ in read_blocks([text], block_size)) == "one\ntwo\n\nthree\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (BOOK.encode("utf-16"), "UTF-16LE"),
        (BOOK.encode("utf-16-le"), "UTF-16LE"),
        (BOOK.encode("utf-16-be"), "UTF-16BE"),
        ("Привет, мир. ".encode("utf-16-le") * 99, "UTF-16LE"),  # its only zero bytes are those of blanks and marks
        (BOOK.encode("utf-32"), "UTF-32LE"),
        (b"text \0 and a zero byte " * 99, "does not look like text"),
        (b"fine so far\n" * 200_000 + b"\0", "does not look like text"),  # not at the start
        ("Käse für später, größer als üblich.\n".encode("latin-1") * 99, "byte 1 is 0xe4; it looks like"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "a gzip file"),
        (b"PK\3\4 and more", "a zip archive"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"{\\rtf1\\ansi hello}", "an RTF document"),
        ("wörd".encode()[:2], "cut short"),
    ],
)
def test_what_is_no_utf8_text_is_refused_with_what_it_looks_like(tmp_path, data, words):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError) as refused:
        encode({WHOLE: [tmp_path / "a.txt"]}, "character", 99, 0.1, tmp_path / "stored")
    assert words in str(refused.value) and "a.txt" in str(refused.value) and " - " in str(refused.value)


def test_a_text_is_found_whatever_its_capitals_and_its_splits(tmp_path):
    write(tmp_path / "books" / "A.TXT")
    write(tmp_path / "books" / "sub" / "b.Txt")
    write(tmp_path / "books" / "__MACOSX" / "b.txt")
    write(tmp_path / "books" / "sub" / "._b.txt")
    write(tmp_path / "books" / "notes.md")
    texts, listing = find_texts(tmp_path / "books")
    assert [file.name for file in texts[WHOLE]] == ["A.TXT", "b.Txt"]
    assert listing.left_out["not a *.txt file"] == [str(tmp_path / "books" / "notes.md")]

    for name in ("Training/pos/1.txt", "Training/neg/2.txt", "Test/3.txt", "extra/4.txt", "readme.txt"):
        write(tmp_path / "reviews" / name)
    texts, listing = find_texts(tmp_path / "reviews")
    assert {split: [file.name for file in files] for split, files in texts.items()} == {
        "train": ["2.txt", "1.txt"],
        "test": ["3.txt"],
    }
    assert listing.left_out["named after no split"] == [
        str(tmp_path / "reviews" / name) for name in ("readme.txt", "extra")
    ]
    for name in ("wiki.TRAIN.txt", "wiki.val.txt"):
        write(tmp_path / "wiki" / name)
    assert find_texts(tmp_path / "wiki")[0].keys() == {"train", "validation"}


# --- tokens


@pytest.mark.parametrize(
    ("unit", "text", "dtype"),
    [
        ("character", BOOK, np.uint8),
        ("word", " ".join(f"w{number}" for number in range(250)), np.uint8),
        ("word", " ".join(f"w{number}" for number in range(400)), np.uint16),
        ("whitespace", " ".join(f"w{number}" for number in range(70_000)), np.uint32),
    ],
)
def test_tokens_are_kept_in_the_smallest_type_and_batches_are_int32(unit, text, dtype):
    encoded = encode({WHOLE: [text.encode()]}, unit, 100_000, 0.0, Path("nowhere"))
    (train, _) = encoded.splits.values()
    assert train.ids.dtype == dtype and len(train.ids) == len(tokenize(text, unit)[0])
    assert train.characters is None if unit == "character" else train.characters.dtype == np.uint8
    batch = TokenSource(train, encoded.vocabulary).take(np.arange(5))
    assert {name: rows.dtype for name, rows in batch.items()} == dict.fromkeys(batch, np.int32)
    assert batch["tokens"].tolist() == [encoded.vocabulary.line_end, *batch["targets"][:4]]
    words, known = [encoded.vocabulary.tokens[index] for index in train.ids], {*encoded.vocabulary.tokens}
    assert words == [word if word in known else "<unk>" for word in tokenize(text, unit)[0]]


@pytest.mark.parametrize("unit", ["character", "word", "whitespace"])
def test_a_long_text_is_encoded_once_and_mapped(tmp_path, monkeypatch, capsys, unit):
    texts = {WHOLE: [write(tmp_path / "a.txt")]}
    settings = dict(unit=unit, vocab_size=50, held_out=0.2, directory=tmp_path / "stored")
    in_memory = encode(texts, **settings)
    first = encode(texts, **settings, min_stored_size=1)
    assert "encoding 18,790 bytes" in capsys.readouterr().out
    monkeypatch.setattr(tokens, "read_blocks", None)  # the second start reads no text but to know it again
    second = encode(texts, **settings, min_stored_size=1)
    assert capsys.readouterr().out == ""
    assert first.vocabulary == second.vocabulary == in_memory.vocabulary and second.unknown == in_memory.unknown
    for split, expected in in_memory.splits.items():
        for got in (first.splits[split], second.splits[split]):
            assert isinstance(got.ids, np.memmap) and got.ids.dtype == expected.ids.dtype
            np.testing.assert_array_equal(got.ids, expected.ids)
            np.testing.assert_equal(got.characters, expected.characters)
            assert got.fingerprint == expected.fingerprint
    assert TokenSource(second.splits["train"], second.vocabulary).nbytes == 0


def test_another_text_or_another_rule_is_encoded_again(tmp_path):
    texts, seen = {WHOLE: [write(tmp_path / "a.txt")]}, set()
    settings = dict(unit="word", vocab_size=50, held_out=0.2, directory=tmp_path / "stored", min_stored_size=1)
    for change in ({}, {"unit": "whitespace"}, {"vocab_size": 40}, {"held_out": 0.1}):
        encode(texts, **settings | change)
        assert len(new := {*(tmp_path / "stored").iterdir()} - seen) == 1
        seen |= new
    write(tmp_path / "a.txt", BOOK.replace("7", "8"))  # of the same size
    encode(texts, **settings)
    write(tmp_path / "renamed.txt", BOOK)  # the same text in another place
    encode({WHOLE: [tmp_path / "renamed.txt"]}, **settings)
    assert len({*(tmp_path / "stored").iterdir()}) == len(seen) + 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:200] + b"\1\2\3" + data[203:], lambda _: b""]
)
@pytest.mark.parametrize("name", ["train.ids.npy", "info.json"])
def test_damaged_tokens_are_made_anew(tmp_path, name, damage):
    texts = {WHOLE: [write(tmp_path / "a.txt")]}
    settings = dict(unit="word", vocab_size=500, held_out=0.2, directory=tmp_path / "stored", min_stored_size=1)
    whole = encode(texts, **settings)
    expected = {split: np.array(part.ids) for split, part in whole.splits.items()}
    (folder,) = (tmp_path / "stored").iterdir()
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    again = encode(texts, **settings)
    for split, ids in expected.items():
        np.testing.assert_array_equal(again.splits[split].ids, ids)
    assert again.vocabulary == whole.vocabulary


def test_where_nothing_can_be_stored_the_tokens_are_in_memory(tmp_path):
    (tmp_path / "stored").write_text("no folder")
    texts = {WHOLE: [write(tmp_path / "a.txt")]}
    encoded = encode(texts, "word", 50, 0.2, tmp_path / "stored", min_stored_size=1)
    assert not isinstance(encoded.splits["train"].ids, np.memmap) and len(encoded.splits["train"].ids)


@pytest.mark.parametrize("letters", ["etaoin shrdlu", "оеаинт сврлкм"], ids=["ascii", "cyrillic"])
def test_twenty_megabytes_cost_less_memory_than_four_times_their_size(tmp_path, letters):
    """In characters, the first time, without a training. It was fifty times their size."""
    line = "".join(np.random.default_rng(0).choice([*letters], 99)) + "\n"
    write(tmp_path / "a.txt", line * (20_000_000 // len(line.encode())))
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom cnnrnn.data.token_store import encode\nimport regex\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nbefore = peak()\n"
        "encode({'whole': [Path(sys.argv[1])]}, 'character', 99, 0.1, Path(sys.argv[2]))\nprint(peak() - before)"
    )
    words = [sys.executable, "-c", code, tmp_path / "a.txt", tmp_path / "stored"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 80_000  # kilobytes


def test_no_token_is_divided_between_the_splits():
    encoded = encode({WHOLE: [b"aaaa bbbb cccc dddd"]}, "word", 99, 0.4, Path("nowhere"))
    vocabulary = encoded.vocabulary
    words = {split: [vocabulary.tokens[index] for index in part.ids] for split, part in encoded.splits.items()}
    assert len(words["train"]) == 3 and len(words["validation"]) == 1


# --- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("हिन्दी में शब्द, क्या हैं?", ["हिन्दी", "में", "शब्द", ",", "क्या", "हैं", "?"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("می‌خواهم بروم", ["می‌خواهم", "بروم"]),
        ("e\u0301te\u0301 naïve", ["été", "naïve"]),
        ("don't l’eau 3.14 1,000 foo_bar", ["don't", "l’eau", "3.14", "1,000", "foo_bar"]),
        ("the <unk> of N.", ["the", "<unk>", "of", "N", "."]),
        ("日本 カタカナ", ["日", "本", "カタカナ"]),
        ("👩‍👩‍👧🇩🇪!", ["👩‍👩‍👧", "🇩🇪", "!"]),
        ("x = [1]\n", ["x", "=", "[", "1", "]", "\n"]),
    ],
)
def test_a_word_is_what_unicode_says(text, words):
    assert tokenize(normalise(text), "word")[0] == words


@pytest.mark.parametrize("text", ["हिन्दी में शब्द, क्या?", "日本語。well-known", "मैं घर।\n", "don't go", "ภาษาไทย"])
def test_words_of_other_scripts_come_back(text):
    words, _ = tokenize(text, "word")
    vocabulary = Vocabulary.build("word", words, [], 99)
    assert vocabulary.decode(vocabulary.encode(words)) == text


@pytest.mark.parametrize("names", [("Training.txt", "Valid.txt"), ("book_train.txt", "book_valid.txt")])
def test_splits_in_the_only_folder_are_not_mixed(tmp_path, names, capsys):
    for name in names:
        write(tmp_path / "a" / "b" / name)
    texts, _ = find_texts(tmp_path)
    assert {split: file.name for split, (file,) in texts.items()} == dict(
        zip(("train", "validation"), names, strict=True)
    )
    assert f"reading {tmp_path / 'a' / 'b'}" in capsys.readouterr().err
