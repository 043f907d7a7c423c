"""Speech recognition by CTC: from the samples of a recording to its labels, which are phones or characters."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from cnnrnn.layers.augmentation import spec_augment
from cnnrnn.layers.ctc import ctc_loss, min_frames
from cnnrnn.layers.ctc_decoding import Transcripts, prefix_beam_search
from cnnrnn.layers.spectrogram import log_mel, mfcc, normalize, stack_frames
from cnnrnn.metrics import Average, ErrorRate, Sums
from cnnrnn.signatures import NonNegativeInt, PositiveFloat, PositiveInt, Resumable
from cnnrnn.tasks.task import Batch, Task

BLANK = 0


@dataclasses.dataclass(frozen=True)
class Speech(Task):
    """The CTC loss in nats per label.

    Batch: "samples" [B, N] int16; "length" [B], their number; "labels" [B, L] int32, without blanks (0), padded with 0;
    "label_length" [B]; "mask" [B].

    A recording with too few frames for its labels does not count in the loss. The metric "too_short" is the share of
    such recordings.

    Attributes:
      num_mels, window, hop: of the log-mel frames, see `log_mel`; window and hop in seconds.
      num_cepstra: the number of cepstral coefficients in place of the log-mel energies; 0 keeps the energies.
      normalization: "recording" gives each band of each recording mean 0 and variance 1; "global" subtracts `mean` and
        divides by `std`, the same for all.
      mean, std: of log-mel energies, for "global".
      stack: the number of frames that are joined into one.
      time_masks, max_time, frequency_masks, max_frequency: of SpecAugment in training, see `spec_augment`.
      beam_size: of the prefix beam search.
      max_labels: the longest transcript that is found.
    """

    num_mels: PositiveInt = 40
    window: PositiveFloat = 0.025
    hop: PositiveFloat = 0.01
    num_cepstra: NonNegativeInt = 0
    normalization: Literal["recording", "global"] = "recording"
    mean: float = -6.0
    std: PositiveFloat = 5.0
    stack: PositiveInt = 1
    time_masks: NonNegativeInt = 0
    max_time: PositiveInt = 10
    frequency_masks: NonNegativeInt = 0
    max_frequency: PositiveInt = 8
    beam_size: Resumable[PositiveInt] = 10
    max_labels: Resumable[PositiveInt] = 100

    def frames(self, samples: jax.Array, lengths: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Normalized frames [B, T, M] of samples [B, N] int16, and their numbers [B]."""
        frames, counts = log_mel(
            samples / 2**15, lengths, self.info["sample_rate"], num_mels=self.num_mels, window=self.window, hop=self.hop
        )
        if self.normalization == "global":
            is_frame = (jnp.arange(frames.shape[1]) < counts[:, None])[..., None]
            frames = jnp.where(is_frame, (frames - self.mean) / self.std, 0.0)
        frames = mfcc(frames, self.num_cepstra) if self.num_cepstra else frames
        frames = normalize(frames, counts) if self.normalization == "recording" else frames
        return stack_frames(frames, counts, self.stack)

    @property
    def seconds_per_frame(self) -> float:
        """From one frame to the next."""
        return round(self.hop * self.info["sample_rate"]) * self.stack / self.info["sample_rate"]

    def init(self, key, batch):
        """See `Task`."""
        frames, counts = jax.eval_shape(self.frames, batch["samples"], batch["length"])
        return self.model.init(key, jnp.zeros(frames.shape), jnp.ones(counts.shape, jnp.int32))

    def augment(self, key, batch):
        """Frames with SpecAugment."""
        frames, counts = self.frames(batch["samples"], batch["length"])
        times = self.time_masks, self.max_time
        return batch | {
            "frames": spec_augment(key, frames, counts, *times, self.frequency_masks, self.max_frequency),
            "num_frames": counts,
        }

    def forward(self, variables, carry, batch, train=False, key=None):
        """See `Task`. The outputs are the logits [B, T, V] and the numbers of frames [B]."""
        if "frames" in batch:
            frames, counts = batch["frames"], batch["num_frames"]
        else:
            frames, counts = self.frames(batch["samples"], batch["length"])
        logits, mutated = self.apply(variables, frames, counts, train=train, key=key)
        return (logits, counts), carry, mutated

    def metrics(self, outputs, batch) -> Sums:
        """The loss in nats per label and per frame, and the share of recordings that are too short for their labels."""
        logits, counts = outputs
        is_possible = counts >= min_frames(batch["labels"], batch["label_length"])
        mask = batch["mask"] * is_possible
        logits = jnp.where(mask[:, None, None] > 0, logits, 0.0)  # no gradient of padding, even where it is NaN
        nats = ctc_loss(logits, counts, batch["labels"], batch["label_length"], BLANK)
        total = jnp.sum(jnp.where(mask > 0, nats, 0.0))
        return {
            "loss": Average(total, jnp.sum(mask * batch["label_length"])),
            "loss_per_frame": Average(total, jnp.sum(mask * counts)),
            "too_short": Average.of(1.0 - is_possible, batch["mask"]),
        }

    def decode(self, variables: dict, batch: Batch) -> jax.Array:
        """The labels [B, L] of the likeliest transcript, 0 after the last."""
        return self.search(variables, batch).labels[:, 0]

    def search(self, variables: dict, batch: Batch) -> Transcripts:
        """The likeliest transcripts, by prefix beam search."""
        logits, counts = self.forward(variables, (), batch)[0]
        max_labels = min(self.max_labels, logits.shape[1])
        return prefix_beam_search(logits, counts, beam_size=self.beam_size, max_labels=max_labels, blank=BLANK)

    def score(self, predictions, examples: Sequence[dict]) -> Sums:
        """The error rates of labels, and of whole recordings."""
        from rapidfuzz.distance import Levenshtein

        unit: Literal["phone", "character"] = self.info["unit"]
        edits = length = wrong = 0
        for labels, example in zip(predictions, examples, strict=True):
            distance = Levenshtein.distance(labels[labels != BLANK].tolist(), example["labels"].tolist())
            edits, length, wrong = edits + distance, length + len(example["labels"]), wrong + (distance > 0)
        return {
            f"{unit}_error_rate": ErrorRate(edits, length),
            "recording_error_rate": ErrorRate(wrong, len(predictions)),
        }

    def lines(self, predictions, examples):
        """The labels of each recording, and for people also its name and the right labels."""
        found = [self.text(labels) for labels in predictions]
        right = [self.text(example["labels"]) for example in examples]
        names = [example["name"] for example in examples]
        return [(text, f"{name}: {text} ({truth})") for text, name, truth in zip(found, names, right, strict=True)]

    def text(self, labels) -> str:
        """Labels as text, without blanks."""
        names = [self.info["labels"][label] for label in labels if label != BLANK]
        return (" " if self.info["unit"] == "phone" else "").join(names)
