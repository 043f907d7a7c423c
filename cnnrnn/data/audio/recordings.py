"""Recordings with their labels, in batches of similar length: synthesized words, or the user's own folder."""

import zlib
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from cnnrnn.command import note
from cnnrnn.data.audio.transcripts import read_folder
from cnnrnn.data.audio.wav import resample
from cnnrnn.data.dataset import Batch, Dataset, Example, pad_rows
from cnnrnn.data.sampling import BucketSampler, best_boundaries
from cnnrnn.errors import DataError
from cnnrnn.signatures import PositiveFloat, PositiveInt, Rate, Resumable

Unit = Literal["phone", "character"]
GRID = 0.05  # seconds; padded lengths are multiples of it


class Recording(NamedTuple):
    """A recording.

    Attributes:
      samples: int16 [N], at the rate of the set.
      labels: as text.
      name: for people.
      starts: where each label begins, in seconds, if it is known.
    """

    samples: np.ndarray
    labels: tuple[str, ...]
    name: str
    starts: np.ndarray | None = None


def recordings(
    seed: int,
    *,
    source: Resumable[str] = "espeak",
    unit: Unit = "phone",
    pronounce: bool = False,
    sample_rate: PositiveInt = 16_000,
    max_seconds: PositiveFloat = 20.0,
    held_out: Rate = 0.1,
    batch_size: PositiveInt = 32,
    eval_batch_size: Resumable[PositiveInt] = 64,
    num_buckets: PositiveInt = 4,
    manual_dir: Resumable[str | None] = None,
    left_out: str | None = None,
) -> dict[str, Dataset]:
    """Recordings with their labels: "train", "validation" and "test", and of synthesized words two more splits.

    A batch has "samples" [B, N] int16 and "labels" [B, L] int32, padded with 0, their numbers "length" and
    "label_length" [B], and "mask" and "index" [B]. Label 0 is the blank of CTC.

    Args:
      seed: of the order of the training recordings.
      source: "espeak", words that eSpeak NG synthesizes, with held-out words and voices, see `espeak.Spoken`;
        "spoken_digit", the phones of spoken digits, see `spoken_digit.read_digits`; or a folder of WAV files with
        transcripts, see `transcripts.read_folder`.
      unit: what a label of a transcript is: "phone", the text between blanks, or "character".
      pronounce: whether a transcript has words, whose phones are those of CMUdict, without stress.
      sample_rate: samples a second; recordings at another rate are resampled.
      max_seconds: a longer recording is refused.
      held_out: of a folder, the share that is for validation, and again for test. The name decides.
      batch_size, eval_batch_size: B of the training split and of the others.
      num_buckets: at most this number of padded lengths, and so of programs that are compiled to train.
      manual_dir: of spoken digits, the folder of the original archive.
      left_out: of spoken digits, a speaker who is the whole test, in place of the official one.

    Raises:
      DataError: there are no such recordings, or they are damaged.
    """
    if source == "espeak":
        splits = _synthesized(sample_rate)
    elif source == "spoken_digit":
        splits = _digits(manual_dir, left_out, sample_rate)
    else:
        splits = _divide(_read(source, unit, pronounce, sample_rate), held_out)
    for split, some in splits.items():
        if not some:
            raise DataError(f"{source} has no recording for {split} - give more, or change data.held_out")
        if long := [one for one in some if len(one.samples) > max_seconds * sample_rate]:
            raise DataError(f"{long[0].name} is longer than {max_seconds:g} s - divide it, or raise data.max_seconds")
    names = ["<blank>", *sorted({label for some in splits.values() for one in some for label in one.labels})]
    info = {"inference": "speech", "labels": names, "unit": unit, "sample_rate": sample_rate}
    longest_labels = max(len(one.labels) for some in splits.values() for one in some)
    step = round(GRID * sample_rate)
    datasets, boundaries = {}, ()
    for split, some in splits.items():
        data, is_train = RecordingSource(some, names), split == "train"
        padded = -(-np.array([len(one.samples) for one in some]) // step) * step
        if is_train:
            boundaries = best_boundaries(padded, num_buckets)
        lengths = sorted({*boundaries, max(boundaries[-1], int(padded.max()))})
        size = batch_size if is_train else eval_batch_size
        sampler = BucketSampler(padded, size, lengths, seed if is_train else None)
        seconds = [boundary / sample_rate for boundary in lengths]
        summary = {"recordings": len(some), "minutes": round(data.num_samples / sample_rate / 60, 1)}
        summary |= {"padding": round(sampler.padding_fraction, 3), "padded seconds": seconds}
        if is_train:
            share = f"{sampler.padding_fraction:.0%} of the samples are padding"
            note(f"{share}; a program is compiled for each length of {', '.join(f'{s:g}' for s in seconds)} s")
        dims, collate = {"num_classes": len(names)}, partial(collate_recordings, num_labels=longest_labels)
        datasets[split] = Dataset(data, sampler, collate, dims=dims, info=info, summary=summary)
    return datasets


class RecordingSource:
    """Recordings in memory. An example has the fields of a batch, and the name and the starts of its labels."""

    def __init__(self, recordings: Sequence[Recording], names: Sequence[str]):
        self._recordings, ids = recordings, {name: number for number, name in enumerate(names)}
        self._labels, self.fingerprint, self.num_samples = [], 0, 0
        for one in recordings:
            self._labels.append(np.array([ids[label] for label in one.labels], np.int32))
            self.num_samples += len(one.samples)
            for array in (np.ascontiguousarray(one.samples), self._labels[-1]):
                self.fingerprint = zlib.crc32(array, self.fingerprint)

    def __len__(self) -> int:
        return len(self._recordings)

    def __getitem__(self, index: int) -> Example:
        one, labels = self._recordings[index], self._labels[index]
        return {
            "samples": one.samples,
            "length": len(one.samples),
            "labels": labels,
            "label_length": len(labels),
            "name": one.name,
            "starts": one.starts,
        }


def collate_recordings(examples: Sequence[Example], length: int, num_labels: int) -> Batch:
    """Pads the samples to `length` and the labels to `num_labels`."""
    return {
        "samples": np.stack([pad_rows(example["samples"], length) for example in examples]),
        "labels": np.stack([pad_rows(example["labels"], num_labels) for example in examples]),
        **{name: np.array([example[name] for example in examples], np.int32) for name in ("length", "label_length")},
    }


def _synthesized(sample_rate: int) -> dict[str, list[Recording]]:
    from cnnrnn.data.audio.espeak import spoken_words

    splits = {"train": [], "validation": [], "new_words": [], "new_voices": [], "test": []}
    for word in spoken_words():
        samples = to_int16(resample(word.samples / np.float32(2**15), word.rate, sample_rate))
        splits[word.split].append(Recording(samples, word.phones, word.name, word.starts))
    return splits


def _digits(manual_dir: str | None, left_out: str | None, sample_rate: int) -> dict[str, list[Recording]]:
    from cnnrnn.data.audio import spoken_digit

    if manual_dir is None:
        raise DataError(f"spoken_digit needs {spoken_digit.ARCHIVE} - name its folder, data.manual_dir")
    digits = spoken_digit.read_digits(manual_dir)
    speakers = sorted({one.speaker for one in digits})
    if left_out is not None and left_out not in speakers:
        raise DataError(f"no speaker {left_out} - data.left_out is one of {', '.join(speakers)}")
    splits = {"train": [], "validation": [], "test": []}
    for one in digits:
        samples = to_int16(resample(one.samples, one.rate, sample_rate))
        splits[spoken_digit.split_of(one, left_out)].append(Recording(samples, one.phones, one.name))
    return splits


def _read(source: str, unit: Unit, pronounce: bool, sample_rate: int) -> list[Recording]:
    return [
        Recording(to_int16(resample(samples, rate, sample_rate)), labels, name)
        for samples, rate, labels, name in read_folder(source, unit, pronounce)
    ]


def _divide(some: list[Recording], held_out: float) -> dict[str, list[Recording]]:
    """The splits. A checksum of the name decides, so that a new recording moves no other."""
    splits = {"train": [], "validation": [], "test": []}
    for one in some:
        place = zlib.crc32(one.name.encode()) / 2**32
        splits["test" if place < held_out else "validation" if place < 2 * held_out else "train"].append(one)
    return splits


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples between -1 and 1 as integers of 16 bits; what is outside is clipped."""
    return np.clip(np.round(samples * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
