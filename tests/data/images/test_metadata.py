"""Metadata never matter: an image whose pixels are whole is read, and its orientation if it can be read."""

import io
import os
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cnnrnn.data.images import convert
from cnnrnn.errors import DataError

RNG = np.random.default_rng(0)
PHOTO = Image.fromarray(RNG.integers(0, 256, (8, 12, 3)).astype(np.uint8))


def encode(format: str, **settings) -> bytes:
    file = io.BytesIO()
    PHOTO.save(file, format, **settings)
    return file.getvalue()


def read(data: bytes, shape=(8, 12, 3)) -> np.ndarray:
    return convert.read(io.BytesIO(data), shape)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def with_chunk(png: bytes, extra: bytes) -> bytes:
    """A PNG with a chunk after its header."""
    return png[:33] + extra + png[33:]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_is_that_of_exif(format, orientation):
    from PIL import ImageOps

    data = encode(format, exif=exif(orientation))
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    np.testing.assert_array_equal(read(data, (upright.height, upright.width, 3)), np.asarray(upright))


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff" * 40, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\x05"]
)
def test_damaged_exif_of_a_jpeg_does_not_matter(garbage):
    whole = encode("JPEG")
    segment = b"Exif\0\0" + garbage
    damaged = whole[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + whole[2:]
    np.testing.assert_array_equal(read(damaged), read(whole))


@pytest.mark.parametrize(
    ("entry", "damaged"),
    [
        ("010f0002", "010f000c"),  # the maker of the camera as a number
        ("010f0002", "010f0005"),
        ("88250004000000010000", "8825000400000001ffff"),  # the place is beyond the end of the block
        ("88250004", "8825000c"),
    ],
)
def test_damaged_entries_beside_the_orientation_do_not_matter(entry, damaged):
    tags, whole = exif(6), encode("JPEG")
    tags[0x010F], tags[0x8825] = "maker", {1: "N", 2: (1.0, 2.0, 3.0)}
    block = tags.tobytes()
    assert bytes.fromhex(entry) in block
    block = block.replace(bytes.fromhex(entry), bytes.fromhex(damaged))
    image = whole[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + whole[2:]
    np.testing.assert_array_equal(read(image, (12, 8, 3)), np.rot90(read(whole), -1))


@pytest.mark.parametrize("orientation", [6, 0, 9, 65535])
def test_every_cut_of_an_exif_block_is_read(orientation):
    """The pixels stay, whatever remains of the block; an orientation that does not exist is none."""
    whole, block = encode("JPEG"), exif(orientation).tobytes()
    turned = np.asarray(Image.open(io.BytesIO(whole)).transpose(Image.Transpose.ROTATE_270))
    for end in range(6, len(block) + 1):
        damaged = whole[:2] + b"\xff\xe1" + (end + 2).to_bytes(2, "big") + block[:end] + whole[2:]
        is_upright = np.array_equal(read(damaged), read(whole))
        assert is_upright or (orientation == 6 and np.array_equal(read(damaged, (12, 8, 3)), turned))
    assert is_upright == (orientation != 6)  # of the whole block


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3 << 20))),
        chunk(b"iCCP", b"profile\0\0" + b"no deflated data"),
        chunk(b"tEXt", b"no separator"),
        chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
        chunk(b"tIME", b"1"),
        chunk(b"tEXt", b"Comment\0x")[:-1] + b"?",  # a wrong checksum
    ],
)
def test_chunks_of_a_png_that_are_not_its_pixels_do_not_matter(extra):
    np.testing.assert_array_equal(read(with_chunk(encode("PNG"), extra)), np.asarray(PHOTO))


def test_many_large_texts_in_a_png(tmp_path):
    text = PngInfo()
    for number in range(70):  # more than Pillow's limit for all of them
        text.add_text(f"key {number}", "x" * (1 << 20), zip=True)
    PHOTO.save(tmp_path / "a.png", pnginfo=text)
    np.testing.assert_array_equal(convert.read(tmp_path / "a.png", (8, 12, 3)), np.asarray(PHOTO))


def test_transparency_and_palette_of_a_png_do_matter():
    file = io.BytesIO()
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.putpixel((0, 0), 0)
    image.save(file, "PNG", transparency=0)
    out = read(file.getvalue(), (4, 4, 3))
    assert out[0, 0].tolist() == [255, 255, 255] and out[3, 3].tolist() == [10, 200, 30]


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="pipe.png is not a regular file"):
        convert.read(tmp_path / "pipe.png", (8, 8, 3))
