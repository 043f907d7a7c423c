"""Classification: one label for each picture."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from cnnrnn.errors import ConfigError
from cnnrnn.layers import augmentation
from cnnrnn.metrics import Average
from cnnrnn.signatures import Count, Fraction, Natural, NonNegative, Positive
from cnnrnn.tasks.task import Batch, Task

MANY = 100  # classes, from which on a picture may well show several of them


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Softmax cross-entropy, in nats: batch {"image": [B, H, W, C] uint8, "label": [B] int32, "mask": [B]}.

    Attributes:
      mean, std: of the pixels, on the scale 0 to 1, one number or one a channel; the model sees (pixel / 255 - mean) /
        std.
      rubbish: the penalty j of a class for what is no class, which has no output: the loss is
        y_right + log(exp(-j) + sum over i of exp(-y_i)), where the model's outputs are -y (LeCun, Bottou, Bengio,
        Haffner 1998, equation 9, "MAP"); None for plain cross-entropy.
      max_shift: in training each picture is moved by up to so many pixels, down or up and right or left;
      max_rotation, max_scale, max_skew: turned, stretched and skewed by up to so much, see `random_affine`;
      flip: mirrored half of the times;
      crop: cut to a square window of so many pixels, anywhere; else the middle of the picture is taken;
      colour_std: changed in colour, see `random_colour`.
      ten_crops: without training, the mean of the probabilities for four corners, the middle, and their mirror images.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[Positive, ...] = (0.5,)
    rubbish: Positive | None = None
    max_shift: Natural = 0
    max_rotation: NonNegative = 0.0
    max_scale: Fraction = 0.0
    max_skew: NonNegative = 0.0
    flip: bool = False
    crop: Count | None = None
    colour_std: NonNegative = 0.0
    ten_crops: bool = False

    def __post_init__(self):
        if self.ten_crops and not self.crop:
            raise ConfigError("task.ten_crops without task.crop - say of how many pixels the crops are")

    def inputs(self, batch: Batch) -> tuple[jax.Array]:
        """Pictures as float32, cut and standardised, on the device: what travels there is uint8."""
        images = batch["image"]
        height, width, channels = images.shape[1:]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ConfigError(f"task.{name} is {values} for pictures of {channels} channels - give 1 or {channels}")
        if self.crop and self.crop > min(height, width):
            raise ConfigError(f"task.crop is {self.crop} for pictures of {height} x {width} - cut less")
        if self.crop:
            images = augmentation.center_crop(images, (self.crop, self.crop))
        pixels = images.astype(jnp.float32) / 255
        return ((pixels - jnp.asarray(self.mean)) / jnp.asarray(self.std),)

    def forward(self, variables, carry, batch, *, train=False, key=None):
        """As `Task.forward`, on changed pictures in training; the logits are [B, K], with `rubbish` [B, K + 1]."""
        if train:
            change_key, key = jax.random.split(key)
            batch = batch | {"image": self._changed(change_key, batch["image"])}
        elif self.ten_crops:
            crops = augmentation.ten_crops(batch["image"], (self.crop, self.crop))  # [10, B, crop, crop, C]
            logits = lax.map(lambda images: self._logits(variables, carry, batch | {"image": images})[0], crops)
            return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(crops)), carry, {}
        return self._logits(variables, carry, batch, train=train, key=key)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, Average]:
        """From logits: the loss, and the share of pictures whose largest logit of the K is their label's.

        Of 100 classes or more also the share whose label is among the five largest, as ImageNet is scored.
        """
        labels = batch["label"]  # [B]
        logits = self._of_classes(outputs)  # [B, K]
        values = {
            "loss": optax.softmax_cross_entropy_with_integer_labels(outputs, labels),
            "accuracy": jnp.argmax(logits, axis=-1) == labels,
        }
        if logits.shape[-1] >= MANY:
            values["top5_accuracy"] = (lax.top_k(logits, 5)[1] == labels[:, None]).any(-1)
        return {name: Average.of(value, batch["mask"]) for name, value in values.items()}

    def decode(self, variables: dict, batch: Batch) -> jax.Array:
        """The probability of each class, [B, K]; with `rubbish` what is missing to 1 is that of none of them."""
        return self._of_classes(jax.nn.softmax(super().decode(variables, batch)))

    def draw(self, variables: dict, dataset: Any, directory: Path) -> None:
        """mistakes.png: up to 60 pictures that are taken for another class, of all classes, among the first 10,000."""
        from cnnrnn import plots

        decode, names = jax.jit(self.decode), dataset.info["class_names"]
        wrong, kept, mistakes, seen = {}, 0, 0, 0
        for number in range(dataset.num_batches):
            batch = dataset.batch(number)
            answers = np.argmax(decode(variables, batch), axis=-1)  # [B]
            places = np.flatnonzero((answers != batch["label"]) & (batch["mask"] > 0))
            mistakes, seen = mistakes + len(places), seen + int(batch["mask"].sum())
            for at in places:
                of_class = wrong.setdefault(int(batch["label"][at]), [])
                if kept < 60 and len(of_class) < max(1, 60 // len(names)):
                    of_class.append((batch["image"][at].copy(), int(answers[at])))
                    kept += 1
            if seen >= 10_000:
                break
        file = directory / "mistakes.png"
        file.unlink(missing_ok=True)
        rows = [(image, names[label], names[answer]) for label in sorted(wrong) for image, answer in wrong[label]]
        if rows:
            images, labels, answers = zip(*rows, strict=True)
            title = f"{type(self.model).__name__}: {mistakes} of {seen} are taken for something else, {kept} of them"
            plots.mistakes(np.stack(images), [*labels], [*answers], file, title)

    def _logits(self, variables, carry, batch, **how):
        logits, carry, mutated = super().forward(variables, carry, batch, **how)  # [B, K]
        if self.rubbish is not None:
            logits = jnp.pad(logits, ((0, 0), (0, 1)), constant_values=-self.rubbish)  # [B, K + 1]
        return logits, carry, mutated

    def _of_classes(self, columns: jax.Array) -> jax.Array:
        return columns if self.rubbish is None else columns[:, :-1]

    def _changed(self, key: jax.Array, images: jax.Array) -> jax.Array:
        keys = jax.random.split(key, 5)
        if self.max_shift:
            images = augmentation.random_shift(keys[0], images, self.max_shift)
        if self.max_rotation or self.max_scale or self.max_skew:
            images = augmentation.random_affine(keys[1], images, self.max_rotation, self.max_scale, self.max_skew)
        if self.crop:
            images = augmentation.random_crop(keys[2], images, (self.crop, self.crop))
        if self.flip:
            images = augmentation.random_flip(keys[3], images)
        if self.colour_std:
            images = augmentation.random_colour(keys[4], images, self.colour_std)
        return images
