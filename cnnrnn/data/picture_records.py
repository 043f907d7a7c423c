"""Labelled pictures in a set that TFDS has prepared as array_record, read at random places, without TensorFlow."""

import dataclasses
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnrnn.errors import DataError
from cnnrnn.signatures import did_you_mean

HOMES = ("~/.cache/cnnrnn/datasets", "~/tensorflow_datasets")
SOURCE = re.compile(r"(?P<name>\w+)(/(?P<config>\w[\w.+-]*))?(:(?P<version>\d[\w.]*))?")
SAMPLE = 100  # labels that show whether a split has any


@dataclasses.dataclass(frozen=True, eq=False)
class PictureRecords:
    """A split of labelled pictures in records, or some of its rows. It goes to other processes as a few file names.

    Attributes:
      records: of the whole split, found by their numbers.
      features: how a record is read: of the picture and of the label alone, whatever else it holds.
      image, label: the names of these features.
      num_classes: K.
      rows: [N], where the examples stand.
      where: what an error calls the records.
      checksum: of the names and lengths of their files. Of labels nothing: they lie among the pictures, and to read a
        million labels is to read a million pictures.
    """

    records: Sequence[bytes]
    features: Any
    image: str
    label: str
    num_classes: int
    rows: np.ndarray
    where: str
    checksum: int

    def __len__(self) -> int:
        return len(self.rows)

    def find(self, rows: Sequence[int]) -> Iterator[tuple[io.BytesIO | Image.Image, str, int]]:
        """The encoded file or the picture, what an error calls it, and the label of some examples.

        Raises:
          DataError: a record is damaged, or a label out of range: it would train in silence.
        """
        for row, example in zip(rows, self._read(rows), strict=True):
            name, label = f"example {self.rows[row]} of {self.where}", int(example[self.label])
            if not 0 <= label < self.num_classes:
                raise DataError(f"label {label} of {name} - labels are 0 to {self.num_classes - 1}")
            picture = example[self.image]
            if isinstance(picture, bytes):
                yield io.BytesIO(picture), name, label
            else:
                yield Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture), name, label

    def is_labelled(self) -> bool:
        """Whether there are labels: a published test split may have -1 in their place."""
        sample = np.unique(np.linspace(0, len(self) - 1, SAMPLE).astype(int)) if len(self) else []
        return any(int(example[self.label]) != -1 for example in self._read(sample))

    def _read(self, rows: Sequence[int]) -> list[dict]:
        import tensorflow_datasets as tfds

        encoded = {self.image: tfds.decode.SkipDecoding()} if _is_encoded(self.features[self.image]) else None
        try:
            records = self.records.__getitems__([int(self.rows[row]) for row in rows])
            return [self.features.deserialize_example_np(record, decoders=encoded) for record in records]
        except Exception as error:  # array_record's own sums notice damage, in several kinds of exception
            raise DataError(f"the records {self.where} are damaged: {error} - prepare the set again") from error


def open_records(source: str, data_dir: str | None) -> tuple[list[str], dict[str, PictureRecords], tuple | None]:
    """A prepared set.

    Args:
      source: "NAME", "NAME/CONFIG", "NAME:VERSION" or "NAME/CONFIG:VERSION"; by default the newest version.
      data_dir: where prepared sets lie; None is each of `HOMES`.

    Returns:
      The names of the classes; the splits, "train" first; and the shape [H, W, C] of all pictures if there is one.

    Raises:
      DataError: there is no such set, or it is none of labelled pictures in array_record.
    """
    import tensorflow_datasets as tfds

    folder = _find_folder(source, [data_dir] if data_dir else HOMES)
    try:
        builder = tfds.builder_from_directory(folder)
        features, kind = builder.info.features, builder.info.file_format.value
    except Exception as error:  # features that need a package, a file that is no JSON, ...
        raise DataError(f"{folder} is no prepared set that can be opened: {error} - prepare it again") from error
    if kind != "array_record":
        raise DataError(f"{folder} is prepared as {kind} - prepare it with file_format='array_record'")
    features = features if isinstance(features, tfds.features.FeaturesDict) else {}
    image = _find_feature(features, _is_image, "picture", builder, folder)
    label = _find_feature(
        features, lambda f: isinstance(f, tfds.features.ClassLabel) and f.names, "label", builder, folder
    )
    names = features[label].names
    needed = tfds.features.FeaturesDict({name: features[name] for name in (image, label)})
    if "train" not in builder.info.splits:
        raise DataError(f"no split train in {folder}, only {', '.join(builder.info.splits)} - name another set")
    splits = {}
    for split in ("train", "validation", "test"):
        if split in builder.info.splits:
            files = builder.info.splits[split].file_instructions
            if missing := next((f.filename for f in files if not Path(f.filename).is_file()), None):
                raise DataError(f"no file {missing} - prepare the set again")
            records = builder.as_data_source(split).data_source
            known = "\n".join(f"{Path(f.filename).name} {f.examples_in_shard}" for f in files)
            where, checksum = f"{split} in {folder}", zlib.crc32(known.encode())
            rows = np.arange(len(records))
            splits[split] = PictureRecords(records, needed, image, label, len(names), rows, where, checksum)
    splits = {split: pictures for split, pictures in splits.items() if split == "train" or pictures.is_labelled()}
    shape = features[image].shape
    return names, _with_test(splits), None if None in shape else (*shape[:2], 1 if shape[2] == 1 else 3)


