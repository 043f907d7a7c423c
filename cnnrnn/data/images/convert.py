"""The conversion of any image file to the input of a net: in the user's sets, and when a trained net is asked.

The rule, in this order:
  1. The first frame is taken and turned as its EXIF orientation says. Transparent pixels become white, or black if the
     opaque ones are light. Deeper pixels (10 to 16 bits, float) are scaled to 0..255.
  2. The image gets the channels of the net's input: 1 is gray (ITU-R 601 luma), 3 is RGB.
  3. If the net was trained on light shapes on a dark background (MNIST) and the border of the image is light, the image
     is inverted.
  4. An image of the size of the net's input is not scaled.
  5. Else, if the net was trained on shapes of one size: the ink, which is the distance of each pixel from the median of
     the border, is stretched to 0..255. Its bounding box is scaled until the longer side is `ink_size`, and its center
     of mass is moved to the middle (LeCun et al. 1998, section III.A).
  6. Else, if the net was trained on central crops: the shorter side is scaled to that of the input, and the middle is
     cropped (Krizhevsky, Sutskever, Hinton 2012, section 2). A JPEG much larger than the input is decoded at a half, a
     quarter or an eighth of its size, which is at least twice that of the input.
  7. Else the image is scaled to fit inside the input, and the rest is filled with the color of its border.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cnnrnn.data.files import is_regular
from cnnrnn.errors import DataError

# What Pillow only warns of, it can read. Filters are set here because all threads share them.
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # Pillow passes none of them to another program
INK_THRESHOLD = 64  # of 255, after stretching: the least ink of a pixel of the shape
EMPTY_THRESHOLD = 24  # of 255: an image whose strongest ink is weaker is empty
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"eXIf")
TURNS = {  # by the orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def read(
    file: str | Path | BinaryIO,
    shape: tuple[int, int, int],
    light_on_dark: bool = False,
    ink_size: int | None = None,
    center_crop: bool = False,
    name: str | None = None,
) -> np.ndarray:
    """Reads and converts an image file.

    Args:
      file: its path, or the open file.
      shape, light_on_dark, ink_size, center_crop: see `convert`.
      name: what an error calls the file; None is its path.

    Returns:
      uint8 [H, W, C].

    Raises:
      DataError: see `open_image`.
    """
    with open_image(file, name) as image:
        with _as_data_error(file if name is None else name):
            if center_crop:  # so that a photograph of 40 megapixels is not decoded in full; only JPEG has this
                image.draft(None, (2 * max(shape[:2]),) * 2)
            image.load()
        return convert(image, shape, light_on_dark, ink_size, center_crop)


@contextlib.contextmanager
def open_image(file: str | Path | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """An image file whose header has been read: `with open_image(file) as image`.

    Args:
      file, name: see `read`.

    Raises:
      DataError: the file is missing, no image, damaged or larger than Pillow's limit.
    """
    with contextlib.ExitStack() as stack:
        with _as_data_error(file if name is None else name):
            if isinstance(file, (str, Path)):
                if os.path.exists(file) and not os.path.isdir(file) and not is_regular(file):
                    raise DataError(f"{file} is no regular file - name an image file")
                file = stack.enter_context(open(file, "rb"))
            image = stack.enter_context(Image.open(_without_metadata(file), formats=FORMATS))
        yield image


@contextlib.contextmanager
def _as_data_error(name: str | Path) -> Iterator[None]:
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
    """A PNG with the chunks that its pixels and its orientation need; any other file as it is.

    Pillow refuses a PNG for a damaged or a large chunk of text.
    """
    if file.read(len(PNG_SIGNATURE)) != PNG_SIGNATURE:
        file.seek(0)
        return file
    chunks = [PNG_SIGNATURE]
    while len(header := file.read(8)) == 8:
        length = int.from_bytes(header[:4], "big")
        if header[4:] in PNG_CHUNKS:
            chunks += [header, file.read(length + 4)]  # with its checksum
        else:
            file.seek(length + 4, os.SEEK_CUR)
        if header[4:] == b"IEND":
            break
    return io.BytesIO(b"".join(chunks))


def convert(
    image: Image.Image,
    shape: tuple[int, int, int],
    light_on_dark: bool = False,
    ink_size: int | None = None,
    center_crop: bool = False,
) -> np.ndarray:
    """Converts an image by the rule at the top of this module.

    Args:
      image: open, of any size and mode.
      shape: H, W, C of the net's input.
      light_on_dark: whether the net was trained on light shapes on a dark background.
      ink_size: the longer side in pixels of the shapes that the net was trained on; None if they had no fixed size.
      center_crop: whether the net was trained on central crops; otherwise on whole images.

    Returns:
      uint8 [H, W, C].
    """
    height, width, channels = shape
    image = _flatten(image, "L" if channels == 1 else "RGB")
    if light_on_dark and np.median(_border(np.asarray(image.convert("L")))) > 127:
        image = ImageOps.invert(image)
    if image.size != (width, height) and center_crop and not ink_size:
        image = _center_crop(image, (width, height))
    elif image.size != (width, height):
        pixels = np.asarray(image).reshape(image.height, image.width, channels)
        background = np.median(_border(pixels), axis=0)  # [C]
        if ink_size:
            ink = np.abs(pixels - background).max(-1)  # [h, w]
            image = _center_ink(ink, (width, height), ink_size)
        else:
            image = _letterbox(image, (width, height), tuple(map(int, background)))
    return np.asarray(image, np.uint8).reshape(shape)


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """One upright, opaque frame of mode L or RGB."""
    if (turn := TURNS.get(_orientation(image))) is not None:
        image = image.transpose(turn)
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, np.float64))
        limits = [2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if image.mode != "F" and 2**bits > values.max()]
        limit = min(limits, default=max(values.max(), 1e-9))
        image = Image.fromarray((np.clip(values / limit, 0, 1) * 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"), np.float64)
        is_light = (np.asarray(image.convert("L")) * alpha).sum() > 127 * alpha.sum()
        background = Image.new("RGBA", image.size, "black" if is_light else "white")
        image = Image.alpha_composite(background, image)
    return image.convert(mode)


def _orientation(image: Image.Image) -> int:
    """The orientation that the metadata tell, from 1, upright, to 8. Damaged metadata tell none."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises errors of many types at damaged metadata
        return 1


