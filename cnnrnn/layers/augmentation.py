"""Random changes of training pictures, on the device and inside the step: a function of the key, so of (seed, step).

Pictures are [B, H, W, C], values 0 to 255; each is changed by draws of its own.
"""

import jax
import jax.numpy as jnp
from jax import lax


def random_shift(key: jax.Array, images: jax.Array, max_shift: int) -> jax.Array:
    """Moves each picture [B, H, W, C] by its own -max_shift to max_shift pixels down and right, repeating its edges."""
    margins = ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0))
    padded = jnp.pad(images, margins, mode="edge")  # [B, H + 2 max_shift, W + 2 max_shift, C]
    return random_crop(key, padded, images.shape[1:3])


def random_crop(key: jax.Array, images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Cuts a window of `size` (height, width) out of each picture, anywhere in it: [B, *size, C]."""
    room = [whole - part + 1 for whole, part in zip(images.shape[1:3], size, strict=True)]
    corners = jax.random.randint(key, (len(images), 2), 0, jnp.array(room))  # [B, 2]

    def cut(image, corner):
        return lax.dynamic_slice(image, (corner[0], corner[1], 0), (*size, images.shape[-1]))

    return jax.vmap(cut)(images, corners)


def center_crop(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The middle window of `size` (height, width) of each picture: [B, *size, C]."""
    top, left = ((whole - part) // 2 for whole, part in zip(images.shape[1:3], size, strict=True))
    return images[:, top : top + size[0], left : left + size[1]]


def ten_crops(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The four corners and the middle of each picture, and their mirror images: [10, B, *size, C].

    Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
    """
    (_, height, width, _), (rows, columns) = images.shape, size
    corners = [images[:, top : top + rows, left : left + columns]
               for top in (0, height - rows) for left in (0, width - columns)]  # fmt: skip
    crops = jnp.stack([*corners, center_crop(images, size)])
    return jnp.concatenate([crops, crops[:, :, :, ::-1]])


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each picture, left for right, or leaves it: even chances."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def random_affine(
    key: jax.Array, images: jax.Array, max_rotation: float = 0.0, max_scale: float = 0.0, max_skew: float = 0.0
) -> jax.Array:
    """Turns, stretches and skews each picture about its middle, with bilinear interpolation, repeating its edges.

    With `random_shift` for translation these are the distortions of LeCun, Bottou, Bengio, Haffner 1998, section III.B,
    and rotation, which they have not; height and width are stretched each by itself: scaling and squeezing are in it.

    Args:
      max_rotation: in degrees, either way.
      max_scale: height and width grow or shrink by up to this fraction.
      max_skew: the top leans to the right, or to the left, by up to this fraction of its distance from the middle.

    Returns:
      float32 [B, H, W, C].
    """
    batch, height, width, _ = images.shape
    turn, tall, wide, skew = jax.random.uniform(key, (4, batch, 1, 1), minval=-1, maxval=1)
    angle = turn * jnp.deg2rad(max_rotation)
    y, x = (jnp.arange(n, dtype=jnp.float32) - (n - 1) / 2 for n in (height, width))
    y, x = y[:, None], x[None, :]  # [H, 1] and [1, W], of a pixel of the result; below, of where it comes from
    y, x = jnp.cos(angle) * y - jnp.sin(angle) * x, jnp.sin(angle) * y + jnp.cos(angle) * x  # [B, H, W]
    y, x = y / (1 + max_scale * tall), (x + max_skew * skew * y) / (1 + max_scale * wide)
    return _bilinear(images, y + (height - 1) / 2, x + (width - 1) / 2)


def _bilinear(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """The values of pictures between their pixels, at rows y and columns x, [B, H, W] each; outside, of the edge."""
    y, x = jnp.clip(y, 0, images.shape[1] - 1), jnp.clip(x, 0, images.shape[2] - 1)
    top = jnp.minimum(y.astype(jnp.int32), images.shape[1] - 2)
    left = jnp.minimum(x.astype(jnp.int32), images.shape[2] - 2)
    down, right = (y - top)[..., None], (x - left)[..., None]  # [B, H, W, 1], 0 to 1
    take = jax.vmap(lambda image, rows, columns: image[rows, columns])  # [B, H, W, C]
    upper = (1 - right) * take(images, top, left) + right * take(images, top, left + 1)
    lower = (1 - right) * take(images, top + 1, left) + right * take(images, top + 1, left + 1)
    return (1 - down) * upper + down * lower


def random_colour(key: jax.Array, images: jax.Array, std: float) -> jax.Array:
    """Adds to all pixels of a picture one colour, drawn along the principal components of the pixels' colours.

    A draw of N(0, std) times the standard deviation along each component. Where the paper takes the components of the
    whole training set, this takes those of the batch. Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.

    Returns:
      float32 [B, H, W, C].
    """
    images = images.astype(jnp.float32)
    channels = images.shape[-1]
    pixels = images.reshape(-1, channels)
    variances, directions = jnp.linalg.eigh(jnp.cov(pixels, rowvar=False, ddof=0).reshape(channels, channels))
    draws = std * jax.random.normal(key, (len(images), channels)) * jnp.sqrt(jnp.maximum(variances, 0))  # [B, C]
    return images + (draws @ directions.T)[:, None, None]
