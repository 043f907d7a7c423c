"""From text files to token ids in the smallest integer type."""

import collections
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnrnn.data.progress import progress
from cnnrnn.data.text_files import BLOCK_SIZE, WHOLE, TextFile, read_blocks
from cnnrnn.data.vocabulary import Vocabulary, tokenize

SLICE = 1 << 22  # tokens that are handled at a time

Counts = collections.Counter[str]


class Tokens(NamedTuple):
    """The tokens of a split.

    Attributes:
      ids: [N] of the smallest unsigned integer type, in memory or mapped from a file.
      characters: [N], the number of characters of each token; None if each has one.
    """

    ids: np.ndarray
    characters: np.ndarray | None

    @property
    def fingerprint(self) -> int:
        """A checksum of the ids, whatever their type."""
        value = 0
        for block in _slices(self.ids):
            value = zlib.crc32(block.astype(np.int32), value)
        return value


class Encoded(NamedTuple):
    """A text that has been encoded.

    Attributes:
      splits: the tokens of each split.
      vocabulary: of the training split.
      unknown: the number of tokens of each split that are not in the vocabulary.
      blank: the number of line ends, and of characters that are whitespace, in each split.
    """

    splits: dict[str, Tokens]
    vocabulary: Vocabulary
    unknown: dict[str, int]
    blank: dict[str, int]


def encode(
    texts: dict[str, Sequence[TextFile]],
    size: int,
    unit: str,
    vocab_size: int,
    held_out: float,
    directory: Path | None = None,
) -> Encoded:
    """Encodes a text into memory, or into files of a directory that are mapped.

    Args:
      texts: the files of each split, or {WHOLE: files}, whose end is held out for validation.
      size: of all files, in bytes.
      unit: see `Vocabulary`.
      vocab_size: see `Vocabulary.build`.
      held_out: the share of a text without splits that is for validation.
      directory: for the files {split}.ids.npy and {split}.characters.npy; None is memory.

    Raises:
      DataError: a file cannot be read or is not UTF-8.
    """
    index, blocks = _Index(unit), {}
    with progress("encoding text", size) as advance:
        for split, files in texts.items():
            blocks[split] = []
            for text, num_bytes in read_blocks(files, BLOCK_SIZE):
                blocks[split].append(index.encode(text))
                advance(num_bytes)
    if WHOLE in blocks:
        blocks = dict(zip(("train", "validation"), _divide(blocks[WHOLE], held_out), strict=True))
    counts = {split: _count(some, index.tokens) for split, some in blocks.items()}
    vocabulary = Vocabulary.build(unit, counts["train"], [counts[s] for s in counts if s != "train"], vocab_size)
    known = {token: number for number, token in enumerate(vocabulary.tokens)}
    unknown_id = vocabulary.unknown or 0
    id_of = np.array([known.get(token, unknown_id) for token in index.tokens], np.int64)
    id_of = _smallest(id_of, len(known))
    splits = {}
    for split, some in blocks.items():
        ids = _join([block.ids for block in some], id_of.dtype, directory and directory / f"{split}.ids.npy", id_of)
        characters = None
        if unit != "character":
            lengths = [block.characters for block in some]
            dtype = np.result_type(np.uint8, *lengths)
            characters = _join(lengths, dtype, directory and directory / f"{split}.characters.npy")
        splits[split] = Tokens(ids, characters)
    unknown = {split: sum(n for token, n in count.items() if token not in known) for split, count in counts.items()}
    blank = {split: sum(n for token, n in count.items() if not token.strip()) for split, count in counts.items()}
    return Encoded(splits, vocabulary, unknown, blank)


class _Index:
    """The tokens of a text in the order in which they are met, with the id of each."""

    def __init__(self, unit: str):
        self.unit, self.tokens = unit, []
        self._ids: dict[str, int] = {}
        self._id_of_character = np.full(0x110000 if unit == "character" else 0, -1, np.int32)

    def encode(self, text: str) -> Tokens:
        if self.unit == "character":  # a hundred times faster than a dict of tokens
            points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
            new = np.unique(points[self._id_of_character[points] < 0])
            self._id_of_character[new] = np.arange(len(self.tokens), len(self.tokens) + len(new))
            self.tokens += map(chr, new)
            return Tokens(_smallest(self._id_of_character[points], len(self.tokens)), None)
        tokens, characters = tokenize(text, self.unit)
        ids = [self._ids.setdefault(token, len(self._ids)) for token in tokens]
        self.tokens += list(self._ids)[len(self.tokens) :]
        return Tokens(_smallest(ids, len(self.tokens)), _smallest(characters, int(characters.max(initial=0)) + 1))


def _divide(blocks: list[Tokens], held_out: float) -> tuple[list[Tokens], list[Tokens]]:
    """The blocks before and after the character from which on a text is held out. No token is divided."""
    sizes = [len(ids) if characters is None else int(characters.sum(dtype=np.int64)) for ids, characters in blocks]
    left = int(sum(sizes) * (1 - held_out))  # characters that are still to be passed
    for number, (size, (ids, characters)) in enumerate(zip(sizes, blocks, strict=True)):
        if size > left:
            at = left
            if characters is not None and left:
                at = 1 + int(np.searchsorted(np.cumsum(characters, dtype=np.int64), left))
            before = Tokens(ids[:at], None if characters is None else characters[:at])
            after = Tokens(ids[at:], None if characters is None else characters[at:])
            return [*blocks[:number], before], [after, *blocks[number + 1 :]]
        left -= size
    return blocks, []


def _slices(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in parts. One that is mapped is read from its file: no page of the mapping becomes resident."""
    if not isinstance(array, np.memmap):
        yield from (array[start : start + SLICE] for start in range(0, len(array), SLICE))
        return
    with open(array.filename, "rb") as stream:
        stream.seek(array.offset)
        while len(block := np.fromfile(stream, array.dtype, SLICE)):
            yield block


def _count(blocks: list[Tokens], tokens: list[str]) -> Counts:
    """How often each token occurs; those that do not are left out."""
    counts = np.zeros(len(tokens), np.int64)
    for ids, _ in blocks:
        counts += np.bincount(ids, minlength=len(tokens))
    return collections.Counter({tokens[index]: int(counts[index]) for index in np.flatnonzero(counts)})


def _join(blocks: list[np.ndarray], dtype: np.dtype, file: Path | None, id_of: np.ndarray | None = None) -> np.ndarray:
    """One array [N] of the blocks, with every number replaced by `id_of`; mapped from a file if there is one."""
    converted = (block.astype(dtype) if id_of is None else id_of[block] for block in blocks)
    if file is None:
        return np.concatenate([np.empty(0, dtype), *converted])
    with open(file, "wb") as stream:  # not through the mapping: a full disk would kill the process
        shape = (sum(map(len, blocks)),)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in converted:
            stream.write(block.tobytes())
    return map_array(file)


def map_array(file: Path) -> np.ndarray:
    """The array of a *.npy file, mapped; an empty one is read, because nothing of it can be mapped."""
    try:
        return np.load(file, mmap_mode="r")
    except ValueError:
        return np.load(file)


def _smallest(numbers: Sequence[int], limit: int) -> np.ndarray:
    """Numbers below a limit, in the smallest unsigned integer type that holds them."""
    return np.asarray(numbers).astype(np.min_scalar_type(max(limit - 1, 0)))
