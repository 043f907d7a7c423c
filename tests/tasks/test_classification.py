"""Classification against NumPy and the slide's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnrnn.errors import ConfigError
from cnnrnn.metrics import compute
from cnnrnn.models.convnet import ConvNet
from cnnrnn.tasks.classification import Classification

TASK = Classification(ConvNet(num_classes=4, features=(2, 2, 2)), mean=(0.5,), std=(0.25,))


def batch_of(count, mask=None):
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (count, 8, 8, 1)).astype(np.uint8),
        "label": rng.integers(0, 4, count).astype(np.int32),
        "mask": np.ones(count, np.float32) if mask is None else np.asarray(mask, np.float32),
    }


def test_the_slide_82_percent_cat():
    logits = jnp.array([[4.4067, 2.7081, 0.6931, 0.0]])  # relative to mug
    np.testing.assert_allclose(jax.nn.softmax(logits)[0], [0.82, 0.15, 0.02, 0.01], atol=1e-4)
    values = compute(TASK.metrics(logits, {"label": jnp.array([0]), "mask": jnp.ones(1)}))
    assert values == {"loss": pytest.approx(0.1985, abs=1e-4), "accuracy": 1.0}


def test_pixels_are_standardised():
    (x,) = TASK.inputs({"image": np.array([[[[0], [255]]]], np.uint8)})
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x.ravel(), [-2, 2])


@pytest.mark.parametrize("mean", [(), (0.1, 0.2)])
def test_a_mean_for_other_channels_is_refused(mean):
    with pytest.raises(ConfigError, match="pictures of 1 channels"):
        Classification(TASK.model, mean=mean).inputs(batch_of(2))


def test_metrics_equal_numpy_and_leave_out_padding():
    batch = batch_of(6, mask=[1, 1, 1, 1, 0, 0])
    logits = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    real = slice(0, 4)
    values = compute(TASK.metrics(jnp.asarray(logits), batch))
    assert values["loss"] == pytest.approx(-log_probabilities[range(4), batch["label"][real]].mean(), rel=1e-5)
    assert values["accuracy"] == (logits[real].argmax(1) == batch["label"][real]).mean()


def test_decode_gives_probabilities_without_labels():
    batch = batch_of(3)
    variables = TASK.model.init(jax.random.key(0), *TASK.inputs(batch))
    del batch["label"]
    probabilities = TASK.decode(variables, batch)
    assert probabilities.shape == (3, 4)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


def test_pictures_move_in_training_only_and_by_the_key():
    task = Classification(TASK.model, max_shift=2)
    batch = batch_of(3)
    variables = task.model.init(jax.random.key(0), *task.inputs(batch))

    def outputs(train, seed):
        return np.asarray(task.forward(variables, (), batch, train=train, key=jax.random.key(seed))[0])

    np.testing.assert_array_equal(outputs(False, 0), outputs(False, 1))
    np.testing.assert_array_equal(outputs(True, 0), outputs(True, 0))
    assert (outputs(True, 0) != outputs(True, 1)).any() and (outputs(True, 0) != outputs(False, 0)).any()
