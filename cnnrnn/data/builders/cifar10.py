"""A TFDS builder for CIFAR-10 in its binary version. TensorFlow is not needed.

The original archive is known by its SHA-256. Of the six files in it, less is known when they come unpacked or packed
again:
- the SHA-256 of the first 4,000 records of data_batch_1.bin, and that of the first 1,000 of test_batch.bin;
- the number of images of each class, in the five training files together and in the test file;
- that no two files are equal.
Only their names tell data_batch_2.bin to data_batch_5.bin apart, and a changed pixel in one of them is not noticed.
"""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from cnnrnn.data.builders import PublishedBuilder, originals
from cnnrnn.data.builders.originals import Content
from cnnrnn.errors import DataError

SHAPE = (3, 32, 32)  # of an image in its record: planes of red, green and blue
RECORD = 1 + math.prod(SHAPE)  # bytes: the label comes first
SIZE = 10_000 * RECORD  # of each file
NUM_CLASSES = 10


class Cifar10(PublishedBuilder):
    """CIFAR-10 as uint8 arrays: image [32, 32, 3], label 0 to 9. Source: Krizhevsky 2009, chapter 3."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "https://www.cs.toronto.edu/~kriz/"
    FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
    CONTENTS = {  # those of a known checksum first: a name does not decide against one
        "data_batch_1.bin": Content(
            SIZE, "0993cf8b8e43bc207603aef9787006995746513f5e3fa5a52e06d1b069926330", prefix=4_000 * RECORD
        ),
        "test_batch.bin": Content(
            SIZE, "8314c96d7cd65618193bab23acdd5d4c4af15bf6dd00a1781d55beedf3be1ef5", prefix=1_000 * RECORD
        ),
    } | {f"data_batch_{number}.bin": Content(SIZE, None) for number in range(2, 6)}

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=(32, 32, 3), dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=NUM_CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.URL + "cifar.html",
        )

    def find(self, files: Sequence[str]) -> dict[str, bytes]:
        """The six files, from the original archive if it is there, else held to what is known of each.

        Raises:
          DataError: one is missing, or they are not those of CIFAR-10.
        """
        (archive,) = self.downloads.values()
        for file in files:
            if is_original(file, archive.size, archive.checksum):
                by_name = {name: Content(content.size, None) for name, content in self.CONTENTS.items()}
                return originals.find(by_name, [file])
        found = super().find(files)
        check_records(found, self.FILES, originals.common_folder(files))
        return found

    def _generate_examples(self, files: dict[str, bytes]):
        for name, data in files.items():
            for number, (image, label) in enumerate(zip(*read_records(data), strict=True)):
                yield f"{name} {number}", {"image": image, "label": int(label)}


def is_original(file: str | Path, size: int, sha256: str) -> bool:
    """Whether a file, as it is, has this size in bytes and this SHA-256. It is read in blocks, not as a whole."""
    try:
        if os.path.getsize(file) != size:
            return False
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    except OSError:
        return False


def read_records(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The records of a file: images [N, 32, 32, 3] uint8 and labels [N] uint8. A record is a label and three planes."""
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, *SHAPE).transpose(0, 2, 3, 1), records[:, 0]


def check_records(found: Mapping[str, bytes], files: Mapping[str, Sequence[str]], folder: str) -> None:
    """Holds six files to what is known of them together.

    Args:
      found: {name: records}.
      files: {split: names}. Every class has the same number of images in a split.
      folder: where they were found.

    Raises:
      DataError: two files are equal, or a class has too many or too few images.
    """
    names: dict[bytes, str] = {}
    for name, data in found.items():
        first = names.setdefault(hashlib.sha256(data).digest(), name)
        if first != name:
            raise DataError(f"{first} and {name} in {folder} are equal - {originals.REMEDY}")
    for split, members in files.items():
        counts = np.bincount(np.concatenate([read_records(found[name])[1] for name in members]), minlength=NUM_CLASSES)
        expected = counts.sum() // NUM_CLASSES
        if len(counts) > NUM_CLASSES or (counts != expected).any():
            raise DataError(
                f"{', '.join(members)} in {folder} do not have {expected} images of each class, as the {split} split "
                f"of CIFAR-10 has - {originals.REMEDY}"
            )
