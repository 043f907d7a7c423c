"""Sets that TFDS has prepared as array_record: found and opened, without TensorFlow."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnrnn.errors import DataError
from cnnrnn.signatures import did_you_mean

HOMES = ("~/.cache/cnnrnn/datasets", "~/tensorflow_datasets")
SOURCE = re.compile(r"(?P<name>\w+)(/(?P<config>\w[\w.+-]*))?(:(?P<version>\d[\w.]*))?")


class Prepared(NamedTuple):
    """A prepared set.

    Attributes:
      builder: TFDS's; `builder.as_data_source(split)` reads it.
      folder: of the set.
      files: {split: its files}; "train" is among the splits.
    """

    builder: Any
    folder: Path
    files: dict[str, list]


def open_prepared(source: str, data_dir: str | None) -> Prepared:
    """Opens a prepared set.

    Args:
      source: "NAME", "NAME/CONFIG", "NAME:VERSION" or "NAME/CONFIG:VERSION"; by default the newest version.
      data_dir: the folder of prepared sets; None is each of `HOMES`.

    Raises:
      DataError: there is no such set, it is not in array_record, or it has no training split.
    """
    import tensorflow_datasets as tfds

    folder = _find_folder(source, [data_dir] if data_dir else HOMES)
    try:
        builder = tfds.builder_from_directory(folder)
        kind = builder.info.file_format.value
        files = {split: builder.info.splits[split].file_instructions for split in builder.info.splits}
    except Exception as error:  # features that need a package, a file that is no JSON, ...
        raise DataError(f"{folder} is no prepared set that can be opened: {error} - prepare it again") from error
    if kind != "array_record":
        raise DataError(f"{folder} is prepared as {kind} - prepare it with file_format='array_record'")
    if "train" not in files:
        raise DataError(f"no split train in {folder}, only {', '.join(files)} - name another set")
    for file in (file for some in files.values() for file in some):
        if not Path(file.filename).is_file():
            raise DataError(f"no file {file.filename} - prepare the set again")
    return Prepared(builder, folder, files)


def _find_folder(source: str, homes: Sequence[str]) -> Path:
    """The folder of a set's newest version that fits."""
    asked = SOURCE.fullmatch(source)
    if not asked:
        raise DataError(f"tfds:{source} is no name of a set - write tfds:NAME, tfds:NAME/CONFIG or tfds:NAME:VERSION")
    homes = [Path(os.path.expanduser(home)) for home in homes]
    for home in homes:
        folders = [file.parent for file in _glob(home / asked["name"], "**/dataset_info.json")]
        found = [(folder.relative_to(home / asked["name"]).parts, folder) for folder in folders]  # (config?, version)
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
    files = [(file, home) for home in homes for level in levels for file in _glob(home, level)]
    known = sorted({"/".join(file.relative_to(home).parts[:-2]) for file, home in files})
    existing = f" - there are {', '.join(known)}" if known else " - prepare it there first, or set data.data_dir"
    where = " or ".join(map(str, homes))
    raise DataError(f"no prepared set {source} in {where}{did_you_mean(source, known, otherwise=existing)}")


def _glob(folder: Path, pattern: str) -> Iterator[Path]:
    """The files below a folder that fit a pattern. None if the name of the folder is more than the system takes."""
    return folder.glob(pattern) if os.path.isdir(folder) else iter(())
