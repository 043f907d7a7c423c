"""Texts as streams of tokens: one that comes with Python, two published sets, and the user's files."""

import importlib
import os
from pathlib import Path
from typing import Literal

import numpy as np

from cnnrnn.data.dataset import Batch, Dataset, Example
from cnnrnn.data.sampling import WindowSampler
from cnnrnn.data.text_files import WHOLE, TextFile, find_texts
from cnnrnn.data.token_store import encode
from cnnrnn.data.tokens import Encoded, Tokens
from cnnrnn.data.vocabulary import Vocabulary
from cnnrnn.errors import DataError
from cnnrnn.signatures import NonNegativeInt, PositiveInt, Rate, Resumable, did_you_mean

DATA_DIR = "~/.cache/cnnrnn/datasets"
MAX_TOKENS = 2**31 - 1  # of a split: indices are int32
SAMPLE_SIZE = 100_000  # tokens among which a line is sought


def stream(
    seed: int,
    *,
    source: Resumable[str] = "pydoc",
    unit: Literal["character", "word", "whitespace"] = "character",
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
        which is never downloaded; or the path of a UTF-8 text file or of a folder. For the splits of a folder see
        `text_files.find_texts`.
      unit: what a token is. "character", one code point; "word", the text between two boundaries of words (Unicode
        Standard Annex 29), a word or a punctuation mark; "whitespace", the text between whitespace, for texts that are
        tokenized already, such as the Penn Treebank. In all three a line end is a token.
      batch_size, window: B and T of the training split.
      eval_batch_size: B of the other splits.
      warmup: the number of tokens that a row of the other splits reads before its first target, see `WindowSampler`. A
        model that remembers longer (lstm_1997 never forgets) needs more, or eval_batch_size=1, which needs no warmup.
      vocab_size: the largest size of the vocabulary, see `Vocabulary.build`.
      held_out: the share of a text without splits, at its end, that is for validation.
      data_dir: the folder of TFDS's prepared sets and, in `texts`, of the stored tokens of long texts, see
        `token_store.encode`; None is ~/.cache/cnnrnn/datasets.
      manual_dir: a folder of the original files of a published set, see `builders.originals`; None downloads them, if
        that is allowed.

    Raises:
      DataError: there is no such text, it is not UTF-8, or it is too short.
    """
    del seed
    files, left_out = _find(source, data_dir, manual_dir)
    folder = Path(os.path.expanduser(data_dir or DATA_DIR)) / "texts"
    encoded = encode(files, unit, vocab_size, held_out, folder)
    _check(encoded, source, unit, batch_size, window)
    datasets = {}
    for split, tokens in encoded.splits.items():
        is_train, unknown = split == "train", encoded.unknown[split]
        summary = {f"{unit}s": len(tokens.ids), "not in the vocabulary": unknown}
        if is_train:
            summary |= {"vocabulary": len(encoded.vocabulary.tokens), "left out": left_out}
        token_source = TokenSource(tokens, encoded.vocabulary)
        size, before = (batch_size, None) if is_train else (eval_batch_size, warmup)
        datasets[split] = make_dataset(token_source, size, window, before, summary)
    return datasets


def make_dataset(
    source: "TokenSource", batch_size: int, window: int, warmup: int | None, summary: dict | None = None
) -> Dataset:
    """The windows of a text. For `batch_size`, `window` and `warmup` see `WindowSampler`, for `summary` `Dataset`.

    A batch has int32 [B, T] "tokens", "targets" (the tokens after them) and "characters" (of each target); and "reset"
    [B], "mask" and "index" [B, T], see `Dataset.batch`.
    """
    return Dataset(
        source,
        WindowSampler(len(source), batch_size, window, warmup),
        dims={"vocab_size": len(source.vocabulary.tokens)},
        info={"inference": "text", "text": source.vocabulary.info, "num_tokens": len(source)},
        summary=summary,
    )


class TokenSource:
    """The tokens of a text. Example i has token i - 1 as input and token i as target; a line end precedes the first.

    Args:
      tokens: N of them.
      vocabulary: of the tokens.
    """

    def __init__(self, tokens: Tokens, vocabulary: Vocabulary):
        self.ids, self.characters = tokens
        self.vocabulary, self.fingerprint = vocabulary, tokens.fingerprint
        self._line_end = vocabulary.line_end
        self.nbytes = sum(part.nbytes for part in tokens if part is not None and not isinstance(part, np.memmap))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        return {name: rows[0] for name, rows in self.take(np.array([index])).items()}

    def take(self, indices: np.ndarray) -> Batch:
        """See `dataset.Source`."""
        previous = np.where(indices == 0, self._line_end, self.ids[np.maximum(indices - 1, 0)])
        characters = np.ones(indices.shape) if self.characters is None else self.characters[indices]
        batch = {"tokens": previous, "targets": self.ids[indices], "characters": characters}
        return {name: rows.astype(np.int32) for name, rows in batch.items()}

    def sample_line(self, max_length: int = 60) -> tuple[np.ndarray, list[str]]:
        """A line near the start of the text, after a line end: its tokens [T] int32, and each as it is displayed.

        A line without <unk> is preferred.
        """
        ids, unknown = self.ids[:SAMPLE_SIZE], self.vocabulary.unknown
        ends = np.flatnonzero(ids == self.vocabulary.line_end)[:50]
        lines = [line for line in np.split(ids, ends + 1)[:-1] if len(line) < max_length]
        line = max(lines, key=lambda line: (unknown not in line, len(line)), default=ids[: max_length - 1])
        line = np.concatenate([[self.vocabulary.line_end], line])
        return line.astype(np.int32), [self.vocabulary.display(token) for token in line]


def _check(encoded: Encoded, source: str, unit: str, batch_size: int, window: int) -> None:
    for split, tokens in encoded.splits.items():
        if encoded.blank[split] == len(tokens.ids):
            raise DataError(f"the {split} text of {source} is empty - give one with words in it (see data.held_out)")
        if len(tokens.ids) > MAX_TOKENS:
            raise DataError(f"the {split} text of {source} has more than {MAX_TOKENS:,} {unit}s - give a part of it")
    if (have := len(encoded.splits["train"].ids)) < batch_size * window:
        raise DataError(
            f"the training text of {source} has {have} {unit}s, fewer than one window of {window} for each of "
            f"{batch_size} rows - lower data.window or data.batch_size, or give more text"
        )


def _find(source: str, data_dir: str | None, manual_dir: str | None) -> tuple[dict[str, list[TextFile]], dict]:
    """The files of each split, or the one text that is to be divided, and what was left out."""
    if source == "pydoc":
        topics = importlib.import_module("pydoc_data.topics").topics
        return {WHOLE: ["\n".join(topics[name] for name in sorted(topics)).encode()]}, {}
    if source == "tiny_shakespeare":
        return _load("text.TinyShakespeare", (WHOLE,), data_dir, manual_dir), {}
    if source == "penn_treebank":
        return _load("text.PennTreebank", ("train", "validation", "test"), data_dir, manual_dir), {}
    if not source:
        raise DataError("data.source is empty - name a text file or a folder, --config.data.source=PATH")
    path = Path(os.path.expanduser(source))
    if not os.path.exists(path):
        known = did_you_mean(source, ["pydoc", "tiny_shakespeare", "penn_treebank"], otherwise="")
        raise DataError(f"no text file or folder {source}{known or ' - name one, data.source'}")
    files, listing = find_texts(path)
    if listing is None:
        return files, {}
    listing.print_left_out()
    return files, listing.summary()


def _load(
    builder: str, splits: tuple[str, ...], data_dir: str | None, manual_dir: str | None
) -> dict[str, list[bytes]]:
    from cnnrnn.data import builders  # imports TFDS

    arrays = builders.load(builder, splits, data_dir, manual_dir)
    return {split: [features["text"].tobytes()] for split, features in arrays.items()}
