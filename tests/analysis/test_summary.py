"""The summary counts what is multiplied, whatever the model is written with."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnrnn.analysis.summary import count_flops, find_call, format_rows, summarize
from cnnrnn.models.recurrent_lm import RecurrentLM

TOKENS = jax.ShapeDtypeStruct((1, 5), jnp.int32)


class Block(nn.Module):
    """A layer within a layer."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(6, name="inner")(x))


class Nested(nn.Module):
    """A dense layer in a block, an LSTM over five steps, and a shared layer."""

    @nn.compact
    def __call__(self, x, train=False):
        x = Block(name="block")(x)
        x = nn.RNN(nn.LSTMCell(3), name="rnn")(x)
        shared = nn.Dense(3, name="shared")
        return shared(shared(x))


def test_counts_inside_scans_and_shared_layers():
    rows = {row.path: row for row in summarize(Nested(), (jax.ShapeDtypeStruct((1, 5, 4), jnp.float32),))}
    assert rows["block.inner"].flops == 2 * 5 * 4 * 6 and rows["block.inner"].parameters == 4 * 6 + 6
    assert rows["shared"].flops == 2 * 2 * 5 * 3 * 3 and rows["shared"].parameters == 12
    recurrent = [row for path, row in rows.items() if path.startswith("LSTMCell_0")]
    assert sum(row.flops for row in recurrent) == 2 * 5 * 4 * 3 * (6 + 3)


def test_a_layer_of_ours_counts_its_products_once():
    """Its gates are computed after the loop only if they are asked for."""
    table = summarize(RecurrentLM(10, hidden_size=3, num_layers=1), (TOKENS,), {"train": False})
    rows = {row.path: row for row in table}
    assert rows["layers.layer1"].flops == 2 * 5 * 4 * 3 * (3 + 3) and rows["softmax"].flops == 2 * 5 * 3 * 10


def test_text_has_a_line_a_layer_and_the_sums():
    rows = summarize(Nested(), (jax.ShapeDtypeStruct((1, 5, 4), jnp.float32),))
    lines = format_rows(rows).splitlines()
    assert len(lines) == len(rows) + 4 and lines[-1].split()[1] == "162"


class Tied(nn.Module):
    """An embedding that is also the last layer, a parameter and a product outside every layer."""

    @nn.compact
    def __call__(self, tokens, train=False):
        embedding = nn.Embed(10, 4, name="embedding")
        x = embedding(tokens) @ self.param("own", nn.initializers.ones, (4, 4))
        return embedding.attend(nn.Dense(4, name="dense")(x))


def test_what_belongs_to_no_layer_is_counted_too():
    rows = summarize(Tied(), (TOKENS,))
    variables = jax.eval_shape(lambda: Tied().init(jax.random.key(0), jnp.zeros((1, 5), jnp.int32)))
    assert sum(row.parameters for row in rows) == sum(leaf.size for leaf in jax.tree.leaves(variables)) == 76
    assert sum(row.flops for row in rows) == 2 * 5 * (4 * 4 + 4 * 4 + 4 * 10)


def test_only_what_the_outputs_depend_on_is_counted():
    jaxpr = jax.make_jaxpr(lambda x: (x @ x, x))(jnp.ones((3, 3))).jaxpr
    assert count_flops(jaxpr) == 2 * 27


def test_the_call_of_a_model_is_found():
    x = jnp.ones((2, 5, 4))
    (shape,), kwargs = find_call(Nested(), lambda: Nested().init(jax.random.key(0), 2 * x, train=True))
    assert shape.shape == (2, 5, 4) and kwargs == {"train": True}
