"""Augmentation of training images and recordings, on the device, inside the step: a function of (seed, step).

Images are [B, H, W, C] with values 0 to 255. Each example gets different random numbers.
"""

import jax
import jax.numpy as jnp
from jax import lax


def random_shift(key: jax.Array, images: jax.Array, max_shift: int) -> jax.Array:
    """Translates each image by up to max_shift pixels along each axis, repeating its edge pixels: [B, H, W, C]."""
    margins = ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0))
    padded = jnp.pad(images, margins, mode="edge")  # [B, H + 2 max_shift, W + 2 max_shift, C]
    return random_crop(key, padded, images.shape[1:3])


def random_crop(key: jax.Array, images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """A window of `size` (height, width) at a random position in each image: [B, *size, C]."""
    room = [full - part + 1 for full, part in zip(images.shape[1:3], size, strict=True)]
    corners = jax.random.randint(key, (len(images), 2), 0, jnp.array(room))  # [B, 2]

    def crop(image, corner):
        return lax.dynamic_slice(image, (corner[0], corner[1], 0), (*size, images.shape[-1]))

    return jax.vmap(crop)(images, corners)


def center_crop(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The central window of `size` (height, width) of each image: [B, *size, C]."""
    top, left = ((full - part) // 2 for full, part in zip(images.shape[1:3], size, strict=True))
    return images[:, top : top + size[0], left : left + size[1]]


def ten_crops(images: jax.Array, size: tuple[int, int]) -> jax.Array:
    """The four corners and the center of each image, and their mirror images: [10, B, *size, C].

    Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.
    """
    (_, height, width, _), (rows, columns) = images.shape, size
    corners = [images[:, top : top + rows, left : left + columns]
               for top in (0, height - rows) for left in (0, width - columns)]  # fmt: skip
    crops = jnp.stack([*corners, center_crop(images, size)])
    return jnp.concatenate([crops, crops[:, :, :, ::-1]])


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def random_affine(
    key: jax.Array, images: jax.Array, max_rotation: float = 0.0, max_scale: float = 0.0, max_skew: float = 0.0
) -> jax.Array:
    """Rotates, scales and skews each image about its center, with bilinear interpolation, repeating its edge pixels.

    With `random_shift` these are the distortions of LeCun, Bottou, Bengio, Haffner 1998, section III.B. Rotation is not
    among theirs. Their squeezing is included: height and width are scaled independently.

    Args:
      key: of the random numbers.
      images: [B, H, W, C].
      max_rotation: in degrees, in either direction.
      max_scale: height and width change by up to this fraction.
      max_skew: a row moves to either side by up to this fraction of its distance from the center.

    Returns:
      float32 [B, H, W, C].
    """
    batch, height, width, _ = images.shape
    turn, tall, wide, skew = jax.random.uniform(key, (4, batch, 1, 1), minval=-1, maxval=1)
    angle = turn * jnp.deg2rad(max_rotation)
    y, x = (jnp.arange(n, dtype=jnp.float32) - (n - 1) / 2 for n in (height, width))
    y, x = y[:, None], x[None, :]  # [H, 1] and [1, W], of the output; next, of the input
    y, x = jnp.cos(angle) * y - jnp.sin(angle) * x, jnp.sin(angle) * y + jnp.cos(angle) * x  # [B, H, W]
    y, x = y / (1 + max_scale * tall), (x + max_skew * skew * y) / (1 + max_scale * wide)
    return _bilinear(images, y + (height - 1) / 2, x + (width - 1) / 2)


def _bilinear(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Interpolates images at rows y and columns x, [B, H, W] each. Outside they have the values of their edges."""
    y, x = jnp.clip(y, 0, images.shape[1] - 1), jnp.clip(x, 0, images.shape[2] - 1)
    top = jnp.minimum(y.astype(jnp.int32), images.shape[1] - 2)
    left = jnp.minimum(x.astype(jnp.int32), images.shape[2] - 2)
    down, right = (y - top)[..., None], (x - left)[..., None]  # [B, H, W, 1], 0 to 1
    take = jax.vmap(lambda image, rows, columns: image[rows, columns])  # [B, H, W, C]
    upper = (1 - right) * take(images, top, left) + right * take(images, top, left + 1)
    lower = (1 - right) * take(images, top + 1, left) + right * take(images, top + 1, left + 1)
    return (1 - down) * upper + down * lower


def pca_color_jitter(key: jax.Array, images: jax.Array, std: float) -> jax.Array:
    """Adds a random color to all pixels of an image, along the principal components of the pixels.

    Along each component the color is N(0, std) times the standard deviation of the pixels. The components are those of
    the batch; in the paper they are those of the training set. Source: Krizhevsky, Sutskever, Hinton 2012, section 4.1.

    Args:
      key: of the random numbers.
      images: [B, H, W, C].
      std: relative to the standard deviations of the pixels; 0.1 in the paper.

    Returns:
      float32 [B, H, W, C].
    """
    images = images.astype(jnp.float32)
    channels = images.shape[-1]
    pixels = images.reshape(-1, channels)
    variances, directions = jnp.linalg.eigh(jnp.cov(pixels, rowvar=False, ddof=0).reshape(channels, channels))
    draws = std * jax.random.normal(key, (len(images), channels)) * jnp.sqrt(jnp.maximum(variances, 0))  # [B, C]
    return images + (draws @ directions.T)[:, None, None]


def spec_augment(
    key: jax.Array,
    frames: jax.Array,
    lengths: jax.Array,
    time_masks: int,
    max_time: int,
    frequency_masks: int,
    max_frequency: int,
) -> jax.Array:
    """Sets random stretches of time and bands of frequency to 0 in each recording [B, T, M].

    Source: Park et al. 2019, without time warping.

    Args:
      key: of the random numbers.
      frames: [B, T, M], normalized.
      lengths: [B], the number of frames.
      time_masks, frequency_masks: the number of masks of each kind.
      max_time, max_frequency: the longest mask, in frames, at most half of a recording's, and in bands.
    """
    batch_size, num_frames, num_mels = frames.shape
    time_key, frequency_key = jax.random.split(key)

    def masks(key, count, sizes, longest):  # where the masks start and end, [B, count, 1] each
        length_key, start_key = jax.random.split(key)
        lengths = jax.random.uniform(length_key, (batch_size, count)) * (longest + 1)
        lengths = jnp.floor(lengths).astype(jnp.int32)
        starts = jnp.floor(jax.random.uniform(start_key, (batch_size, count)) * (sizes - lengths + 1)).astype(jnp.int32)
        return starts[..., None], (starts + lengths)[..., None]

    longest_time = jnp.minimum(max_time, lengths // 2)[:, None]
    start, end = masks(time_key, time_masks, lengths[:, None], longest_time)
    time = jnp.arange(num_frames)
    in_time = ((time >= start) & (time < end)).any(1)  # [B, T]
    start, end = masks(frequency_key, frequency_masks, num_mels, min(max_frequency, num_mels))
    band = jnp.arange(num_mels)
    in_band = ((band >= start) & (band < end)).any(1)  # [B, M]
    return jnp.where(in_time[:, :, None] | in_band[:, None], 0.0, frames)
