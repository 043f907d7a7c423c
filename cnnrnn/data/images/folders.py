"""Folders of images, one folder a class, found and split by a fixed rule. No image is opened here."""

import dataclasses
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cnnrnn.data.files import RUN, SPLITS, Listing, find_splits, split_of
from cnnrnn.data.images.image_files import FORMATS
from cnnrnn.errors import DataError

SUFFIXES = tuple(name for name, format in Image.registered_extensions().items() if format in FORMATS)
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


def open_folder(source: str) -> tuple[list[str], dict[str, ImageFiles], dict]:
    """The class names, the splits, "train" first, and what was left out, of a folder; see `custom.image_set`.

    Raises:
      DataError: there is no such folder, it cannot be read, or it does not have a folder of images for each class.
    """
    root = Path(os.path.expanduser(source))
    if not source:
        raise DataError("data.source is empty - name a folder of images, --config.data.source=FOLDER")
    if not os.path.isdir(root):
        raise DataError(f"no folder {source} with images - name one, data.source, or a prepared set, tfds:NAME")
    listing = Listing(root)
    root = Path(listing.find_outermost(root, _is_image))
    folders = _split_folders(listing, root)
    found = {split: _find_classes(listing, folder) for split, folder in folders.items()}
    listing.print_left_out()
    _check_classes(found, folders)
    train = found["train"]
    if len(found) == 1:
        folders["test"] = folders["train"]
        found = dict(zip(("train", "test"), _hold_out_of_classes(train, folders["train"]), strict=True))
    splits = {split: _image_files(root, folders[split], classes, [*train]) for split, classes in found.items()}
    for split, files in splits.items():
        if not len(files):
            raise DataError(f"no images in {folders[split]} - put some there or delete the folder")
    return [*train], splits, listing.summary()


def hold_out(names: Sequence[str]) -> list[str]:
    """The tenth of some names, rounded up, that is held out to test: those with the lowest CRC-32.

    Without a seed the same files are split in the same way on every machine and in every run, and most remain in their
    split when others are added.
    """
    ranked = sorted(names, key=lambda name: (zlib.crc32(os.fsencode(name)), name))
    return ranked[: -(-len(ranked) // 10)]


def _split_folders(listing: Listing, root: Path) -> dict[str, Path]:
    """The folder of each split that has one. If no name means a split, the root is the folder of the training split."""
    folders, files = listing.scan(root)
    found: dict[str, Path] = {}
    splits = find_splits(os.path.basename(folder) for folder in folders)
    for folder in map(Path, folders):
        split = splits.get(folder.name)
        if split in found:
            raise DataError(f"{found[split]} and {folder} are both for {split} - leave one there")
        if split:
            found[split] = folder
    if not found:
        return {"train": root}
    if "train" not in found:
        understood = ", ".join(f"{folder.name} as {split}" for split, folder in found.items())
        raise DataError(
            f"no training split in {root}: understood {understood} - "
            "call the folder of the training images train, or rename it if it is a class"
        )
    for split, folder in found.items():
        inner, images = listing.scan(folder)
        if not inner and any(map(_is_image, images)):
            raise DataError(
                f"understood {folder} as the {split} split, but its images are in no class folders - make a folder in "
                "it for each class, or rename it if it is a class"
            )
    for folder in folders:
        if Path(folder) not in found.values():
            listing.leave_out("named after no split", folder)
    for file in files:
        listing.leave_out(_reason(file), file)
    return {split: found[split] for split in SPLITS if split in found}


def _find_classes(listing: Listing, folder: Path) -> Classes:
    """The classes of a split, sorted, with the paths of their images in their folders."""
    class_folders, files = listing.scan(folder)
    if not class_folders:
        what = "the images are directly in" if any(map(_is_image, files)) else "there are no class folders in"
        raise DataError(f"{what} {folder} - make a folder in it for each class, and put its images there")
    for file in files:
        listing.leave_out(_reason(file), file)
    found = {}
    for class_folder in class_folders:
        for inner in listing.scan(class_folder)[0]:
            if split := split_of(Path(inner).name):
                above = folder / Path(inner).name / Path(class_folder).name
                raise DataError(
                    f"understood {inner} as a {split} split within a class - put it above the classes: {above}"
                )
        files = listing.walk(class_folder)
        images = [file[len(class_folder) + 1 :] for file in files if _is_image(file)]
        for file in files:
            if not _is_image(file):
                listing.leave_out(_reason(file), file)
        runs = listing.left_out.get(RUN, [])
        if images or not any(run.startswith(class_folder + os.sep) for run in runs):
            found[Path(class_folder).name] = images
    return found


def _check_classes(found: dict[str, Classes], folders: dict[str, Path]) -> None:
    train = found["train"]
    if len(train) < 2:
        have = f"only one class folder, {next(iter(train))}," if train else "no class folder"
        raise DataError(f"{have} in {folders['train']} - give at least two")
    for name, files in train.items():
        if not files:
            raise DataError(f"no images in {folders['train'] / name} - put some there or delete the folder")
    for split, classes in found.items():
        for name in sorted(classes.keys() - train.keys()):
            raise DataError(f"{folders[split] / name} is of no class in {folders['train']} - add it there or delete it")


def _is_image(file: str) -> bool:
    return file.lower().endswith(SUFFIXES)


def _reason(file: str) -> str:
    """Why a file that is not in a class is left out."""
    return (
        "an image in no class folder" if _is_image(file) else f"not an image that is read, *{Path(file).suffix.lower()}"
    )


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
