"""Language models have the published numbers of parameters, and cannot see the tokens that they predict."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.analysis.summary import summarize
from cnnrnn.layers.rnn.cells import CELLS
from cnnrnn.models.recurrent_lm import RecurrentLM

TOKENS = jax.ShapeDtypeStruct((1, 35), jnp.int32)
AWD = dict(hidden_size=1150, num_layers=3, embed_size=400, tie_embeddings=True)


def parameters(**settings):
    return sum(row.parameters for row in summarize(RecurrentLM(vocab_size=10_000, **settings), (TOKENS,)))


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        (dict(hidden_size=200, num_layers=2), 4_651_600),  # Zaremba et al. 2014, small
        (dict(hidden_size=650, num_layers=2), 19_775_200),  # medium
        (dict(hidden_size=1500, num_layers=2), 66_022_000),  # large
        (dict(hidden_size=200, num_layers=2, tie_embeddings=True), 2_651_600),  # Press, Wolf 2017: 2.65 M
        (AWD, 24_221_600 - 10_800),  # Merity et al. 2017, less the second bias that cuDNN's cells have
    ],
)
def test_parameters_as_published(settings, published):
    assert parameters(**settings) == published


def test_awd_lstm_by_its_parts():
    cells = sum(4 * size * (below + size) + 4 * size for below, size in ((400, 1150), (1150, 1150), (1150, 400)))
    assert parameters(**AWD) == 10_000 * 400 + 10_000 + cells


def test_the_slides_net_is_three_matrices():
    """S_t = f(U x_t + W S_{t-1}), O_t = g(V S_t), with an embedding of the one-hot input."""
    model = RecurrentLM(vocab_size=11, cell="vanilla", hidden_size=7, embed_size=5, num_layers=1, use_bias=False)
    params = model.init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))["params"]
    shapes = sorted(tuple(leaf.shape) for leaf in jax.tree.leaves(params))
    assert shapes == [(5, 7), (7, 7), (7, 11), (11, 5)]


@pytest.mark.parametrize("cell", CELLS)
def test_past_logits_do_not_depend_on_future_tokens(cell):
    """The gradient of logits up to t with respect to the embeddings of tokens after t is exactly zero."""
    model = RecurrentLM(vocab_size=9, cell=cell, hidden_size=6, num_layers=2)
    tokens = jnp.array([[0, 1, 2, 3, 4, 5, 6, 7]])  # each once, so a row of the embedding is a step
    params = model.init(jax.random.key(0), tokens)["params"]

    def past(embedding):
        changed = params | {"embedding": {"embedding": embedding}}
        return jnp.sum(jnp.sin(model.apply({"params": changed}, tokens)[0][:, :4]))

    gradient = jax.grad(past)(params["embedding"]["embedding"])
    assert not np.asarray(gradient[4:]).any() and np.abs(gradient[:4]).max(1).min() > 0


@pytest.mark.parametrize("cell", CELLS)
def test_two_windows_with_the_carry_are_one(cell):
    model = RecurrentLM(vocab_size=9, cell=cell, hidden_size=6, num_layers=2, tie_embeddings=True, embed_size=4)
    tokens = jax.random.randint(jax.random.key(1), (3, 12), 0, 9)
    variables = model.init(jax.random.key(0), tokens)
    apply = jax.jit(model.apply)
    logits, end = apply(variables, tokens)
    first, carry = apply(variables, tokens[:, :5], model.init_carry(3))
    second, carry = apply(variables, tokens[:, 5:], carry)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), logits, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), carry, end)


def test_all_begins_within_init_scale():
    model = RecurrentLM(vocab_size=50, hidden_size=20, init_scale=0.05, forget_bias=0.0)
    leaves = jax.tree.leaves(model.init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32)))
    assert all(0.04 < jnp.abs(leaf).max() <= 0.05 for leaf in leaves)


@pytest.mark.parametrize(
    "field",
    [
        "embedding_dropout_rate",
        "input_dropout_rate",
        "layer_dropout_rate",
        "output_dropout_rate",
        "recurrent_dropout_rate",
        "weight_dropout_rate",
    ],
)
def test_every_dropout_is_for_training_alone(field):
    model = RecurrentLM(vocab_size=9, hidden_size=8, **{field: 0.5})
    tokens = jnp.arange(8)[None]
    variables = model.init(jax.random.key(0), tokens)
    plain = RecurrentLM(vocab_size=9, hidden_size=8).apply(variables, tokens)[0]
    np.testing.assert_array_equal(model.apply(variables, tokens)[0], plain)
    dropped = [model.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(k)})[0] for k in (0, 1)]
    assert np.abs(dropped[0] - plain).max() > 1e-3 and np.abs(dropped[0] - dropped[1]).max() > 1e-3


def test_embedding_dropout_drops_words():
    """A word is dropped at every position or at none: the logits after equal pasts are equal."""
    model = RecurrentLM(vocab_size=9, hidden_size=8, num_layers=1, embedding_dropout_rate=0.5, init_scale=0.5)
    tokens = jnp.array([[3], [3], [5], [3]])
    variables = model.init(jax.random.key(0), tokens)
    logits, _ = model.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[3])


@pytest.mark.parametrize("cell", ["vanilla", "gru"])
def test_initial_recurrent_kernels(cell):
    """Each gate of each layer begins as an orthogonal matrix or as the identity; nothing else changes."""
    make = lambda init: RecurrentLM(9, cell, hidden_size=6, embed_size=5, recurrent_init=init).init(  # noqa: E731
        jax.random.key(0), jnp.zeros((1, 2), jnp.int32)
    )["params"]
    plain, orthogonal, identity = (make(init) for init in ("uniform", "orthogonal", "identity"))
    for name in ("layer1", "layer2"):
        for params in (plain, orthogonal, identity):
            kernel = np.asarray(params["layers"][name].pop("recurrent_kernel"))
            gates = np.stack(np.split(kernel, kernel.shape[1] // 6, axis=1))
            is_identity = np.allclose(gates, np.eye(6))
            is_orthogonal = np.allclose(np.swapaxes(gates, 1, 2) @ gates, np.eye(6), atol=1e-5)
            assert (is_orthogonal, is_identity) == (params is not plain, params is identity)
    for params in (orthogonal, identity):
        jax.tree.map(np.testing.assert_array_equal, params, plain)


@pytest.mark.parametrize("cell", CELLS)
def test_one_token_at_a_time(cell):
    """One token at a time, with the carry, gives the logits of the window: what sampling does."""
    model = RecurrentLM(vocab_size=9, cell=cell, hidden_size=6, num_layers=2)
    tokens = jax.random.randint(jax.random.key(1), (3, 5), 0, 9)
    variables = model.init(jax.random.key(0), tokens)
    expected, _ = model.apply(variables, tokens)
    step, carry = jax.jit(model.apply), model.init_carry(3)
    for t in range(5):
        logits, carry = step(variables, tokens[:, t : t + 1], carry)
        np.testing.assert_allclose(logits[:, 0], expected[:, t], atol=1e-6)
