"""Running text: a set that comes with Python, two published ones, and the user's own files."""

import importlib
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from cnnrnn.data.dataset import Batch
from cnnrnn.data.vocabulary import Vocabulary, normalise, tokenize
from cnnrnn.errors import DataError
from cnnrnn.signatures import Count, Fraction, Natural, did_you_mean

SPLIT_FILES = {"train": ("train",), "validation": ("valid", "validation", "dev"), "test": ("test",)}
Splits = dict[str, str]  # {"train": text, "validation": text, ...}


def stream(
    seed: int,
    *,
    source: str = "pydoc",
    unit: Literal["character", "word", "token"] = "character",
    batch_size: Count = 32,
    window: Count = 64,
    eval_batch_size: Count = 64,
    warmup: Natural = 256,
    vocab_size: Count = 10_000,
    held_out: Fraction = 0.1,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> dict[str, "TextStream"]:
    """A text as streams of tokens, "train", "validation" and, where there is one, "test".

    Args:
      seed: not needed: a text is read in its order.
      source: "pydoc", the help texts that come with Python (they differ from version to version); "tiny_shakespeare";
        "penn_treebank", which is never downloaded; or the path of a UTF-8 text file, or of a folder: its train.txt,
        valid.txt and test.txt (or NAME.train.txt and so on), or else all *.txt below it, in the order of their names,
        as one text.
      unit: a token is a character; a word or a punctuation mark; or what stands between blanks, for text that is cut
        into tokens already, like the Penn Treebank. A line end is a token in all three.
      batch_size, window: B rows of T tokens make a training batch.
      eval_batch_size: B of the other splits.
      warmup: tokens that a row of the other splits has read before the first that counts, see `TextStream`. A net that
        remembers longer (lstm_1997 never forgets) needs more, or eval_batch_size=1, which reads without a break.
      vocab_size: at most so many tokens are told apart, the most frequent of the training text.
      held_out: the share of a text without splits that is kept for validation, its end.
      data_dir: where TFDS keeps prepared sets; None is ~/.cache/cnnrnn/datasets.
      manual_dir: the folder with a published set's original files; None downloads them where that is allowed.

    Raises:
      DataError: there is no such text, it is no UTF-8 or too short.
    """
    del seed
    texts = _read(source, unit, held_out, data_dir, manual_dir)
    cut = {split: tokenize(text, unit) for split, text in texts.items()}
    for split, (tokens, _) in cut.items():
        if not any(token.strip() for token in tokens):
            raise DataError(f"the {split} text of {source} is empty - give one with words in it (see data.held_out)")
    if (have := len(cut["train"][0])) < batch_size * window:
        raise DataError(
            f"the training text of {source} has {have} {unit}s, fewer than one window of {window} for each of "
            f"{batch_size} rows - lower data.window or data.batch_size, or give more text"
        )
    train, *others = (tokens for tokens, _ in cut.values())
    vocabulary = Vocabulary.of(unit, train, others, vocab_size)
    return {
        split: TextStream(
            vocabulary.numbers(tokens),
            characters,
            vocabulary,
            batch_size if split == "train" else eval_batch_size,
            window,
            None if split == "train" else warmup,
        )
        for split, (tokens, characters) in cut.items()
    }


class TextStream:
    """A split of running text, read by B rows at once, each from where it stopped in the batch before.

    The text, N tokens, is cut into B rows of L = ceil(N / B) that lie behind each other; batch j holds tokens j T to
    (j + 1) T of every row, and every token is the target of exactly one place in a pass. The first token of the text
    stands behind a line end. For training, pass follows pass. Otherwise each row reads some of the text before its own
    first. So its state is that of a reader from the start, and the result the same for every B and T, as far as a net
    forgets what stood before that.

    Args:
      tokens: [N] int32.
      characters: [N], how many characters of text each stands for.
      vocabulary: of the tokens.
      batch_size, window: B and T.
      warmup: tokens that a row reads before its own, rounded up to whole windows; None is for training.
    """

    def __init__(
        self,
        tokens: np.ndarray,
        characters: np.ndarray,
        vocabulary: Vocabulary,
        batch_size: int,
        window: int,
        warmup: int | None,
    ):
        self.batch_size, self.window, self.vocabulary = batch_size, window, vocabulary
        self._targets, self._characters = tokens, characters
        self._inputs = np.concatenate([[vocabulary.line_end], tokens[:-1]]).astype(np.int32)
        self._row = -(-len(tokens) // batch_size)  # L
        self._lead = 0
        if warmup is not None:
            windows = -(-self._row // window)
            self._row = windows * window  # so that a row which reads from the text's start meets it at a window's
            self._lead = -(-warmup // window)
        self.is_training = warmup is None
        self.num_batches = self._lead + -(-self._row // window)
        self.dims = {"vocab_size": len(vocabulary.tokens)}
        checksum = zlib.crc32(np.ascontiguousarray(tokens))
        self.info = {"dims": self.dims, "text": vocabulary.info, "num_tokens": len(tokens), "crc32": checksum}

    def batch(self, step: int) -> Batch:
        """See `Dataset`, and `tasks.language_modelling` for what a batch holds."""
        number = step % self.num_batches if self.is_training else step
        if number >= self.num_batches:
            raise IndexError(f"batch {number} of {self.num_batches}")
        inside = (number - self._lead) * self.window + np.arange(self.window)  # [T], places in the row
        places = np.arange(self.batch_size)[:, None] * self._row + inside  # [B, T]
        there = (places >= 0) & (places < len(self._targets))
        mask = there & (inside >= 0) & (inside < self._row)
        reset = (places[:, 0] == 0) | (number == 0)
        places = np.where(there, places, 0)
        return {
            "tokens": np.where(there, self._inputs[places], 0),
            "targets": np.where(there, self._targets[places], 0),
            "characters": np.where(there, self._characters[places], 0),
            "reset": reset.astype(np.float32),
            "mask": mask.astype(np.float32),
        }

    def sample(self, longest: int = 60) -> tuple[np.ndarray, list[str]]:
        """A line of the text's beginning: what is read, [T] int32, and what each token looks like."""
        ends = np.flatnonzero(self._targets == self.vocabulary.line_end)[:50]
        lines = [line for line in np.split(self._targets, ends + 1)[:-1] if len(line) < longest]
        line = max(lines, key=len, default=self._targets[: longest - 1])
        line = np.concatenate([[self.vocabulary.line_end], line])
        return line.astype(np.int32), [self.vocabulary.label(number) for number in line]


def _read(source: str, unit: str, held_out: float, data_dir: str | None, manual_dir: str | None) -> Splits:
    if source == "pydoc":
        topics = importlib.import_module("pydoc_data.topics").topics
        return _split("\n".join(topics[name] for name in sorted(topics)), unit, held_out)
    if source == "tiny_shakespeare":
        return _split(_prepared("text.TinyShakespeare", ("whole",), data_dir, manual_dir)["whole"], unit, held_out)
    if source == "penn_treebank":
        return _prepared("text.PennTreebank", ("train", "validation", "test"), data_dir, manual_dir)
    path = Path(source).expanduser()
    if path.is_file():
        return _split(_decode(path), unit, held_out)
    if not path.is_dir():
        known = did_you_mean(source, ["pydoc", "tiny_shakespeare", "penn_treebank"], otherwise="")
        raise DataError(f"no text file or folder {source}{known or ' - name one, data.source'}")
    if named := _named_splits(path):
        return {split: _decode(file) for split, file in named.items()}
    files = sorted(path.rglob("*.txt"))
    if not files:
        raise DataError(f"no *.txt in {path} - put text files there")
    return _split("\n".join(map(_decode, files)), unit, held_out)


def _named_splits(folder: Path) -> dict[str, Path]:
    """The files of a folder that are called after splits: all that are needed, or none."""
    named: dict[str, Path] = {}
    for split, names in SPLIT_FILES.items():
        files = [file for file in sorted(folder.glob("*.txt")) if file.stem.rpartition(".")[2] in names]
        if len(files) > 1:
            raise DataError(f"{files[0].name} and {files[1].name} in {folder} both look like {split} - leave one there")
        if files:
            named[split] = files[0]
    if named and not {"train"} < named.keys():
        raise DataError(
            f"{next(iter(named.values()))} is called after a split - "
            "put train.txt and valid.txt or test.txt there, or rename it"
        )
    return named


def _split(text: str, unit: str, held_out: float) -> Splits:
    """The first part to train and the last to validate, cut between characters or else at a blank."""
    at = int(len(text) * (1 - held_out))
    if unit != "character":
        at = next((place for place in range(at, len(text)) if text[place].isspace()), len(text))
    return {"train": text[:at], "validation": text[at:]}


def _decode(file: Path) -> str:
    try:
        data = file.read_bytes()
        return normalise(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is no UTF-8 text: byte {error.start} is {data[error.start]:#04x} - convert it to UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror} - check its name and rights") from error


def _prepared(builder: str, splits: tuple[str, ...], data_dir: str | None, manual_dir: str | None) -> Splits:
    from cnnrnn.data import builders  # imports TFDS

    arrays = builders.load(builder, splits, data_dir, manual_dir)
    return {split: features["text"].tobytes().decode("utf-8") for split, features in arrays.items()}
