"""The rule by which a user's image becomes what the net was trained on."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from cnnrnn.data.images import convert
from cnnrnn.errors import DataError

DIGIT = dict(shape=(28, 28, 1), light_on_dark=True, ink_size=20)


def test_an_image_of_the_nets_size_is_not_changed():
    pixels = np.random.default_rng(0).integers(0, 100, (28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(convert.convert(Image.fromarray(pixels), **DIGIT)[..., 0], pixels)


def test_a_light_background_is_inverted_for_a_net_of_light_shapes_only():
    pixels = np.full((28, 28), 255, np.uint8)
    pixels[10:18, 10:18] = 0
    np.testing.assert_array_equal(convert.convert(Image.fromarray(pixels), **DIGIT)[..., 0], 255 - pixels)
    np.testing.assert_array_equal(convert.convert(Image.fromarray(pixels), (28, 28, 1))[..., 0], pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F"])
def test_every_mode_gives_the_same_digit(mode):
    pixels = np.full((200, 120), 255, np.uint8)
    pixels[40:160, 50:70] = 0
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(pixels.astype(np.float32))
    else:
        image = image.convert(mode)
    out = convert.convert(image, **DIGIT)[..., 0]
    assert out.dtype == np.uint8 and out.shape == (28, 28)
    rows, columns = np.nonzero(out > 127)
    assert (rows.min(), rows.max()) == (4, 23) and 12 <= columns.min() and columns.max() <= 15
    assert out[0].max() < 10 and out[14, 14] > 245


def test_transparency_becomes_the_background_that_shows_the_rest():
    assert (convert.convert(Image.new("RGBA", (28, 28), (0, 0, 0, 0)), (28, 28, 3)) == 255).all()
    for shade, background in ((0, 255), (255, 0)):
        image = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
        image.paste((shade, shade, shade, 255), (10, 10, 18, 18))
        out = convert.convert(image, (28, 28, 3))
        assert (out[0, 0] == background).all() and (out[14, 14] == shade).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_depth_is_found_from_the_values(bits):
    pixels = np.full((28, 28), 2**bits - 1, np.uint16)
    assert (convert.convert(Image.fromarray(pixels), (28, 28, 1)) == 255).all()
    pixels = np.array([[np.nan, 2.0]] * 2, np.float32)
    assert convert.convert(Image.fromarray(pixels), (2, 2, 1))[0, :, 0].tolist() == [0, 255]


def test_ink_is_scaled_and_its_mass_centred():
    pixels = np.zeros((300, 400), np.uint8)
    pixels[20:120, 300:340] = 255  # upright, off the middle
    out = convert.convert(Image.fromarray(pixels), **DIGIT)[..., 0].astype(float)
    rows, columns = np.nonzero(out > 127)
    assert np.ptp(rows) + 1 == 20 and np.ptp(columns) + 1 == 8
    centre = [(out.sum(1) @ np.arange(28)) / out.sum(), (out.sum(0) @ np.arange(28)) / out.sum()]
    np.testing.assert_allclose(centre, [13.5, 13.5], atol=0.51)


def test_gray_paper_and_a_faint_pen_become_black_and_white():
    pixels = np.full((90, 90), 200, np.uint8)
    pixels[20:70, 40:48] = 120
    out = convert.convert(Image.fromarray(pixels), **DIGIT)[..., 0]
    assert out.max() == 255 and np.median(out) == 0 and out[0].max() == 0


def test_an_empty_page_and_one_pixel_are_no_trouble():
    assert (convert.convert(Image.new("L", (90, 50), 255), **DIGIT) == 0).all()
    assert convert.convert(Image.new("L", (1, 1), 0), **DIGIT).shape == (28, 28, 1)
    assert convert.convert(Image.new("L", (1, 900), 0), (28, 28, 1)).shape == (28, 28, 1)


def test_without_ink_size_the_image_is_letterboxed_in_the_color_of_its_border():
    image = Image.new("RGB", (100, 50), (10, 20, 30))
    image.paste((200, 100, 50), (40, 15, 60, 35))
    out = convert.convert(image, (32, 32, 3))
    assert out.shape == (32, 32, 3)
    np.testing.assert_array_equal(out[0, 0], [10, 20, 30])
    np.testing.assert_allclose(out[16, 16], [200, 100, 50], atol=2)


def test_orientation_and_animation():
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif, quality=100)
    out = convert.convert(Image.open(file), (40, 20, 1))[..., 0]
    assert out[:8].mean() > 240 and out[14:].mean() < 15
    file = io.BytesIO()
    Image.new("L", (8, 8), 200).save(file, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), 0)])
    assert (convert.convert(Image.open(file), (8, 8, 1)) == 200).all()


def test_files_that_are_no_images_are_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "c.eps")
    for name, words in {
        "c.eps": "no image",
        "a.png": "no image",
        "b.png": "no file",
        "folder": "is a folder",
    }.items():
        with pytest.raises(DataError, match=words) as refusal:
            convert.read(tmp_path / name, (28, 28, 1))
        assert str(tmp_path / name) in str(refusal.value)


def test_an_image_too_large_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="large.png"):
        convert.read(tmp_path / "large.png", (28, 28, 1))


CROP = dict(shape=(16, 16, 3), center_crop=True)


def test_a_center_crop_scales_the_shorter_side_and_takes_the_middle():
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 32:64] = (200, 100, 50)  # the middle third, which alone remains
    for turned in (pixels, pixels.transpose(1, 0, 2)):
        out = convert.convert(Image.fromarray(turned), **CROP)
        np.testing.assert_array_equal(out[4:12, 4:12], np.broadcast_to((200, 100, 50), (8, 8, 3)))
        np.testing.assert_array_equal(out.reshape(-1, 3).min(0) > 60, [True, True, False])  # none of the black
    out = convert.convert(Image.fromarray(pixels), shape=(32, 64, 3), center_crop=True)  # a net that is not square
    np.testing.assert_array_equal(out, pixels[:, 16:80])


def test_an_image_of_the_nets_size_is_not_cropped():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    np.testing.assert_array_equal(convert.convert(Image.fromarray(pixels), **CROP), pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (5, 7), (16, 17), (33, 16)])
def test_every_size_can_be_cropped(size):
    out = convert.convert(Image.new("RGB", size, (10, 20, 30)), **CROP)
    np.testing.assert_array_equal(out, np.broadcast_to((10, 20, 30), (16, 16, 3)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_every_mode_can_be_cropped(mode):
    pixels = np.zeros((40, 60), np.uint8)
    pixels[:, 30:] = 255
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 257)
    else:
        image = image.convert("RGB" if mode in ("CMYK", "YCbCr") else "L").convert(mode)
    out = convert.convert(image, **CROP)
    assert out[:, :6].max() < 30 and out[:, 10:].min() > 225


def test_a_photograph_of_40_megapixels_is_decoded_small(tmp_path, monkeypatch):
    Image.linear_gradient("L").resize((7800, 5200)).convert("RGB").save(tmp_path / "photo.jpg")
    sizes, original = [], convert.convert
    monkeypatch.setattr(convert, "convert", lambda image, *rest: sizes.append(image.size) or original(image, *rest))
    small = convert.read(tmp_path / "photo.jpg", **CROP)
    assert sizes == [(975, 650)]  # an eighth
    with Image.open(tmp_path / "photo.jpg") as image:
        np.testing.assert_allclose(small, original(image, **CROP), atol=3)
    Image.new("RGB", (90, 60)).save(tmp_path / "photo.jpg")
    convert.read(tmp_path / "photo.jpg", **CROP)
    convert.read(tmp_path / "photo.jpg", (16, 16, 3))
    assert sizes[1:] == [(90, 60)] * 2 or sizes[1:] == [(45, 30), (90, 60)]


def test_a_drafted_photograph_has_twice_what_a_turned_net_needs(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1600, 800)).save(tmp_path / "photo.jpg", exif=exif)
    sizes, flatten = [], convert._flatten
    monkeypatch.setattr(convert, "_flatten", lambda image, mode: sizes.append(image.size) or flatten(image, mode))
    assert convert.read(tmp_path / "photo.jpg", (200, 100, 3), center_crop=True).shape == (200, 100, 3)
    assert sizes == [(800, 400)]


def test_an_image_that_cannot_be_opened_is_called_by_its_name(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="^example 7 is no image"):
        convert.read(io.BytesIO(b"nothing"), (8, 8, 3), name="example 7")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(DataError, match="^a.png may not be read - change its rights$"):
        convert.read(io.BytesIO(b"nothing"), (8, 8, 3), name="a.png")


# --- files that a fuzz found


def encode(image: Image.Image, format: str, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **how)
    return file.getvalue()


def read(data: bytes, shape=(16, 16, 3), **rule) -> np.ndarray:
    return convert.read(io.BytesIO(data), shape, **rule, name="a")


def test_exif_of_a_png_with_a_wrong_checksum_does_not_matter():
    exif = Image.Exif()
    exif[0x0112] = 6
    good = encode(Image.linear_gradient("L").resize((16, 16)), "PNG", exif=exif)
    damaged = good.replace(b"eXIfMM", b"eXIfMX").replace(b"eXIfII", b"eXIfIX")
    assert damaged != good
    np.testing.assert_array_equal(np.rot90(read(damaged), -1), read(good))


def test_a_png_that_claims_two_gigabytes_costs_no_memory(tmp_path):
    data = encode(Image.new("L", (9, 9)), "PNG")
    at = data.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :])
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(convert.read(tmp_path / "a.png", (16, 16, 3)), read(data))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_damaged_segments_of_a_jpeg_before_its_pixels_do_not_matter():
    """Its density, and the index of the images that are in the file."""
    images = [Image.linear_gradient("L").convert("RGB"), Image.radial_gradient("L").convert("RGB")]
    good = encode(images[0], "MPO", save_all=True, append_images=images[1:])
    at = good.index(b"MPF\0")
    for damaged in (b"MPF\0" + b"\xff" * 80, b"MPF\0II*\0\x08\0\0\0\0\0" + b"\0" * 70):
        np.testing.assert_array_equal(read(good[:at] + damaged + good[at + 84 :]), read(good))
    density = good.index(b"\xff\xe0\0\x10JFIF")
    for damaged in (b"\xff\xe0\0\x06JFIF", b"\xff\xe0\0\2", b""):
        np.testing.assert_array_equal(read(good[:density] + damaged + good[density + 18 :]), read(good))


def test_numbers_that_are_none_are_black_and_no_warning(recwarn):
    pixels = np.full((16, 16), 200, np.float32)
    pixels.view(np.uint32)[0, :2] = 0x7F800001, 0x7FC00000  # a signaling and a quiet NaN
    out = read(encode(Image.fromarray(pixels), "TIFF"))[..., 0]
    assert (out == 0).sum() == 2 and (out == 255).sum() == 254 and not recwarn.list


def test_a_damaged_tiff_is_refused_and_its_library_prints_nothing(capfd):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8))
    for compression in ("tiff_adobe_deflate", "tiff_lzw", "jpeg", "group4"):
        image = noise.convert("1") if compression == "group4" else noise
        data = bytearray(encode(image, "TIFF", compression=compression))
        data[20:60] = bytes(40)
        try:
            read(bytes(data))
        except DataError as error:
            assert str(error).startswith("a cannot be read as an image")
    assert capfd.readouterr() == ("", "")


def test_colors_in_cielab_are_refused():
    data = encode(Image.new("LAB", (9, 9)), "TIFF")
    with pytest.raises(DataError, match="^a has colors in CIELAB - convert it to RGB$"):
        read(data)


def test_a_large_image_is_reduced_by_means_of_its_pixels(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40)).astype(np.uint8)
    monkeypatch.setattr(convert, "MAX_PIXELS", 300)
    out = convert.convert(Image.fromarray(pixels), (15, 20, 1))[..., 0]
    np.testing.assert_allclose(out, pixels.reshape(15, 2, 20, 2).mean((1, 3)), atol=0.51)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = convert.convert(Image.open(io.BytesIO(encode(Image.fromarray(pixels), "PNG", exif=exif))), (20, 15, 1))
    np.testing.assert_array_equal(turned[..., 0], np.rot90(out, -1))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
def test_a_large_image_of_any_mode_looks_like_a_small_one(mode, monkeypatch):
    pixels = np.kron(np.array([[10, 200], [90, 250]], np.uint8), np.ones((20, 20), np.uint8))  # four squares
    image = Image.fromarray(pixels.astype(np.float32) if mode == "F" else pixels).convert(mode)
    expected = convert.convert(image, (8, 8, 3))
    monkeypatch.setattr(convert, "MAX_PIXELS", 300)
    np.testing.assert_allclose(convert.convert(image, (8, 8, 3))[1::4, 1::4], expected[1::4, 1::4], atol=20)
