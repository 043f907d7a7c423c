"""Folders of the user's pictures, one folder a class, found and split by a fixed rule; no picture is opened here."""

import dataclasses
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnrnn.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
PARTS = {  # what a folder of the part may be called, in capitals or not
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
Classes = dict[str, list[str]]  # {name of a class: names of its files, below the class's folder}


@dataclasses.dataclass(frozen=True, eq=False)
class PictureFiles:
    """A split of labelled picture files.

    Attributes:
      root: the folder.
      names: of the files below it, N of them.
      labels: [N] int32.
    """

    root: str
    names: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def checksum(self) -> int:
        """Of the names and labels: it stays when a broken file is replaced by a good one."""
        lines = sorted(zip(map(os.fsencode, self.names), map(int, self.labels), strict=True))
        return zlib.crc32(b"".join(b"%s\0%d\n" % line for line in lines))

    def find(self, rows: Sequence[int]) -> Iterator[tuple[str, str, int]]:
        """The file, what an error calls it, and the label of some examples."""
        for row in rows:
            path = os.path.join(self.root, self.names[row])
            yield path, path, int(self.labels[row])


def open_folder(source: str) -> tuple[list[str], dict[str, PictureFiles]]:
    """The names of the classes, and the splits, "train" first; see `picture_sets.picture_set`.

    Raises:
      DataError: the folder is not there, cannot be read, or does not hold a folder with pictures for each class.
    """
    root = Path(source).expanduser()
    if not root.is_dir():
        raise DataError(f"no folder {source} with pictures - name one, data.source, or a prepared set, tfds:NAME")
    folders, left_out = _parts(root), []
    found = {split: _find_classes(folder, left_out) for split, folder in folders.items()}
    if left_out:
        count = f"{len(left_out)} file{'s' * (len(left_out) > 1)}"
        print(f"left out {count} of {root}, no pictures of a class; the first: {left_out[0]}", file=sys.stderr)
    train = found["train"]
    if len(train) < 2:
        raise DataError(f"only one class folder in {folders['train']}, {next(iter(train))} - give at least two")
    for name, files in train.items():
        if not files:
            raise DataError(f"no pictures in {folders['train'] / name} - put some there or delete the folder")
    for split, classes in found.items():
        for name in classes.keys() - train.keys():
            raise DataError(f"{folders[split] / name} is of no class in {folders['train']} - add it there or delete it")
    if len(found) == 1:
        folders["test"] = folders["train"]
        found = dict(zip(("train", "test"), _hold_out(train, folders["train"]), strict=True))
    splits = {split: _files(root, folders[split], classes, [*train]) for split, classes in found.items()}
    for split, files in splits.items():
        if not len(files):
            raise DataError(f"no pictures in {folders[split]} - put some there or delete the folder")
    return [*train], splits


def hold_out(names: Sequence[str]) -> list[str]:
    """The tenth of some names, rounded up, that is kept for testing: those of the lowest CRC-32.

    A rule without a seed: the same files are split alike on every machine and in every run, and most stay where they
    are when others come.
    """
    ranked = sorted(names, key=lambda name: (zlib.crc32(os.fsencode(name)), name))
    return ranked[: -(-len(ranked) // 10)]


def _parts(root: Path) -> dict[str, Path]:
    """The folder of each split that has one; the root itself is for training if none is called train."""
    folders = sorted((entry for entry in _scan(root) if entry.is_dir()), key=lambda entry: entry.name)
    there = {split: [f for f in folders if f.name.lower() in names] for split, names in PARTS.items()}
    if not there["train"]:
        return {"train": root}
    for split, found in there.items():
        if len(found) > 1:
            raise DataError(f"{found[0].path} and {found[1].path} are both for {split} - leave one there")
    if other := [f.path for f in folders if not any(f in found for found in there.values())]:
        print(f"left out {other[0]}: it is called neither train nor validation nor test", file=sys.stderr)
    return {split: Path(found[0].path) for split, found in there.items() if found}


def _find_classes(folder: Path, left_out: list[str]) -> Classes:
    """The classes of a part, sorted; what is no picture of a class joins `left_out`."""
    entries = sorted(_scan(folder), key=lambda entry: entry.name)
    stray = [entry.path for entry in entries if not entry.is_dir() and entry.name.lower().endswith(SUFFIXES)]
    classes = [entry for entry in entries if entry.is_dir()]
    if not classes:
        what = "the pictures lie directly in" if stray else "there are no class folders in"
        raise DataError(f"{what} {folder} - make a folder in it for each class, and put its pictures there")
    left_out += stray
    found = {}
    for entry in classes:
        files = [os.path.relpath(file, entry.path) for file in _walk(entry.path)]
        found[entry.name] = sorted(file for file in files if file.lower().endswith(SUFFIXES))
        left_out += sorted(os.path.join(entry.path, f) for f in files if not f.lower().endswith(SUFFIXES))
    return found


def _walk(folder: str) -> Iterator[str]:
    """All files below a folder."""
    for entry in _scan(folder):
        if entry.is_dir():
            yield from _walk(entry.path)
        else:
            yield entry.path


def _scan(folder: str | Path) -> list[os.DirEntry]:
    """What lies in a folder and is not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror} - change its rights") from error


def _hold_out(classes: Classes, folder: Path) -> tuple[Classes, Classes]:
    """What is trained on and what is kept for testing."""
    test = {name: hold_out(files) for name, files in classes.items()}
    train = {name: sorted({*files} - {*test[name]}) for name, files in classes.items()}
    for name, files in train.items():
        if not files:
            raise DataError(
                f"only one picture in {folder / name}, and a tenth of each class is kept for testing - give two or more"
            )
    return train, {name: sorted(files) for name, files in test.items()}


def _files(root: Path, folder: Path, classes: Classes, class_names: list[str]) -> PictureFiles:
    below, numbers = os.path.relpath(folder, root), {name: number for number, name in enumerate(class_names)}
    rows = [
        (os.path.normpath(os.path.join(below, name, file)), numbers[name])
        for name, files in classes.items()
        for file in files
    ]
    names, labels = zip(*rows, strict=True) if rows else ((), ())
    return PictureFiles(str(root), names, np.array(labels, np.int32))
