"""Texts as streams of tokens: one that comes with Python, two published sets, and the user's files."""

import importlib
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from cnnrnn.data.dataset import Batch, Dataset, Example
from cnnrnn.data.sampling import WindowSampler
from cnnrnn.data.vocabulary import Vocabulary, normalise, tokenize
from cnnrnn.errors import DataError
from cnnrnn.signatures import NonNegativeInt, PositiveInt, Rate, Resumable, did_you_mean

SPLIT_FILES = {"train": ("train",), "validation": ("valid", "validation", "dev"), "test": ("test",)}
Texts = dict[str, str]  # {"train": text, "validation": text, ...}


def stream(
    seed: int,
    *,
    source: Resumable[str] = "pydoc",
    unit: Literal["character", "word", "token"] = "character",
    batch_size: PositiveInt = 32,
    window: PositiveInt = 64,
    eval_batch_size: Resumable[PositiveInt] = 64,
    warmup: NonNegativeInt = 256,
    vocab_size: PositiveInt = 10_000,
    held_out: Rate = 0.1,
    data_dir: Resumable[str | None] = None,
    manual_dir: Resumable[str | None] = None,
) -> dict[str, Dataset]:
    """A text as streams of tokens: "train", "validation" and, if there is one, "test". For a batch see `make_dataset`.

    Args:
      seed: not used, because a text is read in order. Every data set takes one.
      source: "pydoc", the help texts of Python (they differ between versions); "tiny_shakespeare"; "penn_treebank",
        which is never downloaded; or the path of a UTF-8 text file or of a folder. Of a folder, train.txt, valid.txt
        and test.txt are read (or NAME.train.txt and so on); else all *.txt below it, sorted by name, are one text.
      unit: what a token is. "character"; "word", a word or a punctuation mark; "token", the text between whitespace,
        for texts that are tokenized already, such as the Penn Treebank. In all three a line end is a token.
      batch_size, window: B and T of the training split.
      eval_batch_size: B of the other splits.
      warmup: the number of tokens that a row of the other splits reads before its first target, see `WindowSampler`. A
        model that remembers longer (lstm_1997 never forgets) needs more, or eval_batch_size=1, which needs no warmup.
      vocab_size: the largest size of the vocabulary, see `Vocabulary.build`.
      held_out: the share of a text without splits, at its end, that is for validation.
      data_dir: the folder of TFDS's prepared sets; None is ~/.cache/cnnrnn/datasets.
      manual_dir: the folder of the original files of a published set; None downloads them, if that is allowed.

    Raises:
      DataError: there is no such text, it is not UTF-8, or it is too short.
    """
    del seed
    texts = _read(source, unit, held_out, data_dir, manual_dir)
    tokenized = {split: tokenize(text, unit) for split, text in texts.items()}
    for split, (tokens, _) in tokenized.items():
        if not any(token.strip() for token in tokens):
            raise DataError(f"the {split} text of {source} is empty - give one with words in it (see data.held_out)")
    if (have := len(tokenized["train"][0])) < batch_size * window:
        raise DataError(
            f"the training text of {source} has {have} {unit}s, fewer than one window of {window} for each of "
            f"{batch_size} rows - lower data.window or data.batch_size, or give more text"
        )
    train, *others = (tokens for tokens, _ in tokenized.values())
    vocabulary = Vocabulary.build(unit, train, others, vocab_size)
    datasets = {}
    for split, (tokens, characters) in tokenized.items():
        token_source = TokenSource(vocabulary.encode(tokens), characters, vocabulary)
        is_train = split == "train"
        size = batch_size if is_train else eval_batch_size
        datasets[split] = make_dataset(token_source, size, window, None if is_train else warmup)
    return datasets


def make_dataset(source: "TokenSource", batch_size: int, window: int, warmup: int | None) -> Dataset:
    """The windows of a text. For `batch_size`, `window` and `warmup` see `WindowSampler`.

    A batch has int32 [B, T] "tokens", "targets" (the tokens after them) and "characters" (of each target); and "reset"
    [B], "mask" and "index" [B, T], see `Dataset.batch`.
    """
    return Dataset(
        source,
        WindowSampler(len(source), batch_size, window, warmup),
        dims={"vocab_size": len(source.vocabulary.tokens)},
        info={"inference": "text", "text": source.vocabulary.info, "num_tokens": len(source)},
    )


class TokenSource:
    """The tokens of a text. Example i has token i - 1 as input and token i as target; a line end precedes the first.

    Args:
      tokens: [N] int32.
      characters: [N], the number of characters of each token.
      vocabulary: of the tokens.
    """

    def __init__(self, tokens: np.ndarray, characters: np.ndarray, vocabulary: Vocabulary):
        self.tokens, self.characters, self.vocabulary = tokens, characters, vocabulary
        self._previous = np.concatenate([[vocabulary.line_end], tokens[:-1]]).astype(np.int32)  # [N]
        self.fingerprint = zlib.crc32(np.ascontiguousarray(tokens))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> Example:
        return {"tokens": self._previous[index], "targets": self.tokens[index], "characters": self.characters[index]}

    def take(self, indices: np.ndarray) -> Batch:
        """See `dataset.Source`."""
        return self[indices]

    def sample_line(self, max_length: int = 60) -> tuple[np.ndarray, list[str]]:
        """A line near the start of the text, after a line end: its tokens [T] int32, and each as it is displayed."""
        ends = np.flatnonzero(self.tokens == self.vocabulary.line_end)[:50]
        lines = [line for line in np.split(self.tokens, ends + 1)[:-1] if len(line) < max_length]
        line = max(lines, key=len, default=self.tokens[: max_length - 1])
        line = np.concatenate([[self.vocabulary.line_end], line])
        return line.astype(np.int32), [self.vocabulary.display(token) for token in line]


def _read(source: str, unit: str, held_out: float, data_dir: str | None, manual_dir: str | None) -> Texts:
    if source == "pydoc":
        topics = importlib.import_module("pydoc_data.topics").topics
        return _split("\n".join(topics[name] for name in sorted(topics)), unit, held_out)
    if source == "tiny_shakespeare":
        return _split(_load("text.TinyShakespeare", ("whole",), data_dir, manual_dir)["whole"], unit, held_out)
    if source == "penn_treebank":
        return _load("text.PennTreebank", ("train", "validation", "test"), data_dir, manual_dir)
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
    """The files of a folder that are named after splits: train and others, or none."""
    named: dict[str, Path] = {}
    for split, names in SPLIT_FILES.items():
        files = [file for file in sorted(folder.glob("*.txt")) if file.stem.rpartition(".")[2] in names]
        if len(files) > 1:
            raise DataError(f"{files[0].name} and {files[1].name} in {folder} both look like {split} - leave one there")
        if files:
            named[split] = files[0]
    if named and not {"train"} < named.keys():
        raise DataError(
            f"{next(iter(named.values()))} is named after a split - "
            "put train.txt and valid.txt or test.txt there, or rename it"
        )
    return named


def _split(text: str, unit: str, held_out: float) -> Texts:
    """The start of a text for training and its end for validation. Words are not divided."""
    at = int(len(text) * (1 - held_out))
    if unit != "character":
        at = next((index for index in range(at, len(text)) if text[index].isspace()), len(text))
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


def _load(builder: str, splits: tuple[str, ...], data_dir: str | None, manual_dir: str | None) -> Texts:
    from cnnrnn.data import builders  # imports TFDS

    arrays = builders.load(builder, splits, data_dir, manual_dir)
    return {split: features["text"].tobytes().decode("utf-8") for split, features in arrays.items()}
