"""Opens image files. Metadata never matter: a file is read if its pixels are whole."""

import contextlib
import ctypes
import io
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from cnnrnn.data.files import is_regular
from cnnrnn.errors import DataError

# What Pillow only warns of, it can read. Filters are set here because all threads share them.
warnings.filterwarnings("ignore", module=r"PIL\.")
# What Pillow raises as an error, its library libtiff prints too.
with contextlib.suppress(OSError, AttributeError):
    ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler(None)

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # Pillow passes none of them to another program
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf")
JPEG_START, JFIF, EXIF = b"\xff\xd8", b"JFIF\0", b"Exif\0\0"
APP0, APP1, APP14, APP15, START_OF_SCAN, COMMENT = 0xE0, 0xE1, 0xEE, 0xEF, 0xDA, 0xFE  # the markers of JPEG
JFIF_SIZE = 14  # bytes of a segment that is whole


@contextlib.contextmanager
def open_image(file: str | Path | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """An image file whose header has been read: `with open_image(file) as image`.

    Args:
      file: its path, or the open file.
      name: what an error calls the file; None is its path.

    Raises:
      DataError: the file is missing, no image, damaged or larger than Pillow's limit.
    """
    with contextlib.ExitStack() as stack:
        with reading(file if name is None else name):
            if isinstance(file, (str, Path)):
                if os.path.exists(file) and not os.path.isdir(file) and not is_regular(file):
                    raise DataError(f"{file} is not a regular file - name an image file")
                file = stack.enter_context(open(file, "rb"))
            image = stack.enter_context(Image.open(_without_metadata(file), formats=FORMATS))
            if image.mode == "LAB":  # the only mode that Pillow reads from these formats and does not convert
                raise DataError(f"{file if name is None else name} has colors in CIELAB - convert it to RGB")
        yield image


@contextlib.contextmanager
def reading(name: str | Path) -> Iterator[None]:
    """Turns every error of reading a file, by this name, into a DataError."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        if os.path.islink(name):
            raise DataError(f"{name} is a link to a file that is missing - fetch it or delete the link") from None
        raise DataError(f"no file {name} - check the name") from None
    except IsADirectoryError:
        raise DataError(f"{name} is a folder - name the image files in it") from None
    except PermissionError:
        raise DataError(f"{name} may not be read - change its rights") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is no image that can be read - give a file of {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow raises errors of many types at damaged files
        what = str(error) or type(error).__name__
        raise DataError(f"{name} cannot be read as an image: {what} - replace the file") from None


def _without_metadata(file: BinaryIO) -> BinaryIO:
    """A PNG or a JPEG with what its pixels, their colors and their orientation need; any other file as it is.

    Pillow refuses a PNG for a damaged chunk of EXIF, and for a damaged or a large one of text; and a JPEG for a damaged
    segment of density or of other images, as phones write it for depth and brightness.
    """
    start = file.read(len(PNG_SIGNATURE))
    file.seek(0)
    if start == PNG_SIGNATURE:
        return _needed_chunks(file)
    return _needed_segments(file) if start.startswith(JPEG_START) else file


def _needed_chunks(file: BinaryIO) -> BinaryIO:
    """A PNG without the chunks that are not needed."""
    chunks, size = [PNG_SIGNATURE], file.seek(0, os.SEEK_END)
    file.seek(len(PNG_SIGNATURE))
    while len(header := file.read(8)) == 8:
        kind, end = header[4:], file.tell() + int.from_bytes(header[:4], "big") + 4
        if kind in PNG_CHUNKS:
            content = file.read(min(end, size) - file.tell())  # with its checksum
            if kind != b"eXIf" or zlib.crc32(kind + content[:-4]).to_bytes(4, "big") == content[-4:]:
                chunks += [header, content]
        file.seek(end)
        if kind == b"IEND":
            break
    return io.BytesIO(b"".join(chunks))


def _needed_segments(file: BinaryIO) -> BinaryIO:
    """A JPEG without the segments that are not needed. One that ends before its pixels is left as it is."""
    segments = [file.read(len(JPEG_START))]
    while True:
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF:
            file.seek(0)
            return file
        if marker[1] == 0xFF:  # filling
            file.seek(-1, os.SEEK_CUR)
            continue
        if marker[1] == START_OF_SCAN:
            return io.BytesIO(b"".join([*segments, marker, file.read()]))
        length = file.read(2)
        content = file.read(max(int.from_bytes(length, "big") - 2, 0))
        if _is_needed(marker[1], content):
            segments += [marker, length, content]


def _is_needed(marker: int, content: bytes) -> bool:
    """Whether the pixels of a JPEG, their colors or their orientation depend on a segment."""
    if marker == APP0:
        return content.startswith(JFIF) and len(content) >= JFIF_SIZE
    if marker == APP1:
        return content.startswith(EXIF)
    return marker == APP14 or not (APP0 <= marker <= APP15 or marker == COMMENT)
