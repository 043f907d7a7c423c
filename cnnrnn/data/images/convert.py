"""The conversion of any image file to the input of a net: in the user's sets, and when a trained net is asked.

The rule, in this order:
  1. The first frame is taken and turned as its EXIF orientation says. Transparent pixels become white, or black if the
     opaque ones are light. Deeper pixels (10 to 16 bits, float) are scaled to 0..255.
  2. The image gets the channels of the net's input: 1 is gray (ITU-R 601 luma), 3 is RGB. One of more than 16 million
     pixels is first made smaller by a whole factor.
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

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from cnnrnn.data.images.image_files import open_image, reading

INK_THRESHOLD = 64  # of 255, after stretching: the least ink of a pixel of the shape
EMPTY_THRESHOLD = 24  # of 255: an image whose strongest ink is weaker is empty
MAX_PIXELS = 1 << 24  # of a flat image: Pillow's limit is eleven times as many, of which the rule would make gigabytes
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
        with reading(file if name is None else name):
            if center_crop:  # so that a photograph of 40 megapixels is not decoded in full; only JPEG has this
                image.draft(None, (2 * max(shape[:2]),) * 2)
            image.load()
        return convert(image, shape, light_on_dark, ink_size, center_crop)


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
            ink = pixels - background
            ink = np.abs(ink, out=ink).max(-1)  # [h, w]
            image = _center_ink(ink, (width, height), ink_size)
        else:
            image = _letterbox(image, (width, height), tuple(map(int, background)))
    return np.asarray(image, np.uint8).reshape(shape)


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """One upright, opaque frame of mode L or RGB, of at most `MAX_PIXELS`."""
    turn = TURNS.get(_orientation(image))
    factor = math.ceil(math.sqrt(image.width * image.height / MAX_PIXELS))
    image = _reduce(image, factor) if factor > 1 else image
    if image.mode.startswith(("I", "F")):
        image = _to_8_bits(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = _on_background(image.convert("RGBA"))
    image = image.convert(mode)
    return image if turn is None else image.transpose(turn)


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """An image of which each pixel is the mean of a square, or of a palette one pixel of the square."""
    if image.mode in ("P", "PA"):
        return image.resize([math.ceil(side / factor) for side in image.size], Image.Resampling.NEAREST)
    if image.mode == "1" or image.mode.startswith("I;"):  # of which Pillow makes no means
        image = image.convert("L" if image.mode == "1" else "I")
    return image.reduce(factor)


def _to_8_bits(image: Image.Image) -> Image.Image:
    with np.errstate(invalid="ignore"):  # signaling NaN
        values = np.asarray(image, np.float64)
    highest = values.max(initial=0.0, where=np.isfinite(values))
    limits = [2.0**bits - 1 for bits in (8, 10, 12, 14, 16) if image.mode != "F" and 2**bits > highest]
    values = np.nan_to_num(values, posinf=highest, neginf=0.0) / min(limits, default=max(highest, 1e-9))
    return Image.fromarray((np.clip(values, 0, 1) * 255).round().astype(np.uint8))


def _on_background(image: Image.Image) -> Image.Image:
    """An RGBA image on white, or on black if its opaque pixels are light."""
    alpha = np.asarray(image.getchannel("A"), np.float64)
    is_light = (np.asarray(image.convert("L")) * alpha).sum() > 127 * alpha.sum()
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if is_light else "white"), image)


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
