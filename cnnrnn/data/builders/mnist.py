"""TFDS builders for MNIST and Fashion-MNIST, four files each of the same format. TensorFlow is not needed."""

import numpy as np
import tensorflow_datasets as tfds

from cnnrnn.data.builders import PublishedBuilder
from cnnrnn.data.builders.originals import Content

MNIST = {
    "train-images-idx3-ubyte": Content(47_040_016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": Content(60_008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": Content(7_840_016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": Content(10_008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
FASHION_MNIST = {
    "train-images-idx3-ubyte": Content(47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": Content(60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": Content(7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": Content(10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}


class Mnist(PublishedBuilder):
    """MNIST as uint8 arrays: image [28, 28, 1], label 0 to 9. Source: LeCun, Cortes, Burges 1998."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
    FILES = {
        "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
        "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    }
    CONTENTS = MNIST
    OTHERS = {"Fashion-MNIST": FASHION_MNIST}

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

    def _generate_examples(self, files: dict[str, bytes]):
        images, labels = files.values()
        pairs = zip(read_idx(images)[..., None], read_idx(labels), strict=True)
        for number, (image, label) in enumerate(pairs):
            yield number, {"image": image, "label": int(label)}


class FashionMnist(Mnist):
    """Fashion-MNIST as uint8 arrays: image [28, 28, 1], label 0 to 9. Source: Xiao, Rasul, Vollgraf 2017."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    CONTENTS = FASHION_MNIST
    OTHERS = {"MNIST": MNIST}


def read_idx(data: bytes) -> np.ndarray:
    """The uint8 array of an idx file: magic 0 0 8 rank, the sizes as big-endian int32, then the values."""
    sizes = np.frombuffer(data, ">i4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)
