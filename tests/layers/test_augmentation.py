"""Augmentation changes each image as one, within its limits, and is a function of the key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.layers import augmentation
from cnnrnn.layers.augmentation import pca_color_jitter, random_affine, random_crop, random_flip, random_shift

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 9, 12, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda key, images: random_shift(key, images, 2),
        lambda key, images: random_crop(key, images, (5, 6)),
        random_flip,
        lambda key, images: random_affine(key, images, 20.0, 0.2, 0.2),
        lambda key, images: pca_color_jitter(key, images, 0.1),
    ],
    ids=["shift", "crop", "flip", "affine", "color"],
)
def test_a_change_is_a_function_of_the_key_and_of_the_image(change):
    change = jax.jit(change)
    first = np.asarray(change(jax.random.key(0), IMAGES))
    np.testing.assert_array_equal(first, change(jax.random.key(0), IMAGES))
    assert (first != np.asarray(change(jax.random.key(1), IMAGES))).any()
    same = np.asarray(change(jax.random.key(0), np.repeat(IMAGES[:1], 64, axis=0)))
    assert len(np.unique(same.reshape(64, -1), axis=0)) > 1  # one image, changed in many ways


def test_shift_moves_every_image_by_whole_pixels():
    images = np.zeros((64, 9, 9, 1), np.uint8)
    images[:, 4, 4] = 200
    moved = np.asarray(random_shift(jax.random.key(0), images, 2))
    assert moved.dtype == np.uint8 and (moved.sum((1, 2, 3)) == 200).all()
    moves = {tuple(int(axis[0]) - 4 for axis in np.nonzero(image[..., 0])) for image in moved}
    assert len(moves) > 15 and max(max(map(abs, move)) for move in moves) == 2


def test_shift_repeats_the_edge():
    blank = np.full((8, 5, 5, 3), 77, np.uint8)
    np.testing.assert_array_equal(random_shift(jax.random.key(3), blank, 4), blank)


def test_crops_are_windows_of_the_image_at_every_position():
    crops = np.asarray(random_crop(jax.random.key(0), np.repeat(IMAGES[:1], 600, axis=0), (7, 10)))
    windows = [IMAGES[0, top : top + 7, left : left + 10] for top in range(3) for left in range(3)]
    found = [next(n for n, window in enumerate(windows) if (crop == window).all()) for crop in crops]
    assert np.bincount(found, minlength=9).min() > 40  # 67 each on average
    np.testing.assert_array_equal(augmentation.center_crop(IMAGES, (7, 10)), IMAGES[:, 1:8, 1:11])


def test_ten_crops_are_the_corners_the_center_and_their_mirror_images():
    crops = np.asarray(augmentation.ten_crops(jnp.asarray(IMAGES), (7, 8)))
    assert crops.shape == (10, 64, 7, 8, 3)
    np.testing.assert_array_equal(crops[0], IMAGES[:, :7, :8])
    np.testing.assert_array_equal(crops[1], IMAGES[:, :7, -8:])
    np.testing.assert_array_equal(crops[2], IMAGES[:, -7:, :8])
    np.testing.assert_array_equal(crops[3], IMAGES[:, -7:, -8:])
    np.testing.assert_array_equal(crops[4], IMAGES[:, 1:8, 2:10])
    np.testing.assert_array_equal(crops[5:], crops[:5, :, :, ::-1])


def test_half_of_the_images_are_mirrored():
    flipped = np.asarray(random_flip(jax.random.key(0), IMAGES))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all((1, 2, 3))
    assert (mirrored | (flipped == IMAGES).all((1, 2, 3))).all() and 20 < mirrored.sum() < 44


def blot(tall: float = 5.0, wide: float = 2.0) -> np.ndarray:
    """A soft upright ellipse in the center of 200 images, [200, 41, 41, 1]."""
    y, x = np.mgrid[-20:21, -20:21]
    shape = 255 * np.exp(-((y / tall) ** 2) / 2 - (x / wide) ** 2 / 2)
    return np.repeat(shape.astype(np.float32)[None, ..., None], 200, axis=0)


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of y^2, of x^2 and of x y under each image, as if it were a density."""
    y, x = np.mgrid[-20:21, -20:21]
    weights = images[..., 0] / images.sum((1, 2, 3))[:, None, None]
    return (weights * y**2).sum((1, 2)), (weights * x**2).sum((1, 2)), (weights * x * y).sum((1, 2))


def test_limits_of_0_change_nothing():
    np.testing.assert_allclose(random_affine(jax.random.key(0), IMAGES), IMAGES, atol=1e-3)


def test_images_are_rotated_by_up_to_max_rotation():
    tall, wide, both = moments(np.asarray(random_affine(jax.random.key(0), blot(), max_rotation=30)))
    angles = np.rad2deg(np.arctan2(2 * both, tall - wide) / 2)  # of the long axis from upright
    assert 29 < np.abs(angles).max() < 30.5 and np.abs(angles.mean()) < 4 and angles.std() > 14
    np.testing.assert_allclose(tall + wide, 25 + 4, rtol=0.02)  # the size is the same, but for interpolation


def test_height_and_width_are_scaled_independently():
    tall, wide, both = moments(np.asarray(random_affine(jax.random.key(0), blot(4, 4), max_scale=0.25)))
    for stretch in (np.sqrt(tall) / 4, np.sqrt(wide) / 4):
        assert 0.74 < stretch.min() < 0.77 and 1.23 < stretch.max() < 1.26
    assert np.abs(np.corrcoef(tall, wide)[0, 1]) < 0.2 and np.abs(both).max() < 0.05


def test_images_are_skewed_by_up_to_max_skew():
    tall, _, both = moments(np.asarray(random_affine(jax.random.key(0), blot(), max_skew=0.3)))
    lean = both / tall  # x moves by this fraction of y
    assert 0.28 < np.abs(lean).max() < 0.305 and abs(lean.mean()) < 0.05
    np.testing.assert_allclose(tall, 25, rtol=0.02)


def test_interpolation_is_linear_between_pixels():
    y, x = np.mgrid[0:9, 0:12].astype(np.float32)
    ramp = (3 * y + 7 * x)[None, ..., None]
    rows, columns = np.random.default_rng(0).uniform(0, [[8], [11]], (2, 50)).astype(np.float32).reshape(2, 1, 5, 10)
    values = augmentation._bilinear(jnp.asarray(ramp), jnp.asarray(rows), jnp.asarray(columns))
    np.testing.assert_allclose(values[..., 0], 3 * rows + 7 * columns, rtol=1e-5, atol=1e-4)


def test_one_color_is_added_to_an_image_with_the_covariance_of_the_pixels():
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(4000, 4, 3)) @ np.array([[40, 30, 20], [0, 10, 5], [0, 0, 2]]) + 120
    images = pixels.reshape(4000, 2, 2, 3).astype(np.float32)
    added = np.asarray(pca_color_jitter(jax.random.key(0), images, 0.1)) - images
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1, :1], added.shape), atol=1e-3)
    wanted = 0.1**2 * np.cov(images.reshape(-1, 3), rowvar=False)
    np.testing.assert_allclose(np.cov(added[:, 0, 0], rowvar=False), wanted, atol=0.05 * wanted.max())


def test_a_gray_image_changes_in_brightness():
    gray = IMAGES[..., :1]
    added = np.asarray(pca_color_jitter(jax.random.key(0), gray, 0.1)) - gray
    assert 0.06 * gray.std() < added.std() < 0.14 * gray.std()
