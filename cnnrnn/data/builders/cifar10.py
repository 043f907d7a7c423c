"""A TFDS builder for CIFAR-10, which reads the archive without unpacking it. TensorFlow is not needed."""

import math
import tarfile
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from cnnrnn.errors import DataError

ARCHIVE = "cifar-10-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"  # in the archive
MEMBERS = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)], "test": ["test_batch.bin"]}
RECORDS = 10_000  # in each member
SHAPE = (3, 32, 32)  # of an image in its record: planes of red, green and blue
REMEDY = "replace the archive by the original one"


class Cifar10(tfds.core.GeneratorBasedBuilder):
    """CIFAR-10 as uint8 arrays: image [32, 32, 3], label 0 to 9. Source: Krizhevsky 2009, chapter 3."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "https://www.cs.toronto.edu/~kriz/"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=(32, 32, 3), dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.URL + "cifar.html",
        )

    def _split_generators(self, dl_manager):
        archive = Path(dl_manager.download(self.URL + ARCHIVE))
        return {split: self._generate_examples(archive, members) for split, members in MEMBERS.items()}

    def _generate_examples(self, archive: Path, members: list[str]):
        for member in members:
            for number, (image, label) in enumerate(zip(*read_member(archive, member), strict=True)):
                yield f"{member} {number}", {"image": image, "label": int(label)}


def read_member(archive: Path, member: str) -> tuple[np.ndarray, np.ndarray]:
    """One file of the archive: images [N, 32, 32, 3] uint8 and labels [N] uint8. A record is a label and three planes.

    Raises:
      DataError: the archive is damaged, or the file is not in it or has another length.
    """
    try:
        with tarfile.open(archive, "r:gz") as files:
            data = files.extractfile(f"{FOLDER}/{member}").read()
    except KeyError:
        raise DataError(f"no {member} in {archive} - {REMEDY}") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is damaged: {error} - {REMEDY}") from error
    size = 1 + math.prod(SHAPE)
    if len(data) != RECORDS * size:
        raise DataError(f"{member} in {archive} has {len(data)} bytes, not {RECORDS * size} - {REMEDY}")
    records = np.frombuffer(data, np.uint8).reshape(RECORDS, size)
    return records[:, 1:].reshape(RECORDS, *SHAPE).transpose(0, 2, 3, 1), records[:, 0]
