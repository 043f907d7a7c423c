"""The user's own pictures, turned into what a net was trained on.

The rule, in this order:
  1. the first frame, turned as its EXIF orientation says; transparency is laid on white; 16-bit and float pixels are
     scaled to 0..255;
  2. as many channels as the net sees: 1 is grey (ITU-R 601 luma), 3 is RGB;
  3. if the net knows light shapes on a dark ground (as in MNIST) and the picture's border is light, it is inverted;
  4. a picture of just the net's size is taken as it is;
  5. else, if the set was made by fitting the shape into a box, so is the picture: cut to its ink, scaled so that the
     longer side is `ink_size`, its centre of mass moved to the middle (LeCun et al. 1998, section III.A);
  6. else it is scaled to fit and the rest filled with the colour of its border.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cnnrnn.errors import DataError

INK = 64  # how far from the ground's value, of 255, a pixel counts as ink


def read(
    path: str | Path, shape: tuple[int, int, int], light_on_dark: bool = False, ink_size: int | None = None
) -> np.ndarray:
    """A picture file as uint8 [H, W, C]; for the arguments see `convert`.

    Raises:
      DataError: the file is missing, no picture, broken or larger than Pillow's limit.
    """
    try:
        with Image.open(path) as picture:
            return convert(picture, shape, light_on_dark, ink_size)
    except FileNotFoundError:
        raise DataError(f"no file {path} - check the name") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder - name the picture files in it") from None
    except UnidentifiedImageError:
        raise DataError(
            f"{path} is no picture that can be read - give a PNG, JPEG, GIF, BMP, TIFF or WebP file"
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as a picture: {error} - replace the file") from None


def convert(
    picture: Image.Image, shape: tuple[int, int, int], light_on_dark: bool = False, ink_size: int | None = None
) -> np.ndarray:
    """A picture by the rule above.

    Args:
      picture: an open picture of any size and mode.
      shape: H, W, C of the net's input.
      light_on_dark: the net was trained on light shapes on a dark ground.
      ink_size: the longer side of the shapes that the net was trained on, in pixels; None if they were not cut out.

    Returns:
      uint8 [H, W, C].
    """
    height, width, channels = shape
    picture = _flat(picture, "L" if channels == 1 else "RGB")
    if light_on_dark and np.median(_border(np.asarray(picture.convert("L")))) > 127:
        picture = ImageOps.invert(picture)
    if picture.size != (width, height):
        ground = tuple(
            int(v) for v in np.median(_border(np.asarray(picture).reshape(picture.height, picture.width, -1)), axis=0)
        )
        picture = (
            _fit_ink(picture, (width, height), ground, ink_size) if ink_size else _fit(picture, (width, height), ground)
        )
    return np.asarray(picture, np.uint8).reshape(shape)


def _flat(picture: Image.Image, mode: str) -> Image.Image:
    """One upright, opaque frame of mode L or RGB."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        top = 65535.0 if picture.mode.startswith("I") else max(values.max(), 1e-9)
        picture = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _border(pixels: np.ndarray) -> np.ndarray:
    """The outermost pixels [n, ...] of [H, W, ...]."""
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def _scaled(picture: Image.Image, longer: float) -> Image.Image:
    factor = longer / max(picture.size)
    size = tuple(max(1, round(side * factor)) for side in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC)


def _fit(picture: Image.Image, size: tuple[int, int], ground: tuple[int, ...]) -> Image.Image:
    """The whole picture in the middle of a canvas of `size` (width, height)."""
    picture = _scaled(picture, max(picture.size) * min(size[0] / picture.width, size[1] / picture.height))
    return _placed(picture, size, ground, ((size[0] - picture.width) / 2, (size[1] - picture.height) / 2))


def _fit_ink(picture: Image.Image, size: tuple[int, int], ground: tuple[int, ...], ink_size: int) -> Image.Image:
    """The picture's ink, `ink_size` long, its centre of mass in the middle of a canvas of `size` (width, height)."""
    box = Image.fromarray(_ink(picture, ground) > INK).getbbox()
    if box is None:  # an empty page
        return _fit(picture, size, ground)
    picture = _scaled(picture.crop(box), ink_size)
    weights = _ink(picture, ground).astype(np.float64) + 1e-9  # [h, w]
    centre = (weights.sum(0) @ np.arange(picture.width), weights.sum(1) @ np.arange(picture.height)) / weights.sum()
    corner = [np.clip(s / 2 - c - 0.5, 0, s - p) for s, c, p in zip(size, centre, picture.size, strict=True)]
    return _placed(picture, size, ground, corner)


def _ink(picture: Image.Image, ground: tuple[int, ...]) -> np.ndarray:
    """How far each pixel is from the ground, [h, w], 0 to 255."""
    pixels = np.asarray(picture, np.int16).reshape(picture.height, picture.width, -1)
    return np.abs(pixels - np.asarray(ground)).max(-1).astype(np.uint8)


def _placed(picture: Image.Image, size: tuple[int, int], ground: tuple[int, ...], corner) -> Image.Image:
    canvas = Image.new(picture.mode, size, ground if len(ground) > 1 else ground[0])
    canvas.paste(picture, tuple(round(float(c)) for c in corner))
    return canvas