def _border(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels [n, ...] of [h, w, ...]."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _resize(image: Image.Image, longer_side: float) -> Image.Image:
    factor = longer_side / max(image.size)
    size = tuple(max(1, round(side * factor)) for side in image.size)
    return image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


def _center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The largest central crop with the proportions of `size` (width, height), scaled to it."""
    factor = max(size[0] / image.width, size[1] / image.height)
    width, height = size[0] / factor, size[1] / factor  # of the crop, in fractions of pixels
    left, top = (image.width - width) / 2, (image.height - height) / 2
    box = (max(left, 0), max(top, 0), min(left + width, image.width), min(top + height, image.height))
    return image.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC, box)


def _letterbox(image: Image.Image, size: tuple[int, int], background: tuple[int, ...]) -> Image.Image:
    """The whole image, scaled to fit, in the middle of a canvas of `size` (width, height)."""
    image = _resize(image, max(image.size) * min(size[0] / image.width, size[1] / image.height))
    return _paste(image, size, background, ((size[0] - image.width) / 2, (size[1] - image.height) / 2))


def _center_ink(ink: np.ndarray, size: tuple[int, int], ink_size: int) -> Image.Image:
    """The shape in `ink` [h, w], light on black, its center of mass in the middle of a canvas of `size`."""
    if ink.max() < EMPTY_THRESHOLD:
        return Image.new("L", size, 0)
    image = Image.fromarray((ink * (255 / ink.max())).round().astype(np.uint8))
    image = _resize(image.crop(image.point(lambda value: 255 * (value >= INK_THRESHOLD)).getbbox()), ink_size)
    weights = np.asarray(image, np.float64)  # [h, w]
    center = (weights.sum(0) @ np.arange(image.width), weights.sum(1) @ np.arange(image.height)) / weights.sum()
    corner = [np.clip(s / 2 - c - 0.5, 0, s - i) for s, c, i in zip(size, center, image.size, strict=True)]
    return _paste(image, size, (0,), corner)


def _paste(image: Image.Image, size: tuple[int, int], background: tuple[int, ...], corner) -> Image.Image:
    """A canvas of `size` with the image at a corner (x, y)."""
    canvas = Image.new(image.mode, size, background if len(background) > 1 else background[0])
    canvas.paste(image, tuple(round(float(c)) for c in corner))
    return canvas
