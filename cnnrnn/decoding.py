"""From probabilities to an answer: pure functions around a step (carry, token) -> (carry, logits)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def sample(key: jax.Array, logits: jax.Array, temperature: float = 1.0, top_k: int | None = None) -> jax.Array:
    """Draws a token from logits [..., V].

    Args:
      key: of the draw.
      logits: as the model gives them.
      temperature: divides the logits: below 1 the likely becomes likelier; 0 takes the likeliest.
      top_k: draws among the k likeliest alone; None among all.

    Returns:
      int32 [...].
    """
    if top_k is not None and top_k < logits.shape[-1]:
        least = lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if temperature == 0:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    return jax.random.categorical(key, logits / temperature).astype(jnp.int32)


def generate(
    step: Callable[[Any, jax.Array], tuple[Any, jax.Array]],
    carry: Any,
    logits: jax.Array,
    key: jax.Array,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> jax.Array:
    """Continues a text, each token drawn from what the model makes of those before.

    Args:
      step: (carry, token [B]) -> (carry, logits [B, V]).
      carry, logits: behind the last token that is given.
      key: of the draws.
      length: how many tokens.
      temperature, top_k: see `sample`.

    Returns:
      int32 [B, length].
    """

    def draw(state, key):
        carry, logits = state
        token = sample(key, logits, temperature, top_k)
        return step(carry, token), token

    _, tokens = lax.scan(draw, (carry, logits), jax.random.split(key, length))
    return tokens.swapaxes(0, 1)
