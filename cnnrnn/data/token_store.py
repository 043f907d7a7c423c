"""The tokens of long texts on disk: a text is encoded once, and mapped into memory from then on.

A text has a folder, whose name is a hash of its content and of the rules by which it was encoded. The folder holds an
array for each split, a description, and the checksums of both. It may be deleted at any time.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path

from cnnrnn.command import echo, note
from cnnrnn.data import tokens
from cnnrnn.data.text_files import BLOCK_SIZE, TextFile, read_bytes
from cnnrnn.data.tokens import Encoded, Tokens
from cnnrnn.data.vocabulary import Vocabulary

MIN_STORED_SIZE = 1 << 24  # bytes of text from which on its tokens are stored
FORMAT = 2  # of the stored tokens, and the rules by which they were made
CHECKSUMS = "checksums"  # the name of the file that has those of all others in a folder


def encode(
    texts: dict[str, Sequence[TextFile]],
    unit: str,
    vocab_size: int,
    held_out: float,
    directory: Path,
    min_stored_size: int = MIN_STORED_SIZE,
) -> Encoded:
    """Encodes a text. A long one is encoded once: its tokens are stored, and the next call maps them.

    Args:
      texts, unit, vocab_size, held_out: see `tokens.encode`.
      directory: the folder of stored tokens. If it cannot be written, the tokens are in memory.
      min_stored_size: bytes of text from which on the tokens are stored.

    Raises:
      DataError: a file cannot be read or is not UTF-8.
    """
    size = sum(len(file) if isinstance(file, bytes) else _size(file) for files in texts.values() for file in files)
    if size < min_stored_size:
        return tokens.encode(texts, size, unit, vocab_size, held_out)
    rules = [FORMAT, unit, vocab_size, held_out, unicodedata.unidata_version, importlib.metadata.version("regex")]
    folder = directory / _key(texts, rules)
    if (stored := _read(folder, unit)) is not None:
        return stored
    echo(f"encoding {size:,} bytes of text in {folder}, once")
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        _write(part, tokens.encode(texts, size, unit, vocab_size, held_out, part))
        shutil.rmtree(folder, ignore_errors=True)  # damaged tokens
        part.rename(folder)
    except OSError as error:  # a read-only or a full disk, or another process was faster
        if not folder.exists():
            note(f"the tokens cannot be stored in {folder}, and are encoded at each start: {error.strerror}")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _read(folder, unit) or tokens.encode(texts, size, unit, vocab_size, held_out)


def _write(folder: Path, encoded: Encoded) -> None:
    """Describes the tokens whose files are in a folder already."""
    info = {
        "splits": list(encoded.splits),
        "vocabulary": encoded.vocabulary.info,
        "unknown": encoded.unknown,
        "blank": encoded.blank,
    }
    (folder / "info.json").write_text(json.dumps(info))
    (folder / CHECKSUMS).write_bytes(_checksums(folder))


def _read(folder: Path, unit: str) -> Encoded | None:
    """The stored tokens of a text, mapped; None if there are none or they are damaged."""
    try:
        if (folder / CHECKSUMS).read_bytes() != _checksums(folder):
            return None
        info = json.loads((folder / "info.json").read_text())
        splits = {}
        for split in info["splits"]:
            ids = tokens.map_array(folder / f"{split}.ids.npy")
            characters = None
            if unit != "character":
                characters = tokens.map_array(folder / f"{split}.characters.npy")
            splits[split] = Tokens(ids, characters)
        return Encoded(splits, Vocabulary.from_info(info["vocabulary"]), info["unknown"], info["blank"])
    except OSError:
        return None


def _checksums(folder: Path) -> bytes:
    """A line for each file in a folder of stored tokens: its CRC-32 and its name."""
    lines = []
    for name in sorted({*os.listdir(folder)} - {CHECKSUMS}):
        checksum = 0
        with open(folder / name, "rb") as stream:
            while data := stream.read(BLOCK_SIZE):
                checksum = zlib.crc32(data, checksum)
        lines.append(b"%08x %s\n" % (checksum, os.fsencode(name)))
    return b"".join(lines)


def _key(texts: dict[str, Sequence[TextFile]], rules: list) -> str:
    """The name of the folder of a text: a hash of its content and of the rules by which it is encoded."""
    digest = hashlib.blake2b(json.dumps([rules, {split: len(files) for split, files in texts.items()}]).encode())
    for files in texts.values():
        for file in files:
            digest.update(b"\0file")
            for data in read_bytes(file):
                digest.update(data)
    return digest.hexdigest()[:32]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # its error comes when it is read
