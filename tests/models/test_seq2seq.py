"""The decoder step by step equals teacher forcing; padding and the batch change nothing; bad choices are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.models.seq2seq import Seq2Seq

V = 9
CHOICES = {
    "plain": dict(attention="none", encoder="reversed"),
    "two layers, dot": dict(attention="dot", encoder="forward", num_layers=2),
    "general": dict(attention="general"),
    "general, fed": dict(attention="general", input_feeding=True, cell="gru", num_layers=2),
    "additive": dict(attention="additive", cell="gru"),
    "tied": dict(attention="general", tie_embeddings="all", embed_size=5),
    "tied target, no attention": dict(attention="none", tie_embeddings="target", embed_size=5),
}


def make(name, **changes):
    model = Seq2Seq(V, V, hidden_size=6, **{"embed_size": 4} | CHOICES[name] | changes)
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, V, (3, 5)), rng.integers(0, V, (3, 4))
    lengths = np.array([5, 2, 3]), np.array([4, 4, 1])
    inputs = (source, lengths[0], target, lengths[1])
    return model, model.init(jax.random.key(0), *inputs), inputs


@pytest.mark.parametrize("name", CHOICES)
def test_steps_equal_teacher_forcing(name):
    model, variables, (source, source_lengths, target, target_lengths) = make(name)
    expected = model.apply(variables, source, source_lengths, target, target_lengths)
    memory, state = model.apply(variables, source, source_lengths, method="encode")
    for t in range(target.shape[1]):
        logits, state, weights = model.apply(variables, target[:, t : t + 1], state, memory, method="step")
        real = t < target_lengths  # after the end of a target the parallel decoder has no state
        np.testing.assert_allclose(logits[real, 0], expected[real, t], atol=1e-5)
        has_attention = model.attention != "none"
        np.testing.assert_allclose(weights[:, 0].sum(-1), np.full(3, float(has_attention)), atol=1e-5)
        assert (weights[1, 0, 2:] == 0).all()


@pytest.mark.parametrize("name", CHOICES)
def test_padding_and_the_batch_change_nothing(name):
    """In values and gradients: one example alone, and all with other padding."""
    model, variables, (source, source_lengths, target, target_lengths) = make(name)

    def loss(variables, source, source_lengths, target, target_lengths):
        logits = model.apply(variables, source, source_lengths, target, target_lengths)
        real = jnp.arange(target.shape[1]) < target_lengths[:, None]
        return jnp.sum(jnp.where(real[..., None], jnp.sin(logits), 0))

    whole = jax.value_and_grad(loss)(variables, source, source_lengths, target, target_lengths)
    padded = [np.pad(ids, ((0, 0), (0, 3)), constant_values=7) for ids in (source, target)]
    longer = jax.value_and_grad(loss)(variables, padded[0], source_lengths, padded[1], target_lengths)
    parts = [
        jax.value_and_grad(loss)(
            variables, *(rows[n : n + 1] for rows in (source, source_lengths, target, target_lengths))
        )
        for n in range(3)
    ]
    alone = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    for other in (longer, alone):
        for one, expected in zip(jax.tree.leaves(other), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(one, expected, atol=2e-5)


def test_dropout_is_applied_in_training_alone():
    for name in ("general", "general, fed"):
        model, variables, inputs = make(name, input_dropout_rate=0.5, output_dropout_rate=0.5, layer_dropout_rate=0.5)
        run = lambda seed: model.apply(variables, *inputs, train=True, rngs={"dropout": jax.random.key(seed)})  # noqa: E731, B023
        assert not np.allclose(run(0), run(1)) and np.array_equal(run(0), run(0))
        np.testing.assert_array_equal(model.apply(variables, *inputs), model.apply(variables, *inputs))


def test_tied_embeddings_are_one_array():
    names = {"none": {"source_embedding", "target_embedding", "softmax"}, "target": {"source_embedding"}, "all": set()}
    for tie, expected in names.items():
        params = make("general", tie_embeddings=tie)[1]["params"]
        assert {"source_embedding", "softmax"} & params.keys() == expected - {"target_embedding"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(tie_embeddings="all", source_vocab_size=8), "tie_embeddings is 'all', but the source has 8 tokens"),
        (dict(attention="dot"), "attention is 'dot', .* encoder is 'bidirectional'"),
        (
            dict(attention="none", input_feeding=True),
            "input_feeding is for 'dot' and 'general', and attention is 'none'",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, words):
    model = Seq2Seq(**dict(source_vocab_size=V, target_vocab_size=V, hidden_size=6) | changes)
    with pytest.raises(ValueError, match=words):
        model.init(jax.random.key(0), np.ones((1, 2), int), np.array([2]), np.ones((1, 2), int), np.array([2]))
