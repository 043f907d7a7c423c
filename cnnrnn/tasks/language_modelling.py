"""Language modelling: each token from all before it, the state carried on from batch to batch."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnrnn.metrics import Average, BitsPerCharacter, Perplexity
from cnnrnn.signatures import NonNegative
from cnnrnn.tasks.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class LanguageModelling(Task):
    """Softmax cross-entropy in nats a token, backpropagated to the beginning of the window (truncated).

    Batch: "tokens" and "targets" [B, T] int32, the second one place ahead of the first; "characters" [B, T], how many
    characters of text each target stands for; "reset" [B], 1 where the window begins the text and no state goes in;
    "mask" [B, T], 1 where a target counts.

    Attributes:
      output_penalty: times the mean square of the top layer's outputs after dropout joins the training loss ("AR").
      change_penalty: times the mean square of their change from step to step before dropout joins it ("TAR"; the first
        step of a window has no change and counts as 0). Source of both: Merity, McCann, Socher 2017.
    """

    output_penalty: NonNegative = 0.0
    change_penalty: NonNegative = 0.0

    def inputs(self, batch: Batch) -> tuple[jax.Array]:
        """The tokens [B, T]."""
        return (batch["tokens"],)

    def init_carry(self, batch_size: int) -> Any:
        """The model's own zeros."""
        return self.model.init_carry(batch_size)

    def forward(self, variables, carry, batch, *, train=False, key=None):
        """As `Task.forward`; the outputs are the logits [B, T, V] and what the penalties add to the sum of the loss."""
        carry = jax.tree.map(lambda state: jnp.where(batch["reset"][:, None] > 0, 0, state), carry)
        (logits, carry), sown = self.model.apply(
            variables,
            batch["tokens"],
            carry,
            train=train,
            rngs={"dropout": key} if train else None,
            mutable=["outputs"] if train else [],
        )
        penalty = self._penalty(*sown["outputs"]["outputs"][0], batch["mask"]) if train else 0.0
        return (logits, penalty), carry, {}

    def _penalty(self, outputs: jax.Array, dropped: jax.Array, mask: jax.Array) -> jax.Array | float:
        """A sum over places, like the loss: devices add theirs and divide once."""
        penalty = 0.0
        if self.output_penalty:
            penalty += self.output_penalty * jnp.sum(jnp.square(dropped).mean(-1) * mask)
        if self.change_penalty:
            change = jnp.square(outputs[:, 1:] - outputs[:, :-1]).mean(-1)  # [B, T - 1]
            penalty += self.change_penalty * jnp.sum(change * mask[:, 1:])
        return penalty

    def metrics(self, outputs: tuple, batch: Batch) -> dict[str, Average]:
        """From logits [B, T, V]: the loss in nats a token, the perplexity of a token, the bits for each character."""
        logits, penalty = outputs
        mask = batch["mask"]  # [B, T]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])  # [B, T]
        loss = Average.of(nats, mask)
        characters = jnp.sum(batch["characters"] * mask)
        return {
            "loss": Average(loss.total + penalty, loss.weight),
            "perplexity": Perplexity(*loss),
            "bits_per_character": BitsPerCharacter(loss.total, characters),
        }

    def decode(self, variables: dict, batch: Batch) -> jax.Array:
        """The probabilities of the next token behind each, [B, T, V]."""
        return jax.nn.softmax(super().decode(variables, batch)[0])

    def read(self, variables: dict, carry: Any, tokens: jax.Array) -> tuple[Any, jax.Array]:
        """The carry behind tokens [B, T], and the logits [B, V] of what comes next: the step of `decoding.generate`."""
        logits, carry = self.model.apply(variables, tokens, carry)
        return carry, logits[:, -1]

    def draw(self, variables: dict, dataset: Any, directory: Path) -> None:
        """gates.png: every gate of the top layer over a line of the text."""
        from cnnrnn import plots

        tokens, labels = dataset.sample()
        _, sown = jax.jit(lambda v, x: self.model.apply(v, x, mutable=["gates"]))(variables, tokens[None])
        layers = jax.device_get(sown["gates"]["layers"])
        (gates,) = layers[f"layer{len(layers)}"]["gates"]
        plots.gates({name: steps[0] for name, steps in gates.items()}, labels, directory / "gates.png")
