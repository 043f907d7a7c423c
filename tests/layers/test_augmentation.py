"""Augmentation moves whole pictures, each by itself, and is a function of the key."""

import jax
import numpy as np

from cnnrnn.layers.augmentation import random_shift


def test_shift_moves_every_picture_by_whole_pixels():
    images = np.zeros((64, 9, 9, 1), np.uint8)
    images[:, 4, 4] = 200
    moved = np.asarray(random_shift(jax.random.key(0), images, 2))
    assert moved.dtype == np.uint8 and (moved.sum((1, 2, 3)) == 200).all()
    places = {tuple(int(axis[0]) - 4 for axis in np.nonzero(image[..., 0])) for image in moved}
    assert len(places) > 15 and max(max(map(abs, place)) for place in places) == 2
    np.testing.assert_array_equal(moved, random_shift(jax.random.key(0), images, 2))
    assert (moved != np.asarray(random_shift(jax.random.key(1), images, 2))).any()


def test_shift_repeats_the_edge():
    ground = np.full((8, 5, 5, 3), 77, np.uint8)
    np.testing.assert_array_equal(random_shift(jax.random.key(3), ground, 4), ground)
