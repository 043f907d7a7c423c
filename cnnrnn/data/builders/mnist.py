"""TFDS builders for MNIST and Fashion-MNIST, four files each of the same format. TensorFlow is not needed."""

import gzip
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class Mnist(tfds.core.GeneratorBasedBuilder):
    """MNIST as uint8 arrays: image [28, 28, 1], label 0 to 9. Source: LeCun, Cortes, Burges 1998."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8),  # raw pixels: no PNG to decode
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.URL,
        )

    def _split_generators(self, dl_manager):
        paths = dl_manager.download({name: self.URL + name for pair in FILES.values() for name in pair})
        return {
            split: self._generate_examples(Path(paths[images]), Path(paths[labels]))
            for split, (images, labels) in FILES.items()
        }

    def _generate_examples(self, images: Path, labels: Path):
        pairs = zip(read_idx(images)[..., None], read_idx(labels), strict=True)
        for number, (image, label) in enumerate(pairs):
            yield number, {"image": image, "label": int(label)}


class FashionMnist(Mnist):
    """Fashion-MNIST as uint8 arrays: image [28, 28, 1], label 0 to 9. Source: Xiao, Rasul, Vollgraf 2017."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in a gzipped idx file: magic 0 0 8 rank, the sizes as big-endian int32, then the bytes."""
    data = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)
