"""Beam search: the likeliest sequences of a model that predicts token after token, in one compiled loop.

Shapes: B examples, K hypotheses that are followed at once, N that are returned, L tokens at most, V in the vocabulary.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

Step = Callable[[jax.Array, Any], tuple[jax.Array, Any, jax.Array]]


class Hypotheses(NamedTuple):
    """The results of a search, the best first.

    Attributes:
      tokens: [B, N, L] int32; after the last token, which usually is the end symbol, there are end symbols.
      lengths: [B, N] int32, the number of tokens, the end symbol included; 0 where there are fewer than N sequences.
      log_probs: [B, N] float32, of the sequence; -inf where there is none.
      scores: [B, N] float32, log_probs / penalty(length), see `beam_search`.
      weights: [B, N, L, S], those of the attention at each token, 0 after the last.
    """

    tokens: jax.Array
    lengths: jax.Array
    log_probs: jax.Array
    scores: jax.Array
    weights: jax.Array


class _Search(NamedTuple):
    """The state of the loop. `parents`, `tokens` and `weights` [L, B, K, ...] have a row for each step."""

    step: jax.Array
    model: Any
    last: jax.Array  # [B, K] the last token of each hypothesis that is followed
    log_probs: jax.Array  # [B, K], -inf where none is followed
    parents: jax.Array
    tokens: jax.Array
    weights: jax.Array
    num_done: jax.Array  # [B]
    done_log_probs: jax.Array  # [B, K], of the sequences that have ended
    done_scores: jax.Array
    done_steps: jax.Array  # at which step, and
    done_slots: jax.Array  # in which slot of that step


def beam_search(
    step: Step,
    state: Any,
    *,
    start: int,
    end: int,
    beam_size: int,
    max_length: int,
    num_best: int = 1,
    length_penalty: float = 0.0,
) -> Hypotheses:
    """The best sequences of at most `max_length` tokens that end with the end symbol, or are cut at that length.

    The K likeliest continuations are followed. A sequence that has ended keeps its slot, so that the beam shrinks by
    one. With a beam of 1 the search is greedy. It stops as soon as no hypothesis can come among the `num_best` any
    more: its log-probability can only fall, and the penalty is at most that of the largest length.

    Args:
      step: (tokens [B, K], state) -> the logits [B, K, V], the next state, the weights of the attention [B, K, S].
      state: before the first step, arrays [B, 1, ...].
      start: the token before the first.
      end: the token that ends a sequence.
      beam_size: K.
      max_length: L.
      num_best: N, at most K.
      length_penalty: a in the penalty ((5 + length) / 6) ** a by which a log-probability is divided; at least 0.
        Source: Wu et al. 2016, equation 14.
    """
    if not 1 <= num_best <= beam_size:
        raise ValueError(f"num_best is {num_best} - it takes 1 to beam_size, {beam_size}")

    def penalty(length):
        return ((5.0 + length) / 6.0) ** length_penalty

    def can_improve(search):  # [B], whether a hypothesis may still come among the best
        best_possible = search.log_probs.max(-1) / penalty(max_length)
        worst = lax.top_k(search.done_scores, num_best)[0][:, -1]
        return best_possible > worst

    def advance(search):
        logits, model, weights = step(search.last, search.model)
        followed = jnp.where(can_improve(search)[:, None], search.log_probs, -jnp.inf)
        totals = followed[..., None] + jax.nn.log_softmax(logits)  # [B, K, V]
        log_probs, indices = lax.top_k(totals.reshape(len(totals), -1), beam_size)
        has_place = jnp.arange(beam_size) < beam_size - search.num_done[:, None]
        log_probs = jnp.where(has_place, log_probs, -jnp.inf)
        parents, tokens = jnp.divmod(indices, logits.shape[-1])
        select = lambda array: jax.vmap(lambda rows, row: rows[row])(array, parents)  # noqa: E731
        search = search._replace(
            model=jax.tree.map(select, model),
            last=tokens,
            parents=search.parents.at[search.step].set(parents),
            tokens=search.tokens.at[search.step].set(tokens),
            weights=search.weights.at[search.step].set(select(weights)),
        )
        has_ended = (tokens == end) | (search.step + 1 == max_length)
        search = _keep(search, log_probs, has_ended & (log_probs > -jnp.inf), penalty)
        return search._replace(step=search.step + 1, log_probs=jnp.where(has_ended, -jnp.inf, log_probs))

    search = _begin(step, state, start, beam_size, max_length)
    search = lax.while_loop(lambda s: (s.step < max_length) & can_improve(s).any(), advance, search)
    return _trace(search, end, num_best)


def _begin(step: Step, state: Any, start: int, beam_size: int, max_length: int) -> _Search:
    batch_size = len(jax.tree.leaves(state)[0])
    model = jax.tree.map(lambda rows: jnp.repeat(rows, beam_size, axis=1), state)
    last = jnp.full((batch_size, beam_size), start, jnp.int32)
    weights = jax.eval_shape(step, last, model)[2]
    steps = jnp.zeros((max_length, batch_size, beam_size), jnp.int32)
    none, zeros = jnp.full((batch_size, beam_size), -jnp.inf), jnp.zeros((batch_size, beam_size), jnp.int32)
    return _Search(
        step=jnp.zeros((), jnp.int32),
        model=model,
        last=last,
        log_probs=none.at[:, 0].set(0.0),  # the K copies are one hypothesis
        parents=steps,
        tokens=steps,
        weights=jnp.zeros((max_length, *weights.shape), weights.dtype),
        num_done=jnp.zeros(batch_size, jnp.int32),
        done_log_probs=none,
        done_scores=none,
        done_steps=zeros,
        done_slots=zeros,
    )


def _keep(search: _Search, log_probs: jax.Array, has_ended: jax.Array, penalty: Callable) -> _Search:
    """Adds the hypotheses that have ended at this step to those that are done."""
    batch_size, beam_size = log_probs.shape
    place = search.num_done[:, None] + jnp.cumsum(has_ended, -1) - 1
    place = jnp.where(has_ended, place, beam_size)  # there is none: not written
    rows = jnp.arange(batch_size)[:, None]

    def write(array, values):
        return array.at[rows, place].set(jnp.broadcast_to(values, place.shape), mode="drop")

    return search._replace(
        num_done=search.num_done + has_ended.sum(-1),
        done_log_probs=write(search.done_log_probs, log_probs),
        done_scores=write(search.done_scores, log_probs / penalty(search.step + 1)),
        done_steps=write(search.done_steps, search.step),
        done_slots=write(search.done_slots, jnp.arange(beam_size)),
    )


def _trace(search: _Search, end: int, num_best: int) -> Hypotheses:
    """Follows the parents of the best hypotheses from their last token to their first."""
    scores, best = lax.top_k(search.done_scores, num_best)
    pick = lambda array: jnp.take_along_axis(array, best, -1)  # noqa: E731
    exists = scores > -jnp.inf
    last_steps = jnp.where(exists, pick(search.done_steps), -1)

    def back(slots, row):
        step, parents, tokens, weights = row
        is_within = step <= last_steps  # [B, N]
        token = jnp.where(is_within, jnp.take_along_axis(tokens, slots, -1), end)
        weight = jax.vmap(lambda rows, row: rows[row])(weights, slots) * is_within[..., None]
        return jnp.where(is_within, jnp.take_along_axis(parents, slots, -1), slots), (token, weight)

    rows = jnp.arange(len(search.parents)), search.parents, search.tokens, search.weights
    _, (tokens, weights) = lax.scan(back, pick(search.done_slots), rows, reverse=True)
    log_probs = jnp.where(exists, pick(search.done_log_probs), -jnp.inf)
    return Hypotheses(jnp.moveaxis(tokens, 0, -1), last_steps + 1, log_probs, scores, jnp.moveaxis(weights, 0, 2))
