"""A task of sequence to sequence, by a language model that is asked only for the second half of each line."""

import dataclasses

import jax.numpy as jnp
import optax
from jax import lax

from cnnrnn.metrics import Average, ErrorRate
from cnnrnn.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class ReverseWords(Task):
    """Batch: "tokens" and "targets" [B, T], "prompt_length" [B], the number of tokens before the answer."""

    def init(self, key, batch):
        """See `Task`."""
        return self.model.init(key, batch["tokens"])

    def forward(self, variables, carry, batch, train=False, key=None):
        """Logits [B, T, V]."""
        rngs = {"dropout": key} if train else None
        return self.model.apply(variables, batch["tokens"], train=train, rngs=rngs)[0], carry, {}

    def metrics(self, outputs, batch):
        """The loss of the letters of the answer."""
        first = batch["prompt_length"][:, None] - 1  # the step that predicts the first letter
        steps = jnp.arange(batch["tokens"].shape[1])
        in_answer = (steps >= first) & (steps <= 2 * first)  # [B, T]
        nats = optax.softmax_cross_entropy_with_integer_labels(outputs, batch["targets"])
        return {"loss": Average.of(nats, in_answer * batch["mask"][:, None])}

    def decode(self, variables, batch):
        """Greedy: the likeliest token after the prompt, and after that and itself, and so on: [B, T]."""

        def step(state, inputs):
            carry, predicted = state
            token, t = inputs
            token = jnp.where(t < batch["prompt_length"], token, predicted)
            logits, carry = self.model.apply(variables, token[:, None], carry)
            predicted = jnp.argmax(logits[:, 0], -1).astype(jnp.int32)
            return (carry, predicted), predicted

        batch_size, num_steps = batch["tokens"].shape
        start = self.model.init_carry(batch_size), jnp.zeros(batch_size, jnp.int32)
        _, predictions = lax.scan(step, start, (batch["tokens"].T, jnp.arange(num_steps)))
        return {"tokens": predictions.T, "prompt_length": batch["prompt_length"]}

    def words(self, predictions):
        """The answers as text."""
        symbols = self.info["symbols"]
        for tokens, length in zip(predictions["tokens"], predictions["prompt_length"], strict=True):
            yield "".join(symbols[token] for token in tokens[length - 1 :]).partition("\n")[0]

    def score(self, predictions, examples):
        """The share of words that are wrong."""
        pairs = zip(self.words(predictions), examples, strict=True)
        wrong = sum(word != example["word"][::-1] for word, example in pairs)
        return {"word_error_rate": ErrorRate(wrong, len(examples))}
