"""Finds the original files of a published set in a folder by their contents, whatever their names and their packing.

A content is the unpacked bytes of one file. It may lie in the folder or below it, and be packed by gzip, bzip2 or xz;
it may be a member of a tar or zip archive, and be packed in there too.
"""

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import re
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cnnrnn.data.files import Listing
from cnnrnn.errors import DataError, join_lines

READ_LIMIT = 1 << 30  # bytes of a file at all its layers: those of CIFAR-10 have 540 million
MAX_MEMBERS = 10_000  # of an archive: one with more is not an archive of originals
MAX_LAYERS = 4  # a .gz in a .tar.gz in a .zip
DECOMPRESSORS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}  # by how a file starts
REMEDY = "put the original files there, packed or unpacked, or name another folder: --config.data.manual_dir=FOLDER"


class Content(NamedTuple):
    """What is known of the unpacked bytes of an original file.

    Attributes:
      size: in bytes.
      sha256: in hexadecimal; None if it is not known, then the name of the file decides.
      prefix: the number of bytes at the start that the SHA-256 covers; None is all.
    """

    size: int
    sha256: str | None
    prefix: int | None = None


Contents = Mapping[str, Content]  # by the name of the unpacked original


def list_files(folder: str | Path) -> list[str]:
    """The paths of all files below a folder, and of links to files. Pipes, devices and sockets are left out.

    Raises:
      DataError: there is no such folder, it cannot be read, or there are no files in it.
    """
    if not os.path.isdir(folder):
        raise DataError(f"no folder {folder} - name the folder of the original files: --config.data.manual_dir=FOLDER")
    if files := Listing(folder).walk(folder):
        return files
    raise DataError(f"no files in {folder} - {REMEDY}")


def common_folder(files: Sequence[str | Path]) -> str:
    """The innermost folder that all files are in or below."""
    return os.path.commonpath([os.path.dirname(file) or "." for file in files])


def find(
    contents: Contents,
    files: Sequence[str | Path],
    others: Mapping[str, Contents] | None = None,
    read_limit: int = READ_LIMIT,
) -> dict[str, bytes]:
    """Reads contents from files. Well-named and small files are tried first, and the search ends with the last content.

    Args:
      contents: what to find.
      files: where to search, at least one.
      others: the contents of other sets, by the set's name, which the error names if they are there instead.
      read_limit: bytes read of one file, packed and unpacked, before it is given up.

    Returns:
      {name: bytes}, with every name of `contents`.

    Raises:
      DataError: a content is missing. It says what was found instead.
    """
    search = _Search(contents, others or {}, common_folder(files), read_limit)
    for file in sorted(files, key=search.priority):
        if search.missing:
            search.try_file(file)
    if search.missing:
        raise DataError(search.explain(len(files)))
    return search.found


