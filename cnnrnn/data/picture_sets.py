"""The user's own labelled pictures, and sets of pictures that TFDS has prepared."""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from PIL import Image

from cnnrnn.data import pictures
from cnnrnn.data.dataset import ArrayDataset, Batch, Dataset
from cnnrnn.data.picture_folders import open_folder
from cnnrnn.data.picture_records import open_records
from cnnrnn.data.streamed import StreamedDataset, count_cores
from cnnrnn.errors import DataError
from cnnrnn.signatures import Count, Natural

IN_MEMORY = 2**28  # bytes of all splits, decoded; larger sets are streamed
LOOK = 1000  # pictures whose headers decide on size and channels
SIDES = (16, 64)  # the least and the greatest size that is chosen without being told
BLOCK = 64  # pictures that a thread decodes before it asks for more
GREY = {"1", "L", "LA", "La", "I", "F"}  # modes of Pillow, without what stands behind a semicolon

Splits = dict[str, Dataset]
Shape = tuple[int, int, int]


def picture_set(
    seed: int,
    *,
    source: str,
    size: Count | None = None,
    grey: bool | None = None,
    batch_size: Count = 64,
    eval_batch_size: Count = 250,
    data_dir: str | None = None,
    workers: Natural = 0,
) -> Splits:
    """Labelled pictures of any size and format, one label each: image [B, H, W, C] uint8, label [B] int32, mask [B].

    Every picture is converted by the rule at the top of cnnrnn/data/pictures.py, in training and when the trained net
    is asked: the first frame of an animation, upright as its EXIF orientation says, transparency on white or black,
    16-bit and float pixels as 0 to 255, palettes and CMYK as colour, the shorter side scaled to the net's and the
    middle cut out. Refused, with the name of the file, is what is empty, cut short, cannot be decoded, may not be read,
    is no picture whatever its suffix says, or has more pixels than Pillow's limit; what it merely warns of is taken.

    Args:
      seed: of the order of the training examples.
      source: a folder, with the pictures of each class in a folder of its own, DIR/CLASS/*, or DIR/train/CLASS/*
        beside DIR/test/CLASS/*, DIR/validation/CLASS/* (valid, val, dev) or both. Folders in a class's folder belong
        to it. Hidden files are skipped, files without the suffix of a picture left out. Where there is train alone, a
        tenth of each class, rounded up, is for testing: `picture_folders.hold_out`.
        Or "tfds:NAME", "tfds:NAME/CONFIG", "tfds:NAME:VERSION", a set that TFDS has prepared as array_record, with one
        picture feature and one label. A test split without labels is left out; where there is train alone, every
        tenth example is for testing. Labels out of range are refused when their example is read.
        The trained net is asked about pictures as they are: ink on paper is not inverted for it, as it is for
        `images.mnist`.
      size: H = W of the net's input. None: the shape of the set's pictures if TFDS knows one, and nothing is scaled;
        else the median of the shorter sides in training, at least 16 and at most 64.
      grey: one channel or three. None: one if all pictures that are looked at are grey.
      batch_size, eval_batch_size: examples in a batch of the training and of the other splits.
      data_dir: where TFDS keeps prepared sets; None is ~/.cache/cnnrnn/datasets, then ~/tensorflow_datasets.
      workers: see `StreamedDataset`. A set that takes at most 256 MiB decoded is decoded at the start and needs none;
        of a larger one the headers of up to 1000 pictures are read, and a broken file may be found in mid-run. When it
        has been replaced, the same command continues.

    Raises:
      DataError: there is no such set, it has fewer than two classes, a class is empty, or a picture is refused.
    """
    if source.startswith("tfds:"):
        class_names, found, shape = open_records(source.removeprefix("tfds:"), data_dir)
    else:
        (class_names, found), shape = open_folder(source), None
    if len(class_names) < 2:
        raise DataError(f"the set {source} has only one class, {class_names[0]} - name one of at least two")
    shape = _choose_shape(found["train"], shape, size, grey)
    splits = {split: _Converted(labelled, shape) for split, labelled in found.items()}
    count = sum(map(len, splits.values()))
    decoded = _decode(splits, count) if count * math.prod(shape) <= IN_MEMORY else None
    rule = {"shape": list(shape), "light_on_dark": False, "ink_size": None, "cut": True}  # see pictures.read
    info = {"class_names": list(class_names), "pictures": rule}
    datasets = {}
    for split, examples in splits.items():
        ours = (batch_size, seed) if split == "train" else (eval_batch_size, None)
        dims = {"num_classes": len(class_names)}
        if decoded is not None:
            datasets[split] = ArrayDataset(decoded[split], *ours, dims, info)
        else:
            datasets[split] = StreamedDataset(examples, *ours, dims, info, workers)
    return datasets


class Labelled(Protocol):
    """A split of pictures as they lie on disk.

    Attributes:
      checksum: see `streamed.Examples`.
    """

    checksum: int

    def __len__(self) -> int: ...

    def find(self, rows: Sequence[int]) -> Iterator[tuple]:
        """(file or open file or picture, what an error calls it, label) of some examples."""
        ...


@dataclasses.dataclass(frozen=True)
class _Converted:
    """`streamed.Examples` of labelled pictures, by the rule."""

    labelled: Labelled
    shape: Shape

    @property
    def checksum(self) -> int:
        return self.labelled.checksum

    def __len__(self) -> int:
        return len(self.labelled)

    def read(self, rows: Sequence[int]) -> Iterator[Batch]:
        for file, name, label in self.labelled.find(rows):
            if isinstance(file, Image.Image):
                image = pictures.convert(file, self.shape, cut=True)
            else:
                image = pictures.read(file, self.shape, cut=True, name=name)
            yield {"image": image, "label": np.int32(label)}


def _choose_shape(train: Labelled, shape: Shape | None, size: int | None, grey: bool | None) -> Shape:
    """H, W, C: what was asked for, what the set says, or what fits the pictures."""
    if shape is None and (size is None or grey is None):
        sides, modes = [], set()
        for file, name, _ in train.find(np.unique(np.linspace(0, len(train) - 1, LOOK).astype(int))):
            with pictures.opened(file, name) as picture:
                sides.append(min(picture.size))
                modes.add(picture.mode.partition(";")[0])
        side = int(np.clip(np.median(sides), *SIDES))
        shape = (side, side, 1 if modes <= GREY else 3)
    height, width, channels = shape or (size, size, None)
    return size or height, size or width, channels if grey is None else 1 if grey else 3


def _decode(splits: dict[str, _Converted], count: int) -> dict[str, Batch]:
    """Whole splits as arrays."""
    decoded = {}
    with _progress(count) as advance, _cancelled_on_error(ThreadPoolExecutor(count_cores())) as pool:
        for split, examples in splits.items():
            images = np.empty((len(examples), *examples.shape), np.uint8)
            labels = np.empty(len(examples), np.int32)
            decoded[split] = {"image": images, "label": labels}

            def fill(rows: range, examples=examples, images=images, labels=labels) -> int:
                for row, example in zip(rows, examples.read(rows), strict=True):
                    images[row], labels[row] = example["image"], example["label"]
                return len(rows)

            starts = range(0, len(examples), BLOCK)
            for done in pool.map(fill, [range(at, min(at + BLOCK, len(examples))) for at in starts]):
                advance(done)
    return decoded


@contextlib.contextmanager
def _cancelled_on_error(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads; after an error the rest is not done first."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _progress(count: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, elsewhere nothing."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("decoding pictures", total=count)
        yield lambda done: bar.advance(task, done)
