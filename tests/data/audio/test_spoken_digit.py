"""The spoken digits: the original archive is checked, and the splits are the official ones or leave a speaker out."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cnnrnn.data.audio import spoken_digit
from cnnrnn.data.audio.recordings import recordings
from cnnrnn.data.audio.wav import encode_wav
from cnnrnn.errors import DataError

ORIGINAL = Path(__file__).parents[4] / "shared" / "data" / "raw" / "spoken_digit"


def make_archive(folder, monkeypatch):
    """An archive of two speakers and two digits, which passes for the original."""
    contents, rng = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=contents, mode="w:gz") as archive:
        for name in (
            "README.md",
            *(f"recordings/{d}_{s}_{n}.wav" for d in "07" for s in ("ann", "bob") for n in range(10)),
        ):
            data = encode_wav(0.1 * rng.normal(size=900), 8000) if name.endswith("wav") else b"digits"
            info = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.9/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (folder / spoken_digit.ARCHIVE).write_bytes(contents.getvalue())
    monkeypatch.setattr(spoken_digit, "SHA256", hashlib.sha256(contents.getvalue()).hexdigest())
    return dict(source="spoken_digit", manual_dir=str(folder), sample_rate=8000, num_buckets=1)


def names(data):
    return {data.source[number]["name"] for number in range(len(data.source))}


def test_the_official_split(tmp_path, monkeypatch):
    splits = recordings(0, **make_archive(tmp_path, monkeypatch))
    expected = {"test": range(5), "validation": range(5, 8), "train": range(8, 10)}
    for split, numbers in expected.items():
        assert names(splits[split]) == {f"{d}_{s}_{n}.wav" for d in "07" for s in ("ann", "bob") for n in numbers}
    info, example = splits["train"].info, splits["train"].source[0]
    assert [info["labels"][label] for label in example["labels"]] == ["Z", "IH", "R", "OW"]


def test_a_speaker_is_left_out(tmp_path, monkeypatch):
    settings = make_archive(tmp_path, monkeypatch)
    splits = recordings(0, left_out="bob", **settings)
    assert names(splits["test"]) == {f"{d}_bob_{n}.wav" for d in "07" for n in range(10)}
    assert not any("bob" in name for split in ("train", "validation") for name in names(splits[split]))
    with pytest.raises(DataError, match="no speaker eve - data.left_out is one of ann, bob"):
        recordings(0, left_out="eve", **settings)


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="spoken_digit needs free-spoken.*tar.gz - name its folder, data.manual_dir"):
        recordings(0, source="spoken_digit")
    with pytest.raises(DataError, match="no file .*free-spoken-digit-dataset-1.0.9.tar.gz - put the original there"):
        recordings(0, source="spoken_digit", manual_dir=str(tmp_path))
    settings = make_archive(tmp_path, monkeypatch)
    file = tmp_path / spoken_digit.ARCHIVE
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="is not the original: its SHA-256 is another"):
        recordings(0, **settings)


@pytest.mark.skipif(not ORIGINAL.is_dir(), reason="the original recordings are not here")
def test_the_original():
    digits = spoken_digit.read_digits(str(ORIGINAL))
    splits = [spoken_digit.split_of(one, None) for one in digits]
    assert len(digits) == 2500 and splits.count("test") == 250 and splits.count("validation") == 150
    assert {one.rate for one in digits} == {8000} and len({one.speaker for one in digits}) == 5
