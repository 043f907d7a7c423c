"""TFDS builders for texts, as bytes in UTF-8. TensorFlow is not needed."""

import numpy as np
import tensorflow_datasets as tfds

from cnnrnn.data.builders import PublishedBuilder
from cnnrnn.data.builders.originals import Content


class TinyShakespeare(PublishedBuilder):
    """Parts of Shakespeare's plays in one text, 1,115,394 characters. Source: Karpathy, char-rnn, 2015."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
    FILES = {"whole": ("input.txt",)}
    CONTENTS = {"input.txt": Content(1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed")}

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Tensor(shape=(None,), dtype=np.uint8)}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage=self.URL,
        )

    def _generate_examples(self, files: dict[str, bytes]):
        (text,) = files.values()
        yield 0, {"text": np.frombuffer(text, np.uint8)}


class PennTreebank(TinyShakespeare):
    """The Penn Treebank of language models: 10,000 words, 929,589 / 73,760 / 82,430 tokens with line ends.

    It is licensed for research and never downloaded: its files are read from a folder. Source: Mikolov, Karafiat,
    Burget, Cernocky, Khudanpur 2010, after Marcus, Santorini, Marcinkiewicz 1993.
    """

    VERSION = tfds.core.Version("1.0.0")
    URL = None
    FILES = {"train": ("ptb.train.txt",), "validation": ("ptb.valid.txt",), "test": ("ptb.test.txt",)}
    CONTENTS = {
        "ptb.train.txt": Content(5_101_618, "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
        "ptb.valid.txt": Content(399_782, "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
        "ptb.test.txt": Content(449_945, "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
    }
