"""Labelled images in a set that TFDS has prepared as array_record, at random access, without TensorFlow."""

import dataclasses
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnrnn.data.prepared import open_prepared
from cnnrnn.errors import DataError

SAMPLE_SIZE = 100  # labels that are read to see whether a split has any


@dataclasses.dataclass(frozen=True, eq=False)
class ImageRecords:
    """A split of labelled images in records, or a part of it. To other processes it goes as a few file names.

    Attributes:
      records: of the split, at random access.
      features: how a record is read: its image and its label, whatever else is in it.
      image, label: the names of these features.
      num_classes: K.
      rows: [N], the indices of the examples in the records.
      where: what an error calls the records.
      fingerprint: of the names and lengths of their files. Labels are not in it: to read a million labels is to read a
        million images.
      labels: not known, for the same reason.
    """

    records: Sequence[bytes]
    features: Any
    image: str
    label: str
    num_classes: int
    rows: np.ndarray
    where: str
    fingerprint: int
    labels: None = None

    def __len__(self) -> int:
        return len(self.rows)

    def locate(self, indices: Sequence[int]) -> Iterator[tuple[io.BytesIO | Image.Image, str, int]]:
        """For each example its encoded file or its image, what an error calls it, and its label.

        Raises:
          DataError: a record is damaged, or a label is out of range: JAX would train on it without an error.
        """
        for index, example in zip(indices, self._read(indices), strict=True):
            name, label = f"example {self.rows[index]} of {self.where}", int(example[self.label])
            if not 0 <= label < self.num_classes:
                raise DataError(f"label {label} of {name} - labels are 0 to {self.num_classes - 1}")
            image = example[self.image]
            if isinstance(image, bytes):
                yield io.BytesIO(image), name, label
            else:
                yield Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), name, label

    def is_labelled(self) -> bool:
        """Whether there are labels. Those of a published test split may all be -1."""
        sample = np.unique(np.linspace(0, len(self) - 1, SAMPLE_SIZE).astype(int)) if len(self) else []
        return any(int(example[self.label]) != -1 for example in self._read(sample))

    def _read(self, indices: Sequence[int]) -> list[dict]:
        import tensorflow_datasets as tfds

        encoded = {self.image: tfds.decode.SkipDecoding()} if _is_encoded(self.features[self.image]) else None
        try:
            records = self.records.__getitems__([int(self.rows[index]) for index in indices])
            examples = [self.features.deserialize_example_np(record, decoders=encoded) for record in records]
            for name in (self.image, self.label):
                if any(example[name] is None for example in examples):
                    raise ValueError(f"one has no {name}")
            return examples
        except Exception as error:  # the checksums of array_record raise several kinds of exception
            raise DataError(f"the records {self.where} are damaged: {error} - prepare the set again") from error


def open_records(source: str, data_dir: str | None) -> tuple[list[str], dict[str, ImageRecords], tuple | None]:
    """A prepared set.

    Args:
      source, data_dir: see `open_prepared`.

    Returns:
      The names of the classes; the splits, "train" first; and the shape [H, W, C] of all images if there is one.

    Raises:
      DataError: there is no such set, or it is not one of labelled images in array_record.
    """
    import tensorflow_datasets as tfds

    builder, folder, files_of = open_prepared(source, data_dir)
    features = builder.info.features
    features = features if isinstance(features, tfds.features.FeaturesDict) else {}
    image = _find_feature(features, _is_image, "image", builder, folder)
    label = _find_feature(
        features, lambda f: isinstance(f, tfds.features.ClassLabel) and f.names, "label", builder, folder
    )
    names = features[label].names
    needed = tfds.features.FeaturesDict({name: features[name] for name in (image, label)})
    splits = {}
    for split in ("train", "validation", "test"):
        if split in files_of:
            files = files_of[split]
            records = builder.as_data_source(split).data_source
            known = "\n".join(f"{Path(f.filename).name} {f.examples_in_shard}" for f in files)
            where, fingerprint = f"{split} in {folder}", zlib.crc32(known.encode())
            rows = np.arange(len(records))
            splits[split] = ImageRecords(records, needed, image, label, len(names), rows, where, fingerprint)
    splits = {split: images for split, images in splits.items() if split == "train" or images.is_labelled()}
    shape = features[image].shape
    return names, _with_test(splits), None if None in shape else (*shape[:2], 1 if shape[2] == 1 else 3)


def _with_test(splits: dict[str, ImageRecords]) -> dict[str, ImageRecords]:
    """The splits. If there is only train, every tenth example of it, from the first on, is held out to test."""
    if len(splits) > 1:
        return splits
    full = splits["train"]
    is_test = np.arange(len(full)) % 10 == 0
    return {
        "train": dataclasses.replace(full, rows=full.rows[~is_test]),
        "test": dataclasses.replace(full, rows=full.rows[is_test]),
    }


def _is_encoded(feature) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image)


def _is_image(feature) -> bool:
    """Whether a feature holds images: encoded ones of 8 or 16 bits, or plain bytes of one shape."""
    import tensorflow_datasets as tfds

    if type(feature) is tfds.features.Image:
        return np.dtype(feature.np_dtype).kind == "u"
    plain = type(feature) is tfds.features.Tensor and np.dtype(feature.np_dtype) == np.uint8
    return plain and len(feature.shape) == 3 and None not in feature.shape and feature.shape[2] in (1, 3)


def _find_feature(features, fits, what: str, builder, folder: Path) -> str:
    """The name of the one feature of a kind. Of several, it is the one among the supervised keys of the set."""
    found = [name for name in sorted(features) if fits(features[name])]
    if len(found) > 1:
        found = [name for name in found if name in (builder.info.supervised_keys or ())] or found
    if len(found) != 1:
        several = f"several {what} features, {', '.join(found)}," if found else f"no {what} feature"
        others = f", only {', '.join(sorted(features))}" if features and not found else ""
        raise DataError(f"{several} in {folder}{others} - name a set of images with one label each")
    return found[0]
