"""Language modelling: predicts each token from all tokens before it. The carry continues from batch to batch."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnrnn.metrics import Average, BitsPerCharacter, Perplexity, Sums
from cnnrnn.signatures import NonNegativeFloat
from cnnrnn.tasks.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class LanguageModelling(Task):
    """Softmax cross-entropy in nats per token; gradients flow back to the start of the window (truncated BPTT).

    Batch: "tokens" and "targets" [B, T] int32, where a target is the token that follows; "characters" [B, T], the
    number of characters of each target; "reset" [B], 1 where the row does not continue its row in the previous batch,
    so that its carry starts at zero; "mask" [B, T], 1 where a target counts.

    Attributes:
      activation_reg: the weight of a term of the training loss ("AR"), the mean square of the top layer's outputs after
        dropout.
      temporal_activation_reg: the weight of another term ("TAR"), the mean square of the change of these outputs from
        step to step, before dropout. The change at the first step of a window counts as 0. Source of both terms:
        Merity, McCann, Socher 2017.
    """

    activation_reg: NonNegativeFloat = 0.0
    temporal_activation_reg: NonNegativeFloat = 0.0

    def init(self, key: jax.Array, batch: Batch) -> dict:
        """See `Task`."""
        return self.model.init(key, batch["tokens"], train=False)

    def init_carry(self, batch_size: int) -> Any:
        """Zeros, in the structure of the model's carry."""
        return self.model.init_carry(batch_size)

    def forward(self, variables, carry, batch, train=False, key=None):
        """See `Task`. The outputs are the logits [B, T, V] and the sum of the regularization terms."""
        carry = jax.tree.map(lambda c: jnp.where(batch["reset"][:, None] > 0, 0, c), carry)
        (logits, carry), sown = self.model.apply(
            variables,
            batch["tokens"],
            carry,
            train=train,
            rngs={"dropout": key} if train else None,
            mutable=["outputs"] if train else [],
        )
        regularization = self._regularization(*sown["outputs"]["outputs"][0], batch["mask"]) if train else 0.0
        return (logits, regularization), carry, {}

    def metrics(self, outputs: tuple, batch: Batch) -> Sums:
        """The loss in nats per token with the regularization terms, the perplexity, and the bits per character."""
        logits, regularization = outputs
        mask = batch["mask"]  # [B, T]
        logits = jnp.where(mask[..., None] > 0, logits, 0.0)  # no gradient of padding, even where it is NaN
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])  # [B, T]
        loss = Average.of(nats, mask)
        characters = jnp.sum(batch["characters"] * mask)
        return {
            "loss": Average(loss.total + regularization, loss.weight),
            "perplexity": Perplexity(*loss),
            "bits_per_character": BitsPerCharacter(loss.total, characters),
        }

    def decode(self, variables: dict, batch: Batch) -> jax.Array:
        """The probabilities of the next token at each step, [B, T, V]."""
        return jax.nn.softmax(super().decode(variables, batch)[0])

    def prefill(self, variables: dict, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """Reads tokens [B, T]. Returns the carry after them and the logits [B, V] of the next; a step of `generate`."""
        logits, carry = self.model.apply(variables, tokens, carry)
        return carry, logits[:, -1]

    def _regularization(self, outputs: jax.Array, dropped: jax.Array, mask: jax.Array) -> jax.Array | float:
        """AR and TAR as sums over tokens, like the loss: they are added over the devices and divided once."""
        total = 0.0
        if self.activation_reg:
            total += self.activation_reg * jnp.sum(jnp.square(dropped).mean(-1) * mask)
        if self.temporal_activation_reg:
            change = jnp.square(outputs[:, 1:] - outputs[:, :-1]).mean(-1)  # [B, T - 1]
            total += self.temporal_activation_reg * jnp.sum(change * mask[:, 1:])
        return total
