"""Classification: one label for each picture."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from cnnrnn.errors import ConfigError
from cnnrnn.layers.augmentation import random_shift
from cnnrnn.metrics import Average
from cnnrnn.signatures import Natural, Positive
from cnnrnn.tasks.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Softmax cross-entropy, in nats: batch {"image": [B, H, W, C] uint8, "label": [B] int32, "mask": [B]}.

    Attributes:
      mean, std: of the pixels, on the scale 0 to 1, one number or one a channel; the model sees (pixel / 255 - mean) /
        std.
      max_shift: in training each picture is moved by up to so many pixels, down or up and right or left.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[Positive, ...] = (0.5,)
    max_shift: Natural = 0

    def inputs(self, batch: Batch) -> tuple[jax.Array]:
        """Pictures as float32, standardised, on the device: what travels there is uint8."""
        channels = batch["image"].shape[-1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise ConfigError(f"task.{name} is {values} for pictures of {channels} channels - give 1 or {channels}")
        pixels = batch["image"].astype(jnp.float32) / 255
        return ((pixels - jnp.asarray(self.mean)) / jnp.asarray(self.std),)

    def forward(self, variables, carry, batch, *, train=False, key=None):
        """As `Task.forward`, on moved pictures in training."""
        if train and self.max_shift:
            shift_key, key = jax.random.split(key)
            batch = batch | {"image": random_shift(shift_key, batch["image"], self.max_shift)}
        return super().forward(variables, carry, batch, train=train, key=key)

    def metrics(self, outputs: jax.Array, batch: Batch) -> dict[str, Average]:
        """From logits [B, K]: the loss, and the share of pictures whose largest logit is their label's."""
        labels = batch["label"]  # [B]
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
        correct = jnp.argmax(outputs, axis=-1) == labels
        return {"loss": Average.of(loss, batch["mask"]), "accuracy": Average.of(correct, batch["mask"])}

    def decode(self, variables: dict, batch: Batch) -> jax.Array:
        """The probability of each class, [B, K]."""
        return jax.nn.softmax(super().decode(variables, batch))
