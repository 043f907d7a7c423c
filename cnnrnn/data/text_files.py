"""Text files as blocks of normalised text, and the splits that the names of files and folders mean."""

import codecs
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cnnrnn.data.files import SPLITS, Listing, find_splits, is_regular, split_of
from cnnrnn.data.vocabulary import normalise
from cnnrnn.errors import DataError

BLOCK_SIZE = 1 << 20  # bytes that are read at a time
SAMPLE_SIZE = 1 << 16  # bytes by which an encoding is guessed
NO_TEXT = "not a *.txt file"  # a reason to leave a file out
WHOLE = "whole"  # of a text without splits
OTHER_FORMATS = {  # files that begin so, and that may contain text
    b"\x1f\x8b": "a gzip file", b"BZh": "a bzip2 file", b"\xfd7zXZ": "an xz file", b"PK\x03\x04": "a zip archive",
    b"%PDF-": "a PDF", b"{\\rtf": "an RTF document", b"\xd0\xcf\x11\xe0": "an Office document",
}  # fmt: skip
BYTE_ORDER_MARKS = {  # the longer first: that of UTF-16 begins that of UTF-32
    codecs.BOM_UTF32_LE: "UTF-32LE", codecs.BOM_UTF32_BE: "UTF-32BE",
    codecs.BOM_UTF16_LE: "UTF-16LE", codecs.BOM_UTF16_BE: "UTF-16BE",
}  # fmt: skip

TextFile = Path | bytes  # a file, or the bytes of one


def find_texts(path: Path) -> tuple[dict[str, list[Path]], Listing | None]:
    """The files of a text by split: {"train": files, "test": files}, or {WHOLE: files} if no name means a split.

    Args:
      path: a file, or a folder. A split of a folder is a *.txt in it, train.txt or NAME.train.txt, or a folder of
        *.txt. Without splits all *.txt below it, sorted by name, are one text.

    Returns:
      The files, and what was left out of a folder.

    Raises:
      DataError: there is no text, or the names of the splits are not clear.
    """
    if is_regular(path):
        return {WHOLE: [path]}, None
    if not os.path.isdir(path):
        raise DataError(f"{path} is neither a text file nor a folder - name one, data.source")
    listing = Listing(path)
    path = Path(listing.find_outermost(path, _is_text))
    folders, files = listing.scan(path)
    texts = {file for file in files if _is_text(file)}
    below = {entry: [entry] for entry in sorted(texts)} | {entry: _texts_below(listing, entry) for entry in folders}
    names = {entry: _split_name(entry) if entry in texts else Path(entry).name for entry in below}
    splits = find_splits(names[entry] for entry, found in below.items() if found)
    named: dict[str, str] = {}
    for entry, found in below.items():
        split = splits.get(names[entry])
        if split and found:  # a folder of anything else is no split
            if split in named:
                raise DataError(f"{named[split]} and {entry} are both for {split} - leave one there")
            named[split] = entry
    for file in sorted({*files} - texts):
        listing.leave_out(NO_TEXT, file)
    if not named:
        if not (found := sorted(file for some in below.values() for file in some)):
            raise DataError(f"no *.txt in {path} - put text files there")
        return {WHOLE: [*map(Path, found)]}, listing
    if not {"train"} < named.keys():
        understood = ", ".join(f"{Path(entry).name} as {split}" for split, entry in named.items())
        missing = "no training text" if "train" not in named else "nothing to evaluate"
        raise DataError(
            f"{missing} in {path}: understood {understood} - "
            "put train.txt and valid.txt or test.txt there, or rename it"
        )
    for entry, files in below.items():
        if files and entry not in named.values():
            listing.leave_out("named after no split", entry)
    return {split: [*map(Path, below[named[split]])] for split in SPLITS if split in named}, listing


def read_blocks(files: Sequence[TextFile], block_size: int = BLOCK_SIZE) -> Iterator[tuple[str, int]]:
    """The text of some files, normalised, with a line end between them, in blocks that begin at a word.

    Args:
      files: in UTF-8, with or without a byte order mark.
      block_size: bytes that are read at a time.

    Yields:
      A block of text, and the number of bytes that were read for it.

    Raises:
      DataError: a file cannot be read or is not UTF-8; the error says what it looks like.
    """
    for number, file in enumerate(files):
        pending, num_bytes = "\n" if number else "", 0
        for text, count in _decode(file, block_size):
            pending, num_bytes = pending + text, num_bytes + count
            if at := _last_word(pending):
                yield normalise(pending[:at]), num_bytes
                pending, num_bytes = pending[at:], 0
        if pending:
            yield normalise(pending), num_bytes


