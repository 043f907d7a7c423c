"""The user's labelled images, and sets of labelled images that TFDS has prepared."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from PIL import Image

from cnnrnn.data.dataset import ArraySource, Batch, Dataset, Example, count_labels
from cnnrnn.data.images import convert
from cnnrnn.data.images.folders import open_folder
from cnnrnn.data.images.image_files import open_image
from cnnrnn.data.images.records import open_records
from cnnrnn.data.prefetch import count_cores
from cnnrnn.data.progress import progress
from cnnrnn.data.sampling import SequentialSampler, ShuffledSampler
from cnnrnn.errors import DataError
from cnnrnn.signatures import NonNegativeInt, PositiveFloat, PositiveInt, Range, Resumable

MAX_HEADERS = 1000  # the number of images whose headers decide on size and channels
SIZE_RANGE = (16, 64)  # of sizes that the user did not choose
MAX_SIZE = 4096  # that the user may choose: a batch of larger images fits no memory
CHUNK_SIZE = 64  # images that a thread decodes at a time
GRAYSCALE_MODES = {"1", "L", "LA", "La", "I", "F"}  # of Pillow, without what follows a semicolon

Shape = tuple[int, int, int]


def image_set(
    seed: int,
    *,
    source: Resumable[str],
    size: Annotated[int, Range(low=1, high=MAX_SIZE)] | None = None,
    grayscale: bool | None = None,
    batch_size: PositiveInt = 64,
    eval_batch_size: Resumable[PositiveInt] = 250,
    data_dir: Resumable[str | None] = None,
    memory_limit: NonNegativeInt = 2**28,
    workers: Resumable[NonNegativeInt] = 0,
    timeout: Resumable[PositiveFloat] = 300.0,
) -> dict[str, Dataset]:
    """Images of any size and format, one label each: image [B, H, W, C] uint8, label [B] int32.

    Every image is converted by the rule at the top of cnnrnn/data/images/convert.py, in training and when the trained
    net is asked: the first frame of an animation, turned as its EXIF orientation says, transparency on white or black,
    16-bit and float pixels scaled to 0 to 255, palettes and CMYK as color, the shorter side scaled to that of the net
    and the center cropped. Refused, with its name, is a file that is empty, cut short, cannot be decoded, may not be
    read, is no image whatever its suffix says, or has more pixels than Pillow's limit.

    Args:
      seed: of the order of the training examples.
      source: a folder that has a folder for each class, DIR/CLASS/*; or DIR/train/CLASS/* beside DIR/test/CLASS/*,
        DIR/validation/CLASS/* or both, in any of the spellings of `files.split_of`. Folders inside that of a class
        belong to it. For what is left out see `files.Listing`; files without the suffix of an image are left out too.
        If there is only train, a tenth of each class, rounded up, is held out to test: `folders.hold_out`.
        Or "tfds:NAME", "tfds:NAME/CONFIG", "tfds:NAME:VERSION", a set that TFDS has prepared as array_record, with one
        image feature and one label. A test split without labels is left out. If there is only train, every tenth
        example is held out to test. A label that is out of range is refused when its example is read.
        The trained net is asked about images as they are: ink on paper is not inverted, as it is for `published.mnist`.
      size: H = W of the net's input. None: the shape of the set's images if TFDS knows one, and nothing is scaled; else
        the median of the shorter sides in training, at least 16 and at most 64.
      grayscale: one channel or three. None: one if all images that are looked at are grayscale.
      batch_size, eval_batch_size: of the training split and of the other splits.
      data_dir: the folder of TFDS's prepared sets; None is ~/.cache/cnnrnn/datasets, then ~/tensorflow_datasets.
      memory_limit: bytes. A set that is at most as large, decoded, is decoded at the start. A larger one is read during
        training: the headers of up to 1000 images are read at the start, and a damaged file may be found later. When it
        has been replaced, the same command continues.
      workers: the processes that read a larger set ahead of the step; 0 is threads.
      timeout: seconds to wait for a batch of a larger set.

    Raises:
      DataError: there is no such set, it has fewer than two classes, a class is empty, or an image is refused.
    """
    if source.startswith("tfds:"):
        class_names, found, shape = open_records(source.removeprefix("tfds:"), data_dir)
        left_out = {}
    else:
        (class_names, found, left_out), shape = open_folder(source), None
    if len(class_names) < 2:
        raise DataError(f"the set {source} has only one class, {class_names[0]} - name one of at least two")
    is_chosen = size is not None and grayscale is not None
    seen = None if shape or is_chosen else _look_at(found["train"])
    shape = _choose_shape(shape, seen, size, grayscale)
    sources = {split: ImageSource(labelled, shape) for split, labelled in found.items()}
    count = sum(map(len, sources.values()))
    decoded = _decode(sources, count) if count * math.prod(shape) <= memory_limit else None
    rule = {"shape": list(shape), "light_on_dark": False, "ink_size": None, "center_crop": True}  # see convert.read
    info = {"inference": "images", "class_names": list(class_names), "images": rule}
    dims, datasets = {"num_classes": len(class_names)}, {}
    summaries = {split: _summarize(labelled, class_names) for split, labelled in found.items()}
    summaries["train"] |= {"sizes": str(seen)} if seen else {}
    summaries["train"] |= {"input": " x ".join(map(str, shape)), "left out": left_out}
    for split, images in sources.items():
        count, is_train = len(images), split == "train"
        sampler = ShuffledSampler(count, batch_size, seed) if is_train else SequentialSampler(count, eval_batch_size)
        settings = {"dims": dims, "info": info, "summary": summaries[split]}
        if decoded is None:
            datasets[split] = Dataset(images, sampler, workers=workers, timeout=timeout, **settings)
        else:
            datasets[split] = Dataset(ArraySource(decoded[split]), sampler, **settings)
    return datasets


class LabelledImages(Protocol):
    """A split of images on disk.

    Attributes:
      fingerprint: see `dataset.Source`.
      labels: [N] int32, None if they are known only with the images.
    """

    fingerprint: int
    labels: np.ndarray | None

    def __len__(self) -> int: ...

    def locate(self, indices: Sequence[int]) -> Iterator[tuple]:
        """For each example its file, open file or image, what an error calls it, and its label."""
        ...


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """A `dataset.Source` of images, converted by the rule.

    Attributes:
      labelled: the images.
      shape: H, W, C.
    """

    labelled: LabelledImages
    shape: Shape

    @property
    def fingerprint(self) -> int:
        """See `dataset.Source`."""
        return self.labelled.fingerprint

    def __len__(self) -> int:
        return len(self.labelled)

    def __getitem__(self, index: int) -> Example:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Example]:
        examples = []
        for file, name, label in self.labelled.locate(indices):
            if isinstance(file, Image.Image):
                image = convert.convert(file, self.shape, center_crop=True)
            else:
                image = convert.read(file, self.shape, center_crop=True, name=name)
            examples.append({"image": image, "label": np.int32(label)})
        return examples


def _summarize(labelled: LabelledImages, class_names: Sequence[str]) -> dict:
    counts = {} if labelled.labels is None else {"classes": count_labels(labelled.labels, class_names)}
    return {"images": len(labelled), **counts}


class Seen(NamedTuple):
    """What the headers of some images of a set say.

    Attributes:
      sizes: [N, 2], the width and height of each.
      is_grayscale: whether all are.
    """

    sizes: np.ndarray
    is_grayscale: bool

    def __str__(self) -> str:
        order = np.argsort(self.sizes.prod(1), kind="stable")
        least, median, most = self.sizes[order[[0, len(order) // 2, -1]]].tolist()
        sizes = "{} x {}".format(*least)
        if least != most:
            sizes += ", {} x {} (median) to {} x {}".format(*median, *most)
        return f"{sizes} pixels, {'grayscale' if self.is_grayscale else 'color'}"


def _look_at(train: LabelledImages) -> Seen:
    sizes, modes = [], set()
    for file, name, _ in train.locate(np.unique(np.linspace(0, len(train) - 1, MAX_HEADERS).astype(int))):
        with open_image(file, name) as image:
            sizes.append(image.size)
            modes.add(image.mode.partition(";")[0])
    return Seen(np.array(sizes), modes <= GRAYSCALE_MODES)


def _choose_shape(shape: Shape | None, seen: Seen | None, size: int | None, grayscale: bool | None) -> Shape:
    """H, W, C: what the user chose, what the set says, or what suits the images."""
    if shape is None and seen is None:
        shape = size, size, None
    elif shape is None:
        side = int(np.clip(np.median(seen.sizes.min(1)), *SIZE_RANGE))
        shape = side, side, 1 if seen.is_grayscale else 3
    height, width, channels = shape
    return size or height, size or width, channels if grayscale is None else 1 if grayscale else 3


def _decode(sources: dict[str, ImageSource], count: int) -> dict[str, Batch]:
    """All images and labels of the splits, as arrays."""
    decoded = {}
    with progress("decoding images", count) as advance, _cancelled_on_error(ThreadPoolExecutor(count_cores())) as pool:
        for split, source in sources.items():
            images = np.empty((len(source), *source.shape), np.uint8)
            labels = np.empty(len(source), np.int32)
            decoded[split] = {"image": images, "label": labels}

            def decode(indices: range, source=source, images=images, labels=labels) -> int:
                for index, example in zip(indices, source.__getitems__(indices), strict=True):
                    images[index], labels[index] = example["image"], example["label"]
                return len(indices)

            starts = range(0, len(source), CHUNK_SIZE)
            for done in pool.map(decode, [range(start, min(start + CHUNK_SIZE, len(source))) for start in starts]):
                advance(done)
    return decoded


@contextlib.contextmanager
def _cancelled_on_error(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads. After an error, tasks that have not begun are dropped."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
