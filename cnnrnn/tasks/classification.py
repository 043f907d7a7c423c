"""Classification: one label an image."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cnnrnn.layers import augmentation
from cnnrnn.metrics import Average, Sums
from cnnrnn.signatures import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Rate
from cnnrnn.tasks.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Softmax cross-entropy in nats: batch {"image": [B, H, W, C] uint8, "label": [B] int32, "mask": [B]}.

    Attributes:
      mean, std: of the pixels on the scale 0 to 1, one number or one for each channel. The model sees
        (pixel / 255 - mean) / std.
      rubbish: the output j of an additional class without parameters, for images of no class. With outputs -y the loss
        is y_label + log(exp(-j) + sum_i exp(-y_i)) (LeCun, Bottou, Bengio, Haffner 1998, equation 9, "MAP"). None is
        plain cross-entropy.
      max_shift: random translation by up to this many pixels along each axis (training only).
      max_rotation: random rotation, in degrees (training only), see `augmentation.random_affine`.
      max_scale, max_skew: random scaling and skewing by up to this fraction (training only).
      flip: random mirroring, left to right (training only).
      crop: the side of the square crop that the model sees: random in training, else central. None does not crop.
      color_jitter_std: random change of color (training only), see `augmentation.pca_color_jitter`.
      ten_crops: evaluation averages the probabilities of the four corner crops, the central one, and their mirror
        images (Krizhevsky, Sutskever, Hinton 2012, section 4.1).
      top5_from: "top5_accuracy" is reported for models with at least this many classes.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[PositiveFloat, ...] = (0.5,)
    rubbish: PositiveFloat | None = None
    max_shift: NonNegativeInt = 0
    max_rotation: NonNegativeFloat = 0.0
    max_scale: Rate = 0.0
    max_skew: NonNegativeFloat = 0.0
    flip: bool = False
    crop: PositiveInt | None = None
    color_jitter_std: NonNegativeFloat = 0.0
    ten_crops: bool = False
    top5_from: PositiveInt = 100

    def __post_init__(self):
        if self.ten_crops and not self.crop:
            raise ValueError("ten_crops without crop - set crop to the side of the crops in pixels")

    def init(self, key: jax.Array, batch: Batch) -> dict:
        """See `Task`.

        Raises:
          ValueError: mean or std does not fit the channels, or the crop is larger than the images.
        """
        height, width, channels = batch["image"].shape[1:]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ValueError(f"{name} has {len(values)} numbers for images of {channels} channels - give 1 or each")
        if self.crop and self.crop > min(height, width):
            raise ValueError(f"crop is {self.crop} for images of {height} x {width} - make it smaller")
        return self.model.init(key, self.preprocess(batch["image"]), train=False)

    def augment(self, key: jax.Array, batch: Batch) -> Batch:
        """Translates, distorts, crops, mirrors and recolors the images at random."""
        shift_key, affine_key, crop_key, flip_key, color_key = jax.random.split(key, 5)
        images = batch["image"]
        if self.max_shift:
            images = augmentation.random_shift(shift_key, images, self.max_shift)
        if self.max_rotation or self.max_scale or self.max_skew:
            images = augmentation.random_affine(affine_key, images, self.max_rotation, self.max_scale, self.max_skew)
        if self.crop:
            images = augmentation.random_crop(crop_key, images, (self.crop, self.crop))
        if self.flip:
            images = augmentation.random_flip(flip_key, images)
        if self.color_jitter_std:
            images = augmentation.pca_color_jitter(color_key, images, self.color_jitter_std)
        return batch | {"image": images}

    def preprocess(self, images: jax.Array) -> jax.Array:
        """What the model sees of images [B, H, W, C] uint8: their central crop, standardized, float32."""
        if self.crop:
            images = augmentation.center_crop(images, (self.crop, self.crop))
        return (images.astype(jnp.float32) / 255 - jnp.asarray(self.mean)) / jnp.asarray(self.std)

    def forward(self, variables, carry, batch, train=False, key=None):
        """See `Task`. The outputs are logits [B, K], with `rubbish` [B, K + 1]."""
        images = batch["image"]
        if not train and self.ten_crops:
            crops = augmentation.ten_crops(images, (self.crop, self.crop))  # [10, B, crop, crop, C]
            logits = lax.map(lambda crop: self._logits(variables, crop, train, key)[0], crops)  # [10, B, K]
            log_mean = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(crops))
            return log_mean, carry, {}  # the logarithm of a mean of softmaxes would underflow
        logits, mutated = self._logits(variables, images, train, key)
        return logits, carry, mutated

    def metrics(self, outputs: jax.Array, batch: Batch) -> Sums:
        """The loss; the accuracy, the share of images whose largest logit is their label's; and the top-5 accuracy."""
        labels, mask = batch["label"], batch["mask"]  # [B]
        outputs = jnp.where(mask[:, None] > 0, outputs, 0.0)  # no gradient of padding, even where it is NaN
        logits = self._class_columns(outputs)  # [B, K]
        values = {
            "loss": optax.softmax_cross_entropy_with_integer_labels(outputs, labels),
            "accuracy": jnp.argmax(logits, axis=-1) == labels,
        }
        if logits.shape[-1] >= self.top5_from:
            values["top5_accuracy"] = (lax.top_k(logits, min(5, logits.shape[-1]))[1] == labels[:, None]).any(-1)
        return {name: Average.of(value, mask) for name, value in values.items()}

    def decode(self, variables: dict, batch: Batch) -> jax.Array:
        """The probability of each class, [B, K]. With `rubbish` they sum to less than 1."""
        return self._class_columns(jax.nn.softmax(super().decode(variables, batch)))

    def _logits(self, variables, images, train, key) -> tuple[jax.Array, dict]:
        logits, mutated = self.apply(variables, self.preprocess(images), train=train, key=key)  # [B, K]
        if self.rubbish is not None:
            logits = jnp.pad(logits, ((0, 0), (0, 1)), constant_values=-self.rubbish)  # [B, K + 1]
        return logits, mutated

    def _class_columns(self, columns: jax.Array) -> jax.Array:
        return columns if self.rubbish is None else columns[:, :-1]