def read_text(file: TextFile, name: str) -> str:
    """The text of a file as it is, without the byte order mark. For errors, which say `name`, see `read_blocks`."""
    return "".join(text for text, _ in _decode(file, BLOCK_SIZE, name))


def _last_word(text: str) -> int:
    """Where the last word that follows whitespace begins, 0 if there is none.

    Whitespace composes with no character after it, so a text that is cut there is normalised in parts.
    """
    end = len(text.rstrip())
    at = max(text.rfind(" ", 0, end), text.rfind("\n", 0, end)) + 1
    while at and text[at].isspace():
        at += 1
    return at


def read_bytes(file: TextFile, block_size: int = BLOCK_SIZE) -> Iterator[bytes]:
    """The bytes of a file, in blocks.

    Raises:
      DataError: the file cannot be read.
    """
    try:
        with io.BytesIO(file) if isinstance(file, bytes) else _open(file) as stream:
            while data := stream.read(block_size):
                yield data
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror} - check its name and rights") from error


def _decode(file: TextFile, block_size: int, name: str | None = None) -> Iterator[tuple[str, int]]:
    name = name or _name(file)
    decoder, offset, mark = codecs.getincrementaldecoder("utf-8")(), 0, "\ufeff"  # the byte order mark
    for data in read_bytes(file, block_size):
        if (offset == 0 and data.startswith((*BYTE_ORDER_MARKS, *OTHER_FORMATS))) or b"\0" in data:
            raise DataError(f"{name} is not UTF-8 text: {_advice(data, offset == 0)}")
        pending = len(decoder.getstate()[0])  # bytes of a character that the last block began
        try:
            text = decoder.decode(data)
        except UnicodeDecodeError as error:
            at = offset - pending + error.start
            around = error.object[max(error.start - SAMPLE_SIZE // 2, 0) :]
            what = f"byte {at} is {error.object[error.start]:#04x}; {_advice(around, offset == 0)}"
            raise DataError(f"{name} is not UTF-8 text: {what}") from None
        yield text.removeprefix(mark), len(data)
        offset, mark = offset + len(data), mark if not text else ""
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise DataError(f"{name} is cut short: its last character is not whole - replace it") from None


def _open(file: Path) -> io.BufferedReader:
    if os.path.islink(file) and not os.path.exists(file):
        raise DataError(f"{file} is a link to a file that is missing - fetch the file or delete the link")
    if os.path.exists(file) and not is_regular(file):
        raise DataError(f"{file} is not a regular file - name a text file")
    return open(file, "rb")


def _advice(data: bytes, is_start: bool) -> str:
    """What bytes that are no UTF-8 look like, and what to do."""
    for mark, name in OTHER_FORMATS.items():
        if is_start and data.startswith(mark):
            return f"it is {name} - give the plain text in it"
    encoding = _guess_encoding(data, is_start)
    if encoding is None:
        return "it does not look like text - give a text file"
    return f"it looks like {encoding} - convert it to UTF-8"


def _guess_encoding(data: bytes, is_start: bool) -> str | None:
    for mark, name in BYTE_ORDER_MARKS.items():
        if is_start and data.startswith(mark):
            return name
    if b"\0" in data:  # every other byte of Latin text in UTF-16, and each blank of any other
        even, odd = data[::2].count(0), data[1::2].count(0)
        if max(even, odd) < 8 * min(even, odd) or even + odd < len(data) / 100:
            return None
        return "UTF-16LE" if odd > even else "UTF-16BE"
    import charset_normalizer

    best = charset_normalizer.from_bytes(data[:SAMPLE_SIZE]).best()
    return best.encoding if best else None


def _texts_below(listing: Listing, folder: str) -> list[str]:
    files = listing.walk(folder)
    for file in files:
        if not _is_text(file):
            listing.leave_out(NO_TEXT, file)
    return [file for file in files if _is_text(file)]


def _split_name(file: str) -> str:
    """The part of a file's name that may mean a split: "train" of ptb.train.txt, "book_train" of book_train.txt."""
    stem = Path(file).stem
    return last if split_of(last := stem.rpartition(".")[2]) else stem


def _is_text(file: str) -> bool:
    return file.lower().endswith(".txt")


def _name(file: TextFile) -> str:
    return "the text" if isinstance(file, bytes) else str(file)
