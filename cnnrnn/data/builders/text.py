"""TFDS builders for texts, as bytes in UTF-8. TensorFlow is not needed."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds


class TinyShakespeare(tfds.core.GeneratorBasedBuilder):
    """Parts of Shakespeare's plays in one text, 1,115,394 characters. Source: Karpathy, char-rnn, 2015."""

    VERSION = tfds.core.Version("1.0.0")
    URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
    FILES = {"whole": "input.txt"}

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"text": tfds.features.Tensor(shape=(None,), dtype=np.uint8)}
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            homepage=self.URL,
        )

    def _split_generators(self, dl_manager):
        paths = dl_manager.download({split: self.URL + name for split, name in self.FILES.items()})
        return {split: self._generate_examples(Path(path)) for split, path in paths.items()}

    def _generate_examples(self, path: Path):
        yield 0, {"text": np.frombuffer(path.read_bytes(), np.uint8)}


class PennTreebank(TinyShakespeare):
    """The Penn Treebank of language models: 10,000 words, 929,589 / 73,760 / 82,430 tokens with line ends.

    It is licensed for research and never downloaded: its files are read from a folder. Source: Mikolov, Karafiat,
    Burget, Cernocky, Khudanpur 2010, after Marcus, Santorini, Marcinkiewicz 1993.
    """

    VERSION = tfds.core.Version("1.0.0")
    URL = "manual://penn_treebank/"
    FILES = {"train": "ptb.train.txt", "validation": "ptb.valid.txt", "test": "ptb.test.txt"}
