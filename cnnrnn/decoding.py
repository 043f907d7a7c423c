"""From probabilities to an answer: pure functions around a step (carry, token) -> (carry, logits)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
        values, places = lax.top_k(logits, top_k)
        logits = jnp.put_along_axis(jnp.full_like(logits, -jnp.inf), places, values, axis=-1, inplace=False)
    if temperature == 0:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    below = logits - jnp.max(logits, -1, keepdims=True)  # so that no temperature makes the likeliest infinite
    return jax.random.categorical(key, below / temperature).astype(jnp.int32)


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


def likeliest_words(
    step: Callable[[Any, jax.Array], tuple[Any, jax.Array]],
    carry: Any,
    logits: jax.Array,
    is_letter: np.ndarray,
    is_blank: np.ndarray,
    count: int,
    beam_size: int = 32,
    longest: int = 24,
) -> list[tuple[float, tuple[int, ...]]]:
    """The words that a model of characters thinks likeliest behind a blank, by beam search.

    A word is a run of letters up to the first token that is none, or one token that is neither letter nor blank. Its
    probability is that of its letters and of its ending there; blanks at the beginning are no word.

    Args:
      step: as in `generate`; it is compiled here.
      carry, logits: behind the blank, of a batch of 1.
      is_letter, is_blank: [V] bool.
      count: how many words.
      beam_size: how many beginnings of words are followed at once: what they miss is less likely than what they hold,
        unless a beginning was unlikely and its end certain.
      longest: letters of a word at most.

    Returns:
      (probability, tokens) of each, the likeliest first.
    """
    step = jax.jit(step)
    beginnings, chances = [()], np.zeros(beam_size)  # of beginnings, in [0, 1]
    chances[0] = 1.0
    carry, logits = jax.tree.map(lambda x: jnp.repeat(x, beam_size, axis=0), (carry, logits))
    words: list[tuple[float, tuple[int, ...]]] = []
    for length in range(longest + 1):
        p = chances[:, None] * np.asarray(jax.nn.softmax(logits), np.float64)  # [beam, V]
        if length == 0:
            words += [(p[0, token], (token,)) for token in np.flatnonzero(~is_letter & ~is_blank)]
        else:
            words += zip(p[: len(beginnings), ~is_letter].sum(1), beginnings, strict=True)
        words = sorted(words, key=lambda word: (-word[0], word[1]))[:count]
        candidates = np.where(is_letter, p, 0.0).ravel()
        best = np.argsort(-candidates, kind="stable")[:beam_size]
        chances, (rows, tokens) = candidates[best], np.divmod(best, len(is_letter))
        if len(words) == count and chances[0] <= words[-1][0]:
            break  # no longer word can be likelier than its beginning
        real = chances > 0
        beginnings = [(*beginnings[row], int(token)) for row, token in zip(rows[real], tokens[real], strict=True)]
        carry = jax.tree.map(lambda x, rows=rows: x[rows], carry)
        carry, logits = step(carry, jnp.asarray(tokens, jnp.int32))
    return [(float(chance), tuple(map(int, tokens))) for chance, tokens in words if chance > 0]
