"""The net with batch normalisation: its size, and the statistics of training and of evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.analysis.summary import summarize
from cnnrnn.models.batchnorm_net import BatchNormNet

NET = BatchNormNet(num_classes=4, features=(3, 5), hidden_size=8)
IMAGES = jax.random.normal(jax.random.key(0), (6, 8, 10, 1)) * 3 + 2


def test_fewer_than_500_000_parameters():
    rows = summarize(BatchNormNet(num_classes=10), (jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32),))
    assert sum(row.parameters for row in rows) == 390_890


def test_training_normalises_by_the_batch_and_evaluation_by_running_means():
    variables = NET.init(jax.random.key(1), IMAGES)
    apply = jax.jit(
        lambda variables, images, key: NET.apply(
            variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"]
        )
    )
    logits = NET.apply(variables, IMAGES)
    np.testing.assert_allclose(logits[:2], NET.apply(variables, IMAGES[:2]), atol=1e-5)  # other images do not matter
    for number in range(60):
        _, state = apply(variables, IMAGES, jax.random.key(number))
        variables = variables | state
    running_mean = jnp.asarray(variables["batch_stats"]["norm1"]["mean"])
    _, seen = NET.apply(variables, IMAGES, capture_intermediates=True, mutable=["intermediates"])
    first = np.asarray(seen["intermediates"]["conv1"]["__call__"][0])
    np.testing.assert_allclose(running_mean, first.mean((0, 1, 2)), rtol=0.02, atol=1e-3)
    normalised = np.asarray(seen["intermediates"]["norm1"]["__call__"][0])
    np.testing.assert_allclose(normalised.mean((0, 1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(normalised.std((0, 1, 2)), 1, atol=0.05)


def test_images_too_small_to_be_halved_are_refused():
    with pytest.raises(ValueError, match="3 x 9 are halved 2 times"):
        NET.init(jax.random.key(0), jnp.zeros((1, 3, 9, 1)))


def test_dropout_is_for_training_only():
    variables = NET.init(jax.random.key(1), IMAGES)

    def outputs(train: bool, seed: int):
        rngs = {"dropout": jax.random.key(seed)}
        return np.asarray(NET.apply(variables, IMAGES, train=train, rngs=rngs, mutable=["batch_stats"])[0])

    np.testing.assert_array_equal(outputs(False, 0), outputs(False, 1))
    assert (outputs(True, 0) != outputs(True, 1)).any()
