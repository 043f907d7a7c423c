"""Attention: for each query a weighted mean of the states of a source sequence. Weights of padding are 0.

Shapes: B batch, T queries, S source steps, M numbers of a source state, H numbers of a query, A of a key.
"""

from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.layers.precision import Precision, dot_general
from cnnrnn.layers.rnn.initializers import uniform

Score = Literal["dot", "general", "additive"]


class Memory(NamedTuple):
    """What is attended to, computed once for a source sequence.

    Attributes:
      values: [B, S, M].
      keys: [B, S, A], what a query is compared with.
      mask: [B, S] bool, false in padding.
    """

    values: jax.Array
    keys: jax.Array
    mask: jax.Array


class Attention(nn.Module):
    """Compares queries with keys, and averages the values.

    The score of a query q and a source state m is

      dot       q . m, which takes H = M                    Luong, Pham, Manning 2015, equation 8
      general   q . (W m)                                   the same equation
      additive  v . tanh(W q + U m)                         Bahdanau, Cho, Bengio 2015, appendix A.1.2

    >>> attention = Attention("general", size=4)
    >>> queries, states, mask = jnp.ones((1, 2, 4)), jnp.ones((1, 3, 6)), jnp.array([[True, True, False]])
    >>> attend = lambda attention, states: attention(queries, attention.make_memory(states, mask))
    >>> (contexts, weights), _ = attention.init_with_output(jax.random.key(0), states, method=attend)
    >>> contexts.shape, weights[0, 0].tolist()
    ((1, 2, 6), [0.5, 0.5, 0.0])

    Attributes:
      score: how a query and a source state are compared, see the equations.
      size: A; H for "general". "dot" has none.
      precision: of the products, see cnnrnn/layers/precision.py.
    """

    score: Score
    size: int
    precision: Precision = "float32"

    def setup(self):
        dense = lambda name: nn.Dense(self.size, use_bias=False, dot_general=dot_general(self.precision), name=name)  # noqa: E731
        if self.score != "dot":
            self.key_layer = dense("key")
        if self.score == "additive":
            self.query_layer = dense("query")
            self.vector = self.param("vector", uniform(self.size**-0.5), (self.size,))

    def make_memory(self, states: jax.Array, mask: jax.Array) -> Memory:
        """The memory of source states [B, S, M]. The mask [B, S] is false in padding, which may hold anything."""
        values = jnp.where(mask[..., None], states, 0)  # 0 times NaN would be NaN
        return Memory(values, values if self.score == "dot" else self.key_layer(values), mask)

    def __call__(self, queries: jax.Array, memory: Memory) -> tuple[jax.Array, jax.Array]:
        """[B, T, H] -> the contexts [B, T, M] and the weights [B, T, S]."""
        if self.score == "additive":
            joint = jnp.tanh(self.query_layer(queries)[:, :, None] + memory.keys[:, None])  # [B, T, S, A]
            scores = joint @ self.vector
        else:
            scores = jnp.einsum("bth,bsh->bts", queries, memory.keys)
        weights = masked_softmax(scores, memory.mask[:, None])
        return jnp.einsum("bts,bsm->btm", weights, memory.values), weights


def masked_softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """The softmax along the last axis over the elements where the mask is true; 0 elsewhere, and if it is nowhere true.

    >>> masked_softmax(jnp.array([[0.0, jnp.nan], [1.0, 2.0]]), jnp.array([[True, False], [False, False]])).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    scores = jnp.where(mask, scores, -jnp.inf)
    largest = jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True))
    powers = jnp.where(mask, jnp.exp(jnp.where(mask, scores - jnp.where(mask, largest, 0), 0)), 0)
    return powers / jnp.maximum(jnp.sum(powers, -1, keepdims=True), jnp.finfo(powers.dtype).tiny)
