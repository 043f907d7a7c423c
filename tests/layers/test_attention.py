"""Attention against loops in NumPy; padding has no weight and no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.layers.attention import Attention, masked_softmax

B, T, S, H = 2, 3, 5, 4
LENGTHS = np.array([5, 2])
MASK = np.arange(S) < LENGTHS[:, None]


def make(score, memory_size=H, seed=0):
    rng = np.random.default_rng(seed)
    layer = Attention(score, size=H if score != "additive" else 6)
    queries, states = rng.normal(size=(B, T, H)), rng.normal(size=(B, S, memory_size))
    queries, states = queries.astype(np.float32), states.astype(np.float32)
    variables = layer.init(jax.random.key(seed), queries, states, MASK, method=attend)
    return layer, variables, queries, states


def attend(layer, queries, states, mask):
    return layer(queries, layer.make_memory(states, mask))


def in_numpy(score, params, queries, states):
    contexts, weights = np.zeros((B, T, states.shape[-1])), np.zeros((B, T, S))
    for b in range(B):
        for t in range(T):
            scores = []
            for s in range(LENGTHS[b]):
                q, m = queries[b, t], states[b, s]
                if score == "additive":
                    joint = np.tanh(q @ params["query"]["kernel"] + m @ params["key"]["kernel"])
                    scores.append(float(joint @ params["vector"]))
                else:
                    scores.append(q @ (m @ params["key"]["kernel"] if score == "general" else m))
            powers = np.exp(scores - np.max(scores))
            weights[b, t, : LENGTHS[b]] = powers / powers.sum()
            contexts[b, t] = weights[b, t] @ states[b]
    return contexts, weights


@pytest.mark.parametrize(("score", "memory_size"), [("dot", H), ("general", 7), ("additive", 7)])
def test_it_equals_a_loop(score, memory_size):
    layer, variables, queries, states = make(score, memory_size)
    expected = in_numpy(score, jax.device_get(variables.get("params")), queries, states)
    got = layer.apply(variables, queries, states, MASK, method=attend)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("score", ["dot", "general", "additive"])
def test_padding_may_hold_anything(score):
    layer, variables, queries, states = make(score)
    filled = np.where(MASK[..., None], states, np.nan)

    def loss(variables, queries, states):
        return jnp.sum(jnp.sin(layer.apply(variables, queries, states, MASK, method=attend)[0]))

    gradients = [jax.grad(loss, argnums=(0, 1, 2))(variables, queries, s) for s in (states, filled)]
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (np.asarray(gradients[1][2])[~MASK] == 0).all()


def test_the_softmax_of_nothing_is_zero_and_has_no_gradient():
    scores, mask = jnp.array([1.0, jnp.inf, jnp.nan]), jnp.zeros(3, bool)
    np.testing.assert_array_equal(masked_softmax(scores, mask), np.zeros(3))
    np.testing.assert_array_equal(jax.grad(lambda s: masked_softmax(s, mask).sum())(scores), np.zeros(3))
    large = jnp.array([1e4, 1e4 - 1, 0.0])
    np.testing.assert_allclose(masked_softmax(large, jnp.ones(3, bool)), jax.nn.softmax(large), rtol=1e-6)
