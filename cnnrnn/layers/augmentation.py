"""Random changes of training pictures, on the device and inside the step: a function of the key, so of (seed, step)."""

import jax
import jax.numpy as jnp
from jax import lax


def random_shift(key: jax.Array, images: jax.Array, max_shift: int) -> jax.Array:
    """Moves each picture [B, H, W, C] by its own -max_shift to max_shift pixels down and right, repeating its edges."""
    margins = ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0))
    padded = jnp.pad(images, margins, mode="edge")  # [B, H + 2 max_shift, W + 2 max_shift, C]
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * max_shift + 1)  # [B, 2]

    def cut(image, corner):
        return lax.dynamic_slice(image, (corner[0], corner[1], 0), images.shape[1:])

    return jax.vmap(cut)(padded, corners)
