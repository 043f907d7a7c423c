"""Language models have the published numbers of parameters, and no way to see what comes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.layers.cells import CELLS
from cnnrnn.models.recurrent_lm import RecurrentLM
from cnnrnn.training.model_table import model_rows

TOKENS = jax.ShapeDtypeStruct((1, 35), jnp.int32)
AWD = dict(hidden_size=1150, num_layers=3, embed_size=400, tied=True)


def parameters(**settings):
    return sum(row.parameters for row in model_rows(RecurrentLM(vocab_size=10_000, **settings), (TOKENS,)))


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        (dict(hidden_size=200, num_layers=2), 4_651_600),  # Zaremba et al. 2014, small
        (dict(hidden_size=650, num_layers=2), 19_775_200),  # medium
        (dict(hidden_size=1500, num_layers=2), 66_022_000),  # large
        (dict(hidden_size=200, num_layers=2, tied=True), 2_651_600),  # Press, Wolf 2017: 2.65 M
        (AWD, 24_221_600 - 10_800),  # Merity et al. 2017, less the second bias that cuDNN's cells have
    ],
)
def test_parameters_as_published(settings, published):
    assert parameters(**settings) == published


def test_awd_lstm_by_its_parts():
    cells = sum(4 * size * (below + size) + 4 * size for below, size in ((400, 1150), (1150, 1150), (1150, 400)))
    assert parameters(**AWD) == 10_000 * 400 + 10_000 + cells


def test_the_slides_net_is_three_matrices():
    """S_t = f(U x_t + W S_{t-1}), O_t = g(V S_t), with the embedding in the place of U's one-hot input."""
    model = RecurrentLM(vocab_size=11, cell="vanilla", hidden_size=7, embed_size=5, num_layers=1, use_bias=False)
    params = model.init(jax.random.key(0), jnp.zeros((1, 3), jnp.int32))["params"]
    shapes = sorted(tuple(leaf.shape) for leaf in jax.tree.leaves(params))
    assert shapes == [(5, 7), (7, 7), (7, 11), (11, 5)]


@pytest.mark.parametrize("cell", CELLS)
def test_past_logits_do_not_depend_on_future_tokens(cell):
    """The gradient of logits up to t with respect to the embeddings of tokens behind t is exactly zero."""
    model = RecurrentLM(vocab_size=9, cell=cell, hidden_size=6, num_layers=2)
    tokens = jnp.array([[0, 1, 2, 3, 4, 5, 6, 7]])  # each once, so a row of the embedding is a place
    params = model.init(jax.random.key(0), tokens)["params"]

    def past(embedding):
        changed = params | {"embedding": {"embedding": embedding}}
        return jnp.sum(jnp.sin(model.apply({"params": changed}, tokens)[0][:, :4]))

    gradient = jax.grad(past)(params["embedding"]["embedding"])
    assert not np.asarray(gradient[4:]).any() and np.abs(gradient[:4]).max(1).min() > 0


@pytest.mark.parametrize("cell", CELLS)
def test_two_windows_with_the_state_carried_are_one(cell):
    model = RecurrentLM(vocab_size=9, cell=cell, hidden_size=6, num_layers=2, tied=True, embed_size=4)
    tokens = jax.random.randint(jax.random.key(1), (3, 12), 0, 9)
    variables = model.init(jax.random.key(0), tokens)
    whole, end = model.apply(variables, tokens)
    first, carry = model.apply(variables, tokens[:, :5], model.init_carry(3))
    second, carry = model.apply(variables, tokens[:, 5:], carry)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
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
        "weight_drop_rate",
    ],
)
def test_every_dropout_falls_in_training_alone(field):
    model = RecurrentLM(vocab_size=9, hidden_size=8, **{field: 0.5})
    tokens = jnp.arange(8)[None]
    variables = model.init(jax.random.key(0), tokens)
    plain = RecurrentLM(vocab_size=9, hidden_size=8).apply(variables, tokens)[0]
    np.testing.assert_array_equal(model.apply(variables, tokens)[0], plain)
    dropped = [model.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(k)})[0] for k in (0, 1)]
    assert np.abs(dropped[0] - plain).max() > 1e-3 and np.abs(dropped[0] - dropped[1]).max() > 1e-3


def test_embedding_dropout_drops_whole_words():
    """A word that is dropped is dropped wherever it stands: the logits behind equal pasts stay equal."""
    model = RecurrentLM(vocab_size=9, hidden_size=8, num_layers=1, embedding_dropout_rate=0.5, init_scale=0.5)
    tokens = jnp.array([[3], [3], [5], [3]])
    variables = model.init(jax.random.key(0), tokens)
    logits, _ = model.apply(variables, tokens, train=True, rngs={"dropout": jax.random.key(0)})
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[3])
