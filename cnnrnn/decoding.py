"""From logits to text: pure functions around a step (carry, token) -> (carry, logits)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Step = Callable[[Any, jax.Array], tuple[Any, jax.Array]]


def sample(key: jax.Array, logits: jax.Array, temperature: float = 1.0, top_k: int | None = None) -> jax.Array:
    """Samples tokens from logits [..., V].

    Args:
      key: of the samples.
      logits: of any float type.
      temperature: divides the logits. Below 1 the likely becomes likelier; 0 takes the likeliest.
      top_k: samples from the k likeliest alone; None from all.

    Returns:
      int32 [...].

    >>> sample(jax.random.key(0), jnp.array([[0.0, 3.0, 1.0]]), temperature=0)
    Array([1], dtype=int32)
    """
    if top_k is not None and top_k < logits.shape[-1]:
        values, indices = lax.top_k(logits, top_k)
        logits = jnp.put_along_axis(jnp.full_like(logits, -jnp.inf), indices, values, axis=-1, inplace=False)
    if temperature == 0:
        return jnp.argmax(logits, -1).astype(jnp.int32)
    shifted = logits - jnp.max(logits, -1, keepdims=True)  # at most 0: no temperature makes one infinite
    return jax.random.categorical(key, shifted / temperature).astype(jnp.int32)


def generate(
    step: Step,
    carry: Any,
    logits: jax.Array,
    key: jax.Array,
    length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
) -> jax.Array:
    """Continues a text by sampling each token from the model's logits after the tokens before it.

    Args:
      step: (carry, token [B]) -> (carry, logits [B, V]).
      carry, logits: after the last given token.
      key: of the samples.
      length: the number of tokens.
      temperature, top_k: see `sample`.

    Returns:
      int32 [B, length].
    """

    def sample_and_step(state, key):
        carry, logits = state
        token = sample(key, logits, temperature, top_k)
        return step(carry, token), token

    _, tokens = lax.scan(sample_and_step, (carry, logits), jax.random.split(key, length))
    return tokens.swapaxes(0, 1)


def most_likely_words(
    step: Step,
    carry: Any,
    logits: jax.Array,
    is_letter: np.ndarray,
    is_blank: np.ndarray,
    count: int,
    beam_size: int = 32,
    max_length: int = 24,
) -> list[tuple[float, tuple[int, ...]]]:
    """The likeliest next words of a model of characters, after a blank, by beam search.

    A word is a run of letters up to the first token that is no letter, or one token that is neither letter nor blank.
    Its probability is that of its letters and of the end of the word after them. A blank begins no word.

    Args:
      step: as in `generate`; it is compiled here.
      carry, logits: after the blank, of a batch of 1.
      is_letter, is_blank: [V] bool.
      count: the number of words.
      beam_size: the number of prefixes that are followed. A word is missed if its prefix is unlikely and its end is
        certain.
      max_length: of a word, in letters.

    Returns:
      (probability, tokens) of each word, the likeliest first.
    """
    step = jax.jit(step)
    prefixes, prefix_probs = [()], np.zeros(beam_size)
    prefix_probs[0] = 1.0
    carry, logits = jax.tree.map(lambda x: jnp.repeat(x, beam_size, axis=0), (carry, logits))
    words: list[tuple[float, tuple[int, ...]]] = []
    for length in range(max_length + 1):
        probs = prefix_probs[:, None] * np.asarray(jax.nn.softmax(logits), np.float64)  # [beam, V]
        if length == 0:
            words += [(probs[0, token], (token,)) for token in np.flatnonzero(~is_letter & ~is_blank)]
        else:
            words += zip(probs[: len(prefixes), ~is_letter].sum(1), prefixes, strict=True)
        words = sorted(words, key=lambda word: (-word[0], word[1]))[:count]
        candidates = np.where(is_letter, probs, 0.0).ravel()
        best = np.argsort(-candidates, kind="stable")[:beam_size]
        prefix_probs, (rows, tokens) = candidates[best], np.divmod(best, len(is_letter))
        if len(words) == count and prefix_probs[0] <= words[-1][0]:
            break  # no longer word is likelier than its prefix
        live = prefix_probs > 0
        prefixes = [(*prefixes[row], int(token)) for row, token in zip(rows[live], tokens[live], strict=True)]
        carry = jax.tree.map(lambda x, rows=rows: x[rows], carry)
        carry, logits = step(carry, jnp.asarray(tokens, jnp.int32))
    return [(float(prob), tuple(map(int, tokens))) for prob, tokens in words if prob > 0]