class _Search:
    """The contents found so far, and what an error has to tell about the other files."""

    def __init__(self, contents: Contents, others: Mapping[str, Contents], folder: str, read_limit: int):
        self.missing, self.others, self.folder, self.read_limit = dict(contents), others, folder, read_limit
        self.found: dict[str, bytes] = {}
        self.mistaken: dict[str, str] = {}  # {another set: the first of its files}
        self.wrong: dict[str, str] = {}  # {content: the first file that has its name or its size, and is not it}
        self.unreadable: list[str] = []  # "file (reason)"
        self.unread = 0  # bytes that may still be read of the present file

    def priority(self, file: str | Path) -> tuple:
        """Sorts files: well-named ones first, then small ones."""
        is_named = any(_is_named(file, name) for name in self.missing)
        try:
            return not is_named, os.path.getsize(file), str(file)
        except OSError:
            return True, 0, str(file)

    def try_file(self, file: str | Path) -> None:
        label, self.unread = os.path.relpath(file, self.folder), self.read_limit
        with self._noting(label), open(file, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - 4))
            gzip_size = int.from_bytes(stream.read(4), "little")  # what the end of a gzip file says
            stream.seek(0)
            if stream.peek(4)[:4] == b"PK\3\4":
                self._try_zip(stream, label)
            else:
                self._try_stream(stream, str(file), label, size, gzip_size)

    def _try_zip(self, stream: BinaryIO, label: str) -> None:
        _require_small_directory(stream)
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                inner = f"{info.filename} in {label}"
                if not self.missing:
                    break
                with self._noting(inner), archive.open(info) as member:
                    self._try_stream(member, info.filename, inner, info.file_size)

    def _try_tar(self, stream: BinaryIO, label: str, layer: int) -> None:
        with tarfile.open(fileobj=stream, mode="r|") as archive:  # in one pass: to go back would unpack it again
            for count, info in enumerate(archive):
                inner = f"{info.name} in {label}"
                if not self.missing:
                    break
                if count == MAX_MEMBERS:
                    raise _TooLarge(f"not read beyond {MAX_MEMBERS} members")
                if info.isreg():
                    with self._noting(inner), archive.extractfile(info) as member:
                        self._try_stream(member, info.name, inner, info.size, layer=layer)

    def _try_stream(self, stream, name: str, label: str, size: int | None, gzip_size=None, layer: int = 1) -> None:
        """Unpacks a stream as far as its first bytes say that it is packed, and compares what it holds.

        Args:
          stream: binary, read once from its start.
          name: of the file or the member.
          label: what an error calls it.
          size: of the stream in bytes; None if unknown.
          gzip_size: the size of what it holds if it is packed by gzip; None if unknown.
          layer: 1 in a file, one more in each packing.
        """
        stream = io.BufferedReader(_Metered(stream, self))
        head = stream.peek(512)
        packed = next((start for start in DECOMPRESSORS if head.startswith(start)), None)
        if packed and layer < MAX_LAYERS:
            # a file of several gzip members, as bgzip writes it, ends with an empty one
            inner_size = gzip_size or None if packed == b"\x1f\x8b" else None
            with DECOMPRESSORS[packed](stream) as unpacked:
                self._try_stream(unpacked, name, label, inner_size, layer=layer + 1)
        elif head[257:262] == b"ustar" and layer < MAX_LAYERS:
            self._try_tar(stream, label, layer + 1)
        else:
            sizes = [content.size for content in self.missing.values()]
            can_match = size is None or size in sizes
            self._compare(stream.read(max(sizes) + 1) if can_match else b"", name, label)

    def _compare(self, data: bytes, name: str, label: str) -> None:
        for wanted, content in self.missing.items():
            if _matches(content, wanted, data, name):
                self.found[wanted] = data
                del self.missing[wanted]
                return
        for set_name, contents in self.others.items():
            if any(_matches(content, wanted, data, name) for wanted, content in contents.items()):
                self.mistaken.setdefault(set_name, label)
                return
        for wanted, content in self.missing.items():
            if _is_named(name, wanted) or len(data) == content.size:
                self.wrong.setdefault(wanted, label)

    def spend(self, size: int) -> None:
        """Counts bytes that were read of the present file."""
        self.unread -= size
        if self.unread < 0:
            raise _TooLarge(f"larger than an original, not read beyond {self.read_limit} bytes")

    @contextlib.contextmanager
    def _noting(self, label: str):
        try:
            yield
        except Exception as error:  # damaged archives raise exceptions of many kinds
            reason = getattr(error, "strerror", None) or join_lines(str(error)) or type(error).__name__
            self.unreadable.append(f"{label} ({reason})")

    def explain(self, num_files: int) -> str:
        facts = [f"files of {name} found, {label} among them" for name, label in self.mistaken.items()]
        facts += [f"found {', '.join(self.found)}"] if self.found else []
        facts += sorted({f"{label} is not the original" for name, label in self.wrong.items() if name in self.missing})
        if self.unreadable:
            others = f" and {len(self.unreadable) - 1} more" if len(self.unreadable) > 1 else ""
            facts.append(f"could not be read: {self.unreadable[0]}{others}")
        facts = facts or [f"{num_files} files of other contents found"]
        return f"no {', '.join(self.missing)} in {self.folder}: {'; '.join(facts)} - {REMEDY}"


class _TooLarge(Exception):
    """A file is larger than those that hold originals."""


class _Metered(io.RawIOBase):
    """A stream whose bytes are counted as they are read, so that no archive costs more than the limit."""

    def __init__(self, stream: BinaryIO, search: _Search):
        self._stream, self._search = stream, search

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._stream.read(len(buffer))
        self._search.spend(len(data))
        buffer[: len(data)] = data
        return len(data)


def _matches(content: Content, wanted: str, data: bytes, name: str) -> bool:
    if len(data) != content.size:
        return False
    if content.sha256 is None:
        return _is_named(name, wanted)
    return hashlib.sha256(memoryview(data)[: content.prefix]).hexdigest() == content.sha256


def _is_named(path: str | Path, wanted: str) -> bool:
    """Whether a file is named after a content: train-images.idx3-ubyte.gz after train-images-idx3-ubyte."""
    name, wanted = (re.sub(r"[._ -]+", "-", os.path.basename(text).casefold()) for text in (path, wanted))
    return name.startswith(wanted)


def _require_small_directory(stream: BinaryIO) -> None:
    """Refuses a zip file of many members before its directory, which is read as a whole, costs memory."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 22 - 0xFFFF))  # the last record is of 22 bytes and a comment
    end = stream.read().rpartition(b"PK\5\6")[2]
    num_members = int.from_bytes(end[6:8], "little")  # 65,535 says: that many or more
    stream.seek(0)
    if num_members > MAX_MEMBERS:
        raise _TooLarge(f"not read, for it has more than {MAX_MEMBERS} members")
