"""Pictures as they are found, turned into what a net is trained on: the user's sets, and what a trained net is asked.

The rule, in this order:
  1. the first frame, turned as its EXIF orientation says; transparency is laid on white, or on black if what is
     opaque is light; deeper pixels (10 to 16 bits, float) are scaled to 0..255;
  2. as many channels as the net sees: 1 is grey (ITU-R 601 luma), 3 is RGB;
  3. if the net knows light shapes on a dark ground (as in MNIST) and the picture's border is light, it is inverted;
  4. a picture of just the net's size is taken as it is;
  5. else, if the set was made by fitting shapes into a box, so is the picture: its ink, how far each pixel is from the
     border's grey, stretched to 0..255, is cut out, scaled until its longer side is `ink_size`, and its centre of mass
     moved to the middle (LeCun et al. 1998, section III.A);
  6. else, if the set was made by cutting, its shorter side is scaled to the net's size and the middle is cut out
     (Krizhevsky, Sutskever, Hinton 2012, section 2); a JPEG much larger than that is decoded at a half, a quarter or an
     eighth of its size, at least twice the net's;
  7. else it is scaled to fit and the rest filled with the colour of its border.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cnnrnn.errors import DataError

# what Pillow can read it only warns of; threads share the filters, so they are set once
warnings.filterwarnings("ignore", module=r"PIL\.")

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # none that Pillow hands to another program
INK = 64  # of 255, stretched: from here on a pixel belongs to the shape
BLANK = 24  # a page whose strongest ink is weaker than this is empty
BROKEN = (  # what Pillow raises at damaged files
    OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, ArithmeticError, NotImplementedError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


def read(
    file: str | Path | BinaryIO,
    shape: tuple[int, int, int],
    light_on_dark: bool = False,
    ink_size: int | None = None,
    cut: bool = False,
    name: str | None = None,
) -> np.ndarray:
    """A picture file as uint8 [H, W, C]; for the arguments see `convert`, for `name` and the errors `opened`."""
    with opened(file, name) as picture:
        if cut:  # a photograph of 40 megapixels needs neither its seconds nor its memory; other formats change nothing
            picture.draft(None, (2 * max(shape[:2]),) * 2)
        return convert(picture, shape, light_on_dark, ink_size, cut)


@contextmanager
def opened(file: str | Path | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """A picture file whose header has been read: `with opened(file) as picture`.

    Args:
      file: its path, or the open file.
      name: what an error calls it; None is the path.

    Raises:
      DataError: the file is missing, no picture, broken or larger than Pillow's limit, found here or within.
    """
    name = file if name is None else name
    try:
        with Image.open(file, formats=FORMATS) as picture:
            yield picture
    except FileNotFoundError:
        raise DataError(f"no file {name} - check the name") from None
    except IsADirectoryError:
        raise DataError(f"{name} is a folder - name the picture files in it") from None
    except PermissionError:
        raise DataError(f"{name} may not be read - change its rights") from None
    except UnidentifiedImageError:
        raise DataError(f"{name} is no picture that can be read - give a file of {', '.join(FORMATS)}") from None
    except BROKEN as error:
        raise DataError(f"{name} cannot be read as a picture: {error} - replace the file") from None


def convert(
    picture: Image.Image,
    shape: tuple[int, int, int],
    light_on_dark: bool = False,
    ink_size: int | None = None,
    cut: bool = False,
) -> np.ndarray:
    """A picture by the rule above.

    Args:
      picture: an open picture of any size and mode.
      shape: H, W, C of the net's input.
      light_on_dark: the net was trained on light shapes on a dark ground.
      ink_size: the longer side of the shapes on black that a grey net was trained on, in pixels; None if on none such.
      cut: the net was trained on the middle of pictures; else on whole ones.

    Returns:
      uint8 [H, W, C].
    """
    height, width, channels = shape
    picture = _flat(picture, "L" if channels == 1 else "RGB")
    if light_on_dark and np.median(_border(np.asarray(picture.convert("L")))) > 127:
        picture = ImageOps.invert(picture)
    if picture.size != (width, height) and cut and not ink_size:
        picture = _cut(picture, (width, height))
    elif picture.size != (width, height):
        pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
        ground = np.median(_border(pixels), axis=0)  # [channels]
        if ink_size:
            ink = np.abs(pixels - ground).max(-1)  # [h, w]
            picture = _fit_ink(ink, (width, height), ink_size)
        else:
            picture = _fit(picture, (width, height), tuple(map(int, ground)))
    return np.asarray(picture, np.uint8).reshape(shape)


def _flat(picture: Image.Image, mode: str) -> Image.Image:
    """One upright, opaque frame of mode L or RGB."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(picture, np.float64))
        whole = [2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if picture.mode != "F" and 2**bits > values.max()]
        top = min(whole, default=max(values.max(), 1e-9))
        picture = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = np.asarray(picture.getchannel("A"), np.float64)
        light = (np.asarray(picture.convert("L")) * alpha).sum() > 127 * alpha.sum()
        ground = Image.new("RGBA", picture.size, "black" if light else "white")
        picture = Image.alpha_composite(ground, picture)
    return picture.convert(mode)


def _border(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels [n, ...] of [H, W, ...]."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _scaled(picture: Image.Image, longer: float) -> Image.Image:
    factor = longer / max(picture.size)
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


def _cut(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The middle of a picture, as much as has the shape of `size` (width, height)."""
    factor = max(size[0] / picture.width, size[1] / picture.height)
    width, height = size[0] / factor, size[1] / factor  # of what is kept, not whole numbers
    left, top = (picture.width - width) / 2, (picture.height - height) / 2
    box = (max(left, 0), max(top, 0), min(left + width, picture.width), min(top + height, picture.height))
    return picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC, box)


def _fit(picture: Image.Image, size: tuple[int, int], ground: tuple[int, ...]) -> Image.Image:
    """The whole picture in the middle of a canvas of `size` (width, height)."""
    picture = _scaled(picture, max(picture.size) * min(size[0] / picture.width, size[1] / picture.height))
    return _placed(picture, size, ground, ((size[0] - picture.width) / 2, (size[1] - picture.height) / 2))


def _fit_ink(ink: np.ndarray, size: tuple[int, int], ink_size: int) -> Image.Image:
    """The shape in `ink` [h, w], light on black, its mass in the middle of a canvas of `size` (width, height)."""
    if ink.max() < BLANK:
        return Image.new("L", size, 0)
    picture = Image.fromarray((ink * (255 / ink.max())).round().astype(np.uint8))
    picture = _scaled(picture.crop(picture.point(lambda value: 255 * (value >= INK)).getbbox()), ink_size)
    weights = np.asarray(picture, np.float64)  # [h, w]
    centre = (weights.sum(0) @ np.arange(picture.width), weights.sum(1) @ np.arange(picture.height)) / weights.sum()
    corner = [np.clip(s / 2 - c - 0.5, 0, s - p) for s, c, p in zip(size, centre, picture.size, strict=True)]
    return _placed(picture, size, (0,), corner)


def _placed(picture: Image.Image, size: tuple[int, int], ground: tuple[int, ...], corner) -> Image.Image:
    canvas = Image.new(picture.mode, size, ground if len(ground) > 1 else ground[0])
    canvas.paste(picture, tuple(round(float(c)) for c in corner))
    return canvas
