"""The rule by which a user's picture becomes what the net was trained on."""

import numpy as np
import pytest
from PIL import Image

from cnnrnn.data import pictures
from cnnrnn.errors import DataError

DIGIT = dict(shape=(28, 28, 1), light_on_dark=True, ink_size=20)


def test_a_picture_of_the_nets_size_is_taken_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 100, (28, 28)).astype(np.uint8)
    np.testing.assert_array_equal(pictures.convert(Image.fromarray(pixels), **DIGIT)[..., 0], pixels)


def test_a_light_ground_is_inverted_for_a_net_of_light_shapes_only():
    pixels = np.full((28, 28), 255, np.uint8)
    pixels[10:18, 10:18] = 0
    np.testing.assert_array_equal(pictures.convert(Image.fromarray(pixels), **DIGIT)[..., 0], 255 - pixels)
    np.testing.assert_array_equal(pictures.convert(Image.fromarray(pixels), (28, 28, 1))[..., 0], pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F"])
def test_every_mode_gives_the_same_digit(mode):
    pixels = np.full((200, 120), 255, np.uint8)
    pixels[40:160, 50:70] = 0
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(pixels.astype(np.uint16) * 257)
    elif mode == "F":
        picture = Image.fromarray(pixels.astype(np.float32))
    else:
        picture = picture.convert(mode)
    out = pictures.convert(picture, **DIGIT)[..., 0]
    assert out.dtype == np.uint8 and out.shape == (28, 28)
    rows, columns = np.nonzero(out > 127)
    assert (rows.min(), rows.max()) == (4, 23) and 12 <= columns.min() and columns.max() <= 15
    assert out[0].max() < 10 and out[14, 14] > 245


def test_transparency_lies_on_what_shows_the_rest():
    assert (pictures.convert(Image.new("RGBA", (28, 28), (0, 0, 0, 0)), (28, 28, 3)) == 255).all()
    for shade, ground in ((0, 255), (255, 0)):
        picture = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
        picture.paste((shade, shade, shade, 255), (10, 10, 18, 18))
        out = pictures.convert(picture, (28, 28, 3))
        assert (out[0, 0] == ground).all() and (out[14, 14] == shade).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_depth_is_found_from_the_values(bits):
    pixels = np.full((28, 28), 2**bits - 1, np.uint16)
    assert (pictures.convert(Image.fromarray(pixels), (28, 28, 1)) == 255).all()
    pixels = np.array([[np.nan, 2.0]] * 2, np.float32)
    assert pictures.convert(Image.fromarray(pixels), (2, 2, 1))[0, :, 0].tolist() == [0, 255]


def test_ink_is_scaled_and_its_mass_centred():
    pixels = np.zeros((300, 400), np.uint8)
    pixels[20:120, 300:340] = 255  # upright, off the middle
    out = pictures.convert(Image.fromarray(pixels), **DIGIT)[..., 0].astype(float)
    rows, columns = np.nonzero(out > 127)
    assert np.ptp(rows) + 1 == 20 and np.ptp(columns) + 1 == 8
    centre = [(out.sum(1) @ np.arange(28)) / out.sum(), (out.sum(0) @ np.arange(28)) / out.sum()]
    np.testing.assert_allclose(centre, [13.5, 13.5], atol=0.51)


def test_grey_paper_and_a_faint_pen_become_black_and_white():
    pixels = np.full((90, 90), 200, np.uint8)
    pixels[20:70, 40:48] = 120
    out = pictures.convert(Image.fromarray(pixels), **DIGIT)[..., 0]
    assert out.max() == 255 and np.median(out) == 0 and out[0].max() == 0


def test_an_empty_page_and_one_pixel_are_no_trouble():
    assert (pictures.convert(Image.new("L", (90, 50), 255), **DIGIT) == 0).all()
    assert pictures.convert(Image.new("L", (1, 1), 0), **DIGIT).shape == (28, 28, 1)
    assert pictures.convert(Image.new("L", (1, 900), 0), (28, 28, 1)).shape == (28, 28, 1)


def test_without_ink_the_whole_picture_fits_on_its_own_ground():
    picture = Image.new("RGB", (100, 50), (10, 20, 30))
    picture.paste((200, 100, 50), (40, 15, 60, 35))
    out = pictures.convert(picture, (32, 32, 3))
    assert out.shape == (32, 32, 3)
    np.testing.assert_array_equal(out[0, 0], [10, 20, 30])
    np.testing.assert_allclose(out[16, 16], [200, 100, 50], atol=2)


def test_orientation_and_animation():
    picture = Image.new("L", (40, 20), 0)
    picture.paste(255, (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    import io

    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, quality=100)
    out = pictures.convert(Image.open(file), (40, 20, 1))[..., 0]
    assert out[:8].mean() > 240 and out[14:].mean() < 15
    file = io.BytesIO()
    Image.new("L", (8, 8), 200).save(file, "GIF", save_all=True, append_images=[Image.new("L", (8, 8), 0)])
    assert (pictures.convert(Image.open(file), (8, 8, 1)) == 200).all()


def test_files_that_are_no_pictures_are_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "c.eps")
    for name, words in {
        "c.eps": "no picture",
        "a.png": "no picture",
        "b.png": "no file",
        "folder": "is a folder",
    }.items():
        with pytest.raises(DataError, match=words) as refusal:
            pictures.read(tmp_path / name, (28, 28, 1))
        assert str(tmp_path / name) in str(refusal.value)


def test_a_picture_too_large_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="large.png"):
        pictures.read(tmp_path / "large.png", (28, 28, 1))
