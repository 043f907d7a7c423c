"""Folders of images, one folder a class, found and split by a fixed rule. No image is opened here."""

import dataclasses
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cnnrnn.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
PARTS = {  # the names that the folder of a split may have, in capitals or not
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
Classes = dict[str, list[str]]  # {class: paths of its files, relative to its folder}


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """A split of labelled image files.

    Attributes:
      root: a folder.
      names: N paths of files, relative to it.
      labels: [N] int32.
    """

    root: str
    names: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def fingerprint(self) -> int:
        """Of the names and labels. It does not change when a damaged file is replaced by a good one."""
        lines = sorted(zip(map(os.fsencode, self.names), map(int, self.labels), strict=True))
        return zlib.crc32(b"".join(b"%s\0%d\n" % line for line in lines))

    def locate(self, indices: Sequence[int]) -> Iterator[tuple[str, str, int]]:
        """For each example its file, what an error calls it, and its label."""
        for index in indices:
            path = os.path.join(self.root, self.names[index])
            yield path, path, int(self.labels[index])


def open_folder(source: str) -> tuple[list[str], dict[str, ImageFiles]]:
    """The class names and the splits, "train" first, of a folder; see `custom.image_set`.

    Raises:
      DataError: there is no such folder, it cannot be read, or it does not have a folder of images for each class.
    """
    root = Path(source).expanduser()
    if not root.is_dir():
        raise DataError(f"no folder {source} with images - name one, data.source, or a prepared set, tfds:NAME")
    folders, left_out = _split_folders(root), []
    found = {split: _find_classes(folder, left_out) for split, folder in folders.items()}
    if left_out:
        count = f"{len(left_out)} file{'s' * (len(left_out) > 1)}"
        print(f"left out {count} of {root}, no images of a class; the first: {left_out[0]}", file=sys.stderr)
    train = found["train"]
    if len(train) < 2:
        raise DataError(f"only one class folder in {folders['train']}, {next(iter(train))} - give at least two")
    for name, files in train.items():
        if not files:
            raise DataError(f"no images in {folders['train'] / name} - put some there or delete the folder")
    for split, classes in found.items():
        for name in classes.keys() - train.keys():
            raise DataError(f"{folders[split] / name} is of no class in {folders['train']} - add it there or delete it")
    if len(found) == 1:
        folders["test"] = folders["train"]
        found = dict(zip(("train", "test"), _hold_out_of_classes(train, folders["train"]), strict=True))
    splits = {split: _image_files(root, folders[split], classes, [*train]) for split, classes in found.items()}
    for split, files in splits.items():
        if not len(files):
            raise DataError(f"no images in {folders[split]} - put some there or delete the folder")
    return [*train], splits


def hold_out(names: Sequence[str]) -> list[str]:
    """The tenth of some names, rounded up, that is held out to test: those with the lowest CRC-32.

    Without a seed the same files are split in the same way on every machine and in every run, and most remain in their
    split when others are added.
    """
    ranked = sorted(names, key=lambda name: (zlib.crc32(os.fsencode(name)), name))
    return ranked[: -(-len(ranked) // 10)]


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split that has one. If none is called train, the root is the folder of the training split."""
    folders = sorted((entry for entry in _scan(root) if entry.is_dir()), key=lambda entry: entry.name)
    by_split = {split: [f for f in folders if f.name.lower() in names] for split, names in PARTS.items()}
    if not by_split["train"]:
        return {"train": root}
    for split, found in by_split.items():
        if len(found) > 1:
            raise DataError(f"{found[0].path} and {found[1].path} are both for {split} - leave one there")
    if other := [f.path for f in folders if not any(f in found for found in by_split.values())]:
        print(f"left out {other[0]}: it is called neither train nor validation nor test", file=sys.stderr)
    return {split: Path(found[0].path) for split, found in by_split.items() if found}


def _find_classes(folder: Path, left_out: list[str]) -> Classes:
    """The classes of a split, sorted. Files that are not an image of a class are added to `left_out`."""
    entries = sorted(_scan(folder), key=lambda entry: entry.name)
    stray = [entry.path for entry in entries if not entry.is_dir() and entry.name.lower().endswith(SUFFIXES)]
    classes = [entry for entry in entries if entry.is_dir()]
    if not classes:
        what = "the images are directly in" if stray else "there are no class folders in"
        raise DataError(f"{what} {folder} - make a folder in it for each class, and put its images there")
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
    """The entries of a folder that are not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror} - change its rights") from error


def _hold_out_of_classes(classes: Classes, folder: Path) -> tuple[Classes, Classes]:
    """The training files and the test files of each class."""
    test = {name: hold_out(files) for name, files in classes.items()}
    train = {name: sorted({*files} - {*test[name]}) for name, files in classes.items()}
    for name, files in train.items():
        if not files:
            raise DataError(
                f"only one image in {folder / name}, and a tenth of each class is held out to test - give two or more"
            )
    return train, {name: sorted(files) for name, files in test.items()}


def _image_files(root: Path, folder: Path, classes: Classes, class_names: list[str]) -> ImageFiles:
    below, label_of = os.path.relpath(folder, root), {name: label for label, name in enumerate(class_names)}
    rows = [
        (os.path.normpath(os.path.join(below, name, file)), label_of[name])
        for name, files in classes.items()
        for file in files
    ]
    names, labels = zip(*rows, strict=True) if rows else ((), ())
    return ImageFiles(str(root), names, np.array(labels, np.int32))
