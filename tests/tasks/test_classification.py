"""Classification against NumPy and the slide's numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def test_pixels_are_standardized():
    x = TASK.preprocess(np.array([[[[0], [255]]]], np.uint8))
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x.ravel(), [-2, 2])


@pytest.mark.parametrize("mean", [(), (0.1, 0.2)])
def test_a_mean_for_other_channels_is_refused(mean):
    with pytest.raises(ValueError, match="images of 1 channels"):
        Classification(TASK.model, mean=mean).init(jax.random.key(0), batch_of(2))


def test_metrics_equal_numpy_and_leave_out_padding():
    batch = batch_of(6, mask=[1, 1, 1, 1, 0, 0])
    logits = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    real = slice(0, 4)
    values = compute(TASK.metrics(jnp.asarray(logits), batch))
    assert values["loss"] == pytest.approx(-log_probabilities[range(4), batch["label"][real]].mean(), rel=1e-5)
    assert values["accuracy"] == (logits[real].argmax(1) == batch["label"][real]).mean()


def test_top5_is_reported_from_as_many_classes_as_it_says():
    logits, batch = jnp.zeros((1, 8)), {"label": jnp.array([0]), "mask": jnp.ones(1)}
    assert "top5_accuracy" not in TASK.metrics(logits, batch)
    assert "top5_accuracy" in Classification(TASK.model, top5_from=8).metrics(logits, batch)


def test_of_many_classes_the_five_likeliest_count_too():
    logits = np.random.default_rng(0).normal(size=(6, 120)).astype(np.float32)
    order = np.argsort(-logits, axis=1)
    labels = np.array([order[n, rank] for n, rank in enumerate((0, 1, 4, 5, 50, 0))], np.int32)
    values = compute(TASK.metrics(jnp.asarray(logits), {"label": labels, "mask": np.array([1, 1, 1, 1, 1, 0.0])}))
    assert (values["accuracy"], values["top5_accuracy"]) == pytest.approx((1 / 5, 3 / 5))


def test_a_net_that_is_sure_and_wrong_on_ten_crops_has_a_finite_loss():
    task, batch = Classification(Certain(), crop=4, ten_crops=True), batch_of(1) | {"label": np.array([2], np.int32)}
    values = compute(task.metrics(task.forward({"params": {}}, (), batch)[0], batch))
    assert values["loss"] == pytest.approx(1e4)


class Certain(nn.Module):
    """The first class, whatever it sees."""

    def __call__(self, x, train=False):
        return jnp.tile(jnp.array([1e4, 0, 0, 0]), (len(x), 1))


def test_decode_gives_probabilities_without_labels():
    batch = batch_of(3)
    variables = TASK.init(jax.random.key(0), batch)
    del batch["label"]
    probabilities = TASK.decode(variables, batch)
    assert probabilities.shape == (3, 4)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)


def test_rubbish_is_the_papers_criterion():
    """Equation 9 of LeCun et al. 1998, in float64."""
    penalties = np.random.default_rng(0).uniform(0, 4, (6, 4))
    task, batch = Classification(Distances(), rubbish=0.5), batch_of(6)
    outputs = task.forward({"params": {}}, (), batch | {"image": penalties.astype(np.float32)[:, None, None] * 127.5})[
        0
    ]
    right = penalties[range(6), batch["label"]]
    wanted = right + np.log(np.exp(-0.5) + np.exp(-penalties).sum(1))
    values = compute(task.metrics(outputs, batch))
    assert values["loss"] == pytest.approx(wanted.mean(), rel=1e-4)
    assert values["accuracy"] == (penalties.argmin(1) == batch["label"]).mean()
    probabilities = task.decode({"params": {}}, batch)
    assert probabilities.shape == (6, 4) and (probabilities.sum(1) < 1).all()


class Distances(nn.Module):
    """Takes its first row of pixels for penalties."""

    @nn.compact
    def __call__(self, x, train=False):
        return -(x[:, 0, 0] + 1) if x.shape[1] == 1 else -jnp.abs(x[:, 0, :4, 0])


def test_ten_crops_are_averaged_as_probabilities():
    one, ten = (Classification(TASK.model, crop=6, ten_crops=ten) for ten in (False, True))
    batch = batch_of(3)
    variables = one.init(jax.random.key(0), batch)
    corners = [(0, 0), (0, 2), (2, 0), (2, 2), (1, 1)]
    crops = [batch["image"][:, top : top + 6, left : left + 6] for top, left in corners]
    crops += [crop[:, :, ::-1] for crop in crops]
    wanted = np.mean([one.decode(variables, batch | {"image": crop}) for crop in crops], axis=0)
    np.testing.assert_allclose(ten.decode(variables, batch), wanted, rtol=1e-5)
    values = compute(ten.metrics(ten.forward(variables, (), batch)[0], batch))
    assert values["loss"] == pytest.approx(-np.log(wanted[range(3), batch["label"]]).mean(), rel=1e-5)


def test_without_ten_crops_the_middle_is_seen():
    batch = batch_of(2)
    seen = Classification(TASK.model, crop=4).preprocess(batch["image"])
    np.testing.assert_array_equal(seen, Classification(TASK.model).preprocess(batch["image"])[:, 2:6, 2:6])


@pytest.mark.parametrize(
    ("fields", "words"),
    [(dict(ten_crops=True), "ten_crops without crop"), (dict(crop=9), "crop is 9 for images of 8 x 8")],
)
def test_crops_that_cannot_be_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        Classification(TASK.model, **fields).init(jax.random.key(0), batch_of(1))


CHANGES = [
    dict(max_shift=2), dict(max_rotation=9.0), dict(max_scale=0.2), dict(max_skew=0.2), dict(flip=True),
    dict(crop=6), dict(color_jitter_std=0.1),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_augmentation_depends_on_the_key_and_evaluation_has_none(change):
    task = Classification(TASK.model, **change)
    batch = batch_of(3)
    variables = task.init(jax.random.key(0), batch)

    def outputs(seed):
        changed = batch if seed is None else task.augment(jax.random.key(seed), batch)
        return np.asarray(task.forward(variables, (), changed)[0])

    np.testing.assert_array_equal(outputs(None), outputs(None))
    np.testing.assert_array_equal(outputs(0), outputs(0))
    assert (outputs(0) != outputs(1)).any() and (outputs(0) != outputs(None)).any()
