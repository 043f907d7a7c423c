"""Translation: from one sequence of tokens to another. Spelling to sound is translation of letters to phones."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from cnnrnn.beam_search import Hypotheses, beam_search
from cnnrnn.data import tokenizer
from cnnrnn.metrics import Average, Bleu, Chrf, ErrorRate, Perplexity, Sums
from cnnrnn.signatures import NonNegativeFloat, PositiveInt, Rate, Resumable
from cnnrnn.tasks.task import Batch, Task


@dataclasses.dataclass(frozen=True)
class Translation(Task):
    """Softmax cross-entropy in nats per target token, with teacher forcing.

    Batch: "source" [B, S] and "target" [B, T] int32, padded after the end of sequence (EOS); "source_length" and
    "target_length" [B], EOS included; "mask" [B].

    Attributes:
      label_smoothing: the share of the probability that the training loss spreads evenly over all tokens.
      beam_size: of the search for a translation, see `beam_search`.
      length_penalty: see `beam_search`.
      bleu_tokenize: how sacrebleu tokenizes for BLEU; "none" for data that are tokenized.

    Raises:
      ValueError: the model ties the embeddings of two vocabularies that differ; or BLEU would tokenize sentences that
        are tokenized.
    """

    label_smoothing: Rate = 0.0
    beam_size: Resumable[PositiveInt] = 1
    length_penalty: Resumable[NonNegativeFloat] = 0.0
    bleu_tokenize: Resumable[Literal["13a", "none", "intl", "char", "zh"]] = "13a"

    def __post_init__(self):
        if self.info.get("is_tokenized") and self.bleu_tokenize != "none":
            raise ValueError("the targets are tokenized: they end in ' .' - set task.bleu_tokenize to none")
        if getattr(self.model, "tie_embeddings", None) == "all" and self.info["source"] != self.info["target"]:
            raise ValueError("tie_embeddings is 'all', but the vocabularies differ - set data.joint_vocabulary")

    def init(self, key, batch):
        """See `Task`."""
        return self.model.init(key, *self._inputs(batch))

    def forward(self, variables, carry, batch, train=False, key=None):
        """See `Task`. The outputs are the logits [B, T, V], and the label smoothing, which is 0 outside training."""
        logits, mutated = self.apply(variables, *self._inputs(batch), train=train, key=key)
        return (logits, self.label_smoothing if train else 0.0), carry, mutated

    def metrics(self, outputs, batch) -> Sums:
        """The loss in nats per token, in training with label smoothing, and the perplexity, without."""
        logits, smoothing = outputs
        steps = jnp.arange(batch["target"].shape[1])
        mask = (steps < batch["target_length"][:, None]) * batch["mask"][:, None]  # [B, T]
        logits = jnp.where(mask[..., None] > 0, logits, 0.0)  # no gradient of padding, even where it is NaN
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["target"])  # [B, T]
        uniform = jax.nn.logsumexp(logits, -1) - logits.mean(-1)  # the cross-entropy of the uniform distribution
        exact = Average.of(nats, mask)
        return {
            "loss": Average.of((1 - smoothing) * nats + smoothing * uniform, mask),
            "perplexity": Perplexity(*exact),
        }

    def decode(self, variables: dict, batch: Batch) -> jax.Array:
        """The tokens [B, L] of the best translation, see `search`."""
        return self.search(variables, batch["source"], batch["source_length"]).tokens[:, 0]

    def search(
        self,
        variables: dict,
        source: jax.Array,
        source_lengths: jax.Array,
        num_best: int = 1,
        beam_size: int | None = None,
    ) -> Hypotheses:
        """The best translations of sources [B, S], by beam search.

        Args:
          variables: of the model.
          source, source_lengths: [B, S] and [B].
          num_best: N, the number of translations.
          beam_size: instead of the task's.
        """
        run = lambda method, *inputs: self.model.apply(variables, *inputs, method=method)  # noqa: E731
        memory, state = run("encode", source, source_lengths)
        return beam_search(
            lambda tokens, state: run("step", tokens, state, memory),
            state,
            start=self._target.eos_id,
            end=self._target.eos_id,
            beam_size=beam_size or self.beam_size,
            max_length=self.info["max_length"],
            num_best=num_best,
            length_penalty=self.length_penalty,
        )

    def log_probs(self, variables: dict, batch: Batch) -> jax.Array:
        """The log-probabilities [B] of the targets, in nats, EOS included."""
        logits = self.forward(variables, (), batch)[0][0]
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["target"])  # [B, T]
        return -jnp.where(jnp.arange(nats.shape[1]) < batch["target_length"][:, None], nats, 0).sum(1)

    def score(self, predictions, examples: Sequence[dict]) -> Sums:
        """BLEU and chrF against the first reference; or the error rates of tokens and of whole sequences.

        Of several references the nearest counts; a sequence is wrong if it is none of them.
        """
        texts = self._texts(predictions)
        if self.info["score"] == "error_rate":
            return _error_rates(texts, examples, self.info["target"]["unit"])
        references = [example["references"][0] for example in examples]
        return {
            "bleu": Bleu.of(texts, references, self.bleu_tokenize, self.info["lowercase"]),
            "chrf": Chrf.of(texts, references, self.info["lowercase"]),
        }

    @property
    def signatures(self) -> dict[str, str]:
        """sacrebleu's signatures of BLEU and chrF."""
        if self.info["score"] == "error_rate":
            return {}
        lowercase = self.info["lowercase"]
        return {"bleu": Bleu.signature(self.bleu_tokenize, lowercase), "chrf": Chrf.signature(lowercase)}

    def lines(self, predictions, examples):
        """The translation of each source, and for people also the source and the first reference."""
        return [
            (text, f"{example['text']} -> {text} ({example['references'][0]})")
            for text, example in zip(self._texts(predictions), examples, strict=True)
        ]

    def _texts(self, predictions) -> list[str]:
        return [self._target.decode(tokens) for tokens in predictions]

    @functools.cached_property
    def _target(self) -> tokenizer.Tokenizer:
        return tokenizer.from_info(self.info["target"])

    def _inputs(self, batch: Batch) -> tuple[jax.Array, ...]:
        """What the model takes: the target shifted right, with EOS before its first token."""
        before = jnp.roll(batch["target"], 1, axis=1).at[:, 0].set(self._target.eos_id)
        return batch["source"], batch["source_length"], before, batch["target_length"]


def _error_rates(texts: Sequence[str], examples: Sequence[dict], unit: str) -> Sums:
    from rapidfuzz.distance import Levenshtein

    name, split = ("character_error_rate", list) if unit == "character" else ("phone_error_rate", str.split)
    edits = length = wrong = 0
    for text, example in zip(texts, examples, strict=True):
        references = [split(reference) for reference in example["references"]]
        distances = [Levenshtein.distance(split(text), reference) for reference in references]
        nearest = min(range(len(references)), key=distances.__getitem__)
        edits, length = edits + distances[nearest], length + len(references[nearest])
        wrong += distances[nearest] > 0
    return {name: ErrorRate(edits, length), "word_error_rate": ErrorRate(wrong, len(texts))}
