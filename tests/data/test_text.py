"""Streams of text: every token counts once, rows continue where they stopped, and files without text are refused."""

import numpy as np
import pytest

from cnnrnn.data import text
from cnnrnn.data.text import TokenSource, make_dataset
from cnnrnn.data.tokens import Tokens
from cnnrnn.data.vocabulary import Vocabulary
from cnnrnn.errors import DataError

LETTERS = "abcdefghijklmnopqrstuvwxyz\n"


def make_stream(count, batch_size, window, warmup=None):
    """Targets 0, 1, 2, ...: each is its offset in the text."""
    vocabulary = Vocabulary("character", tuple(LETTERS))
    source = TokenSource(Tokens(np.arange(count, dtype=np.uint16), None), vocabulary)
    return make_dataset(source, batch_size, window, warmup)


@pytest.mark.parametrize("warmup", [None, 0, 5, 1000])
@pytest.mark.parametrize(("count", "batch_size", "window"), [(100, 4, 5), (101, 7, 8), (9, 4, 16), (64, 1, 64)])
def test_every_token_counts_once_in_a_pass(count, batch_size, window, warmup):
    stream = make_stream(count, batch_size, window, warmup)
    batches = [stream.batch(number) for number in range(stream.num_batches)]
    counted = np.concatenate([batch["targets"][batch["mask"] > 0] for batch in batches])
    assert sorted(counted) == list(range(count))
    assert all(batch["tokens"].shape == (batch_size, window) for batch in batches)


@pytest.mark.parametrize("warmup", [None, 12])
def test_a_row_continues_where_it_stopped_and_sees_the_token_before_its_target(warmup):
    stream = make_stream(101, 4, 5, warmup)
    rows = [[] for _ in range(4)]
    for number in range(stream.num_batches):
        batch = stream.batch(number)
        for row in range(4):
            if batch["reset"][row]:
                rows[row].clear()
            rows[row] += zip(batch["tokens"][row], batch["targets"][row], batch["mask"][row], strict=True)
    for row in rows:
        real = [(token, target) for token, target, mask in row if mask]
        expected = [stream.source.vocabulary.line_end if target == 0 else target - 1 for _, target in real]
        assert [token for token, _ in real] == expected
        assert [target for _, target in real] == list(range(real[0][1], real[-1][1] + 1))


@pytest.mark.parametrize("warmup", [None, 12, 1000])
def test_the_index_is_the_offset_of_the_target(warmup):
    stream = make_stream(101, 4, 5, warmup)
    for number in range(stream.num_batches):
        batch = stream.batch(number)
        assert batch["index"].shape == (4, 5) and batch["index"].dtype == np.int32
        np.testing.assert_array_equal(batch["index"], batch["targets"])  # each target is its offset
        np.testing.assert_array_equal(batch["characters"] == 1, stream.sampler.plan(number).in_text)


def test_a_row_of_an_evaluation_has_read_its_warmup():
    """The first row starts the text with a new carry; the others have read at least 12 tokens before their own."""
    stream = make_stream(100, 4, 5, warmup=12)
    read = np.zeros(4, int)
    for number in range(stream.num_batches):
        batch = stream.batch(number)
        read = np.where(batch["reset"] > 0, 0, read)
        starting = (batch["mask"][:, 0] > 0) & (number == stream.sampler.warmup_windows)
        assert (read[starting] >= np.minimum(12, batch["targets"][starting, 0])).all()
        read += 5
    assert stream.batch(stream.sampler.warmup_windows)["reset"].tolist() == [1, 0, 0, 0]


def test_a_new_pass_begins_with_a_new_carry():
    stream = make_stream(100, 4, 5)
    assert [stream.batch(step)["reset"].tolist() for step in (0, 1, stream.num_batches)] == [[1] * 4, [0] * 4, [1] * 4]
    np.testing.assert_equal(stream.batch(0), stream.batch(stream.num_batches))


def test_the_embedded_text():
    splits = text.stream(0)
    assert splits.keys() == {"train", "validation"}
    assert 300_000 < splits["train"].info["num_tokens"] and splits["train"].dims["vocab_size"] > 60
    info = splits["train"].info
    assert info["text"] == splits["validation"].info["text"] == splits["train"].source.vocabulary.info
    assert info["inference"] == "text" and info["dims"] == splits["train"].dims
    assert info["num_tokens"] == len(splits["train"].source) and info["fingerprint"] > 0
    line, labels = splits["validation"].source.sample_line()
    assert 15 <= len(line) == len(labels) <= 60 and labels[0] == labels[-1] == "↵"


def test_a_file_and_a_folder_of_the_users(tmp_path):
    (tmp_path / "b.txt").write_text("second part " * 50, encoding="utf-8-sig")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_bytes(("ä first part \r\n" * 50).encode())
    settings = dict(unit="word", window=4, batch_size=2)
    one = text.stream(0, source=str(tmp_path / "b.txt"), **settings)
    assert one["train"].info["num_tokens"] + one["validation"].info["num_tokens"] == 100
    both = text.stream(0, source=str(tmp_path), **settings)
    assert set(both["train"].source.vocabulary.tokens) >= {"second", "part", "first", "ä", "\n"}
    for name in ("my.train", "my.valid", "my.test"):
        (tmp_path / f"{name}.txt").write_text(f"{name} and more\n" * 20 + "once")
    named = text.stream(0, source=str(tmp_path), **settings)
    assert named.keys() == {"train", "validation", "test"} and "second" not in named["train"].source.vocabulary.tokens
    assert "<unk>" in named["train"].source.vocabulary.tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "text of .* is empty"),
        (b" \n \n", "text of .* is empty"),
        (b"short", "has 4 characters, fewer than one window of 64 for each of 32 rows"),
        (b"good \xff bad" * 99, "not UTF-8 text: byte 5 is 0xff"),
        (None, "no text file or folder"),
    ],
)
def test_a_file_without_text_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        text.stream(0, source=str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "valid", "dev"], "dev.txt and .*valid.txt are both for validation"),
        (["train"], "nothing to evaluate in .*: understood train.txt as train"),
        (["test", "book"], "no training text in .*: understood test.txt as test"),
    ],
)
def test_files_named_after_splits_are_not_mixed(tmp_path, names, message):
    for name in names:
        (tmp_path / f"{name}.txt").write_text("words " * 900)
    with pytest.raises(DataError, match=message):
        text.stream(0, source=str(tmp_path))


def test_a_folder_without_text_and_a_misspelt_set(tmp_path):
    with pytest.raises(DataError, match=r"no \*.txt in"):
        text.stream(0, source=str(tmp_path))
    with pytest.raises(DataError, match=r"did you mean penn_treebank\?"):
        text.stream(0, source="pen_treebank")