def _with_test(splits: dict[str, PictureRecords]) -> dict[str, PictureRecords]:
    """The splits; if there is train alone, every tenth example of it, from the first on, is for testing."""
    if len(splits) > 1:
        return splits
    whole = splits["train"]
    is_test = np.arange(len(whole)) % 10 == 0
    return {
        "train": dataclasses.replace(whole, rows=whole.rows[~is_test]),
        "test": dataclasses.replace(whole, rows=whole.rows[is_test]),
    }


def _is_encoded(feature) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image)


def _is_image(feature) -> bool:
    """Whether a feature holds pictures: encoded ones of 8 or 16 bits, or plain bytes of one shape."""
    import tensorflow_datasets as tfds

    if type(feature) is tfds.features.Image:
        return np.dtype(feature.np_dtype).kind == "u"
    plain = type(feature) is tfds.features.Tensor and np.dtype(feature.np_dtype) == np.uint8
    return plain and len(feature.shape) == 3 and None not in feature.shape and feature.shape[2] in (1, 3)


def _find_feature(features, fits, what: str, builder, folder: Path) -> str:
    """The one feature of a kind; of several that which the set itself names for training."""
    found = [name for name in sorted(features) if fits(features[name])]
    if len(found) > 1:
        found = [name for name in found if name in (builder.info.supervised_keys or ())] or found
    if len(found) != 1:
        several = f"several {what} features, {', '.join(found)}," if found else f"no {what} feature"
        there = f", only {', '.join(sorted(features))}" if features and not found else ""
        raise DataError(f"{several} in {folder}{there} - name a set of pictures with one label each")
    return found[0]


def _find_folder(source: str, homes: Sequence[str]) -> Path:
    """The folder of a set's newest version that fits."""
    asked = SOURCE.fullmatch(source)
    if not asked:
        raise DataError(f"tfds:{source} is no name of a set - write tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:VERSION")
    homes = [Path(home).expanduser() for home in homes]
    for home in homes:
        there = [file.parent for file in (home / asked["name"]).glob("**/dataset_info.json")]
        found = [(folder.relative_to(home / asked["name"]).parts, folder) for folder in there]  # (config?, version)
        found = [(parts, folder) for parts, folder in found if parts]
        if asked["config"]:
            found = [(parts, folder) for parts, folder in found if parts[:-1] == (asked["config"],)]
        if asked["version"]:
            found = [(parts, folder) for parts, folder in found if parts[-1:] == (asked["version"],)]
        configs = sorted({parts[0] for parts, _ in found if len(parts) > 1})
        if len(configs) > 1:
            raise DataError(
                f"{asked['name']} in {home} has the configs {', '.join(configs)} - name one, tfds:NAME/CONFIG"
            )
        if found:
            return max(found, key=lambda pair: [int(number) for number in re.findall(r"\d+", pair[0][-1])])[1]
    levels = ("*/*/dataset_info.json", "*/*/*/dataset_info.json")  # without and with a config
    files = [(file, home) for home in homes for level in levels for file in home.glob(level)]
    known = sorted({"/".join(file.relative_to(home).parts[:-2]) for file, home in files})
    there = f" - there are {', '.join(known)}" if known else " - prepare it there first, or set data.data_dir"
    places = " or ".join(map(str, homes))
    raise DataError(f"no prepared set {source} in {places}{did_you_mean(source, known, otherwise=there)}")
