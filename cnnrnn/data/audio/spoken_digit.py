"""The Free Spoken Digit Dataset: ten digits, spoken 50 times by each of five speakers, at 8,000 samples a second.

Source: Jackson, Souza, Flaks, Pan, Nicolas, Thite, "Free Spoken Digit Dataset", version 1.0.9.
"""

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnrnn.data.audio.wav import decode_wav
from cnnrnn.errors import DataError

ARCHIVE = "free-spoken-digit-dataset-1.0.9.tar.gz"
SHA256 = "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0"
NAME = re.compile(r".*/recordings/(?P<digit>\d)_(?P<speaker>[a-z]+)_(?P<number>\d+)\.wav")
PHONES = (  # of CMUdict, without stress
    "Z IH R OW", "W AH N", "T UW", "TH R IY", "F AO R", "F AY V", "S IH K S", "S EH V AH N", "EY T", "N AY N",
)  # fmt: skip
NUM_TEST, NUM_VALIDATION = 5, 3  # recordings 0 to 4 of each digit and speaker are the official test


class SpokenDigit(NamedTuple):
    """A recording: float32 samples [N] between -1 and 1, their rate, the digit, its phones, the speaker, a number."""

    samples: np.ndarray
    rate: int
    digit: int
    phones: tuple[str, ...]
    speaker: str
    number: int

    @property
    def name(self) -> str:
        """As the file is called."""
        return f"{self.digit}_{self.speaker}_{self.number}.wav"


def read_digits(folder: str) -> list[SpokenDigit]:
    """All recordings of the original archive in a folder, in the order of their names.

    Raises:
      DataError: the archive is not there, or it is not the original.
    """
    file = Path(os.path.expanduser(folder)) / ARCHIVE
    if not os.path.isfile(file):
        raise DataError(f"no file {file} - put the original there, or name its folder, data.manual_dir")
    contents = file.read_bytes()
    if hashlib.sha256(contents).hexdigest() != SHA256:
        raise DataError(f"{file} is not the original: its SHA-256 is another - copy it again")
    return sorted(_members(contents), key=lambda one: (one.digit, one.speaker, one.number))


def split_of(one: SpokenDigit, left_out: str | None) -> str:
    """The split of a recording: the official one, or with a speaker left out everything of that speaker is the test."""
    if left_out is not None and one.speaker == left_out:
        return "test"
    if left_out is None and one.number < NUM_TEST:
        return "test"
    return "validation" if NUM_TEST <= one.number < NUM_TEST + NUM_VALIDATION else "train"


def _members(contents: bytes) -> Iterator[SpokenDigit]:
    with tarfile.open(fileobj=io.BytesIO(contents)) as archive:
        for member in archive:
            if found := NAME.fullmatch(member.name):
                samples, rate = decode_wav(archive.extractfile(member).read())
                digit = int(found["digit"])
                phones = tuple(PHONES[digit].split())
                yield SpokenDigit(samples, rate, digit, phones, found["speaker"], int(found["number"]))
