"""Translates the user's sentences: the best translations of each with their log-probabilities."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnrnn.command import note
from cnnrnn.data import tokenizer
from cnnrnn.data.bitext import load_lexicon, read_lines
from cnnrnn.errors import ConfigError, DataError
from cnnrnn.inference import Answer, Request, load_task
from cnnrnn.training.workdir import Run

FLAGS = ("file", "references", "attention")  # of a request, that only this module answers
BATCH_SIZE = 64
BEAM_SIZE = 5
MAX_DRAWN = 6


class Translation(NamedTuple):
    """One translation.

    Attributes:
      text: as it is printed.
      log_prob: in nats; None if it is not the model's but the lexicon's.
      pieces: the tokens, without the line end.
      weights: [T, S], of the attention.
    """

    text: str
    log_prob: float | None
    pieces: list[str]
    weights: np.ndarray | None = None

    @property
    def line(self) -> str:
        """As it is printed."""
        return f"   lexicon {self.text}" if self.log_prob is None else f"  {self.log_prob:8.3f} {self.text}"

    @property
    def document(self) -> dict:
        """As a JSON object."""
        return {"text": self.text, "log_probability": self.log_prob, "lexicon": self.log_prob is None}


def answer(request: Request, run: Run, workdir: Path) -> Answer:
    """For each sentence the best translations. Words of the run's lexicon are answered from it.

    With references also their log-probabilities, and the score of the best translations against them. For the rest see
    `cnnrnn.inference.answer`.
    """
    sentences = _sentences_of(request)
    references = None if request.references is None else read_lines(Path(request.references))
    if references is not None and len(references) != len(sentences):
        raise DataError(
            f"{request.references} has {len(references)} lines for {len(sentences)} sentences - give one each"
        )
    source, target = (tokenizer.from_info(run.info[side]) for side in ("source", "target"))
    sentences = [sentence.strip().lower() if run.info["lowercase"] else sentence.strip() for sentence in sentences]
    encoded = [_encode(sentence, source, run.info["max_length"]) for sentence in sentences]
    task, variables = load_task(run, workdir)
    found = _search(task, variables, encoded, target, max(BEAM_SIZE, request.top))
    if references is None:
        lexicon = load_lexicon(run.info["lexicon"])
        for sentence, translations in zip(sentences, found, strict=True):
            translations[:0] = [Translation(text, None, []) for text in lexicon.get(sentence, ())]
    document = [
        {"source": sentence, "translations": [one.document for one in translations[: request.top]]}
        for sentence, translations in zip(sentences, found, strict=True)
    ]
    lines = []
    for sentence, translations in zip(sentences, found, strict=True):
        lines += [sentence, *(one.line for one in translations[: request.top])]
    if references is not None:
        lines += _score(task, variables, encoded, target, references, found, document)
    if request.attention is not None:
        _draw(request.attention, source, encoded, found)
    return Answer(document, lines)


def _sentences_of(request: Request) -> list[str]:
    sentences = [*request.inputs, *([] if request.prompt is None else [request.prompt])]
    if request.file is not None:
        if sentences:
            raise ConfigError(f"--file and the sentence {sentences[0]!r} - ask for one of them at a time")
        if request.file == "-":
            text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
            sentences = text.removesuffix("\n").split("\n") if text else []
        else:
            sentences = read_lines(Path(request.file))
    for number, sentence in enumerate(sentences, start=1):
        if not sentence.strip():
            raise DataError(f"sentence {number} is empty - leave it out")
        if any("\ud800" <= character <= "\udfff" for character in sentence):
            raise DataError(f"sentence {number} is not UTF-8 text - convert it")
    if not sentences:
        raise ConfigError("no sentence - write some after the flags, in quotes, or give a --file")
    return sentences


def _encode(sentence: str, source: tokenizer.Tokenizer, max_length: int) -> np.ndarray:
    if unknown := source.unknown_parts(sentence):
        parts = ", ".join(map(repr, unknown))
        if source.unknown is None:
            raise DataError(f"{sentence!r} has {parts}, which did not occur in training - leave it out")
        note(f"{sentence!r} has {parts}, which did not occur in training: read as <unk>")
    ids = source.encode(sentence)
    if len(ids) > max_length:
        raise DataError(f"{sentence[:40]!r}... has {len(ids)} tokens, more than {max_length} - divide it")
    return ids


def _search(task: Any, variables: dict, encoded: list[np.ndarray], target, beam_size: int) -> list[list[Translation]]:
    """The different translations of each sentence, the best first."""
    import jax

    from cnnrnn.data.dataset import collate, pad_batch

    search = jax.jit(lambda variables, source, lengths: task.search(variables, source, lengths, beam_size, beam_size))
    size, results = min(BATCH_SIZE, len(encoded)), []
    longest = max(map(len, encoded))
    for start in range(0, len(encoded), size):
        batch = collate([{"source": ids, "length": len(ids)} for ids in encoded[start : start + size]], longest)
        count = len(batch["source"])
        batch = pad_batch(batch, size)
        found = jax.device_get(search(variables, batch["source"], batch["length"]))
        results += [_distinct(jax.tree.map(lambda rows, n=n: rows[n], found), target) for n in range(count)]
    return results


def _distinct(found: Any, target: tokenizer.Tokenizer) -> list[Translation]:
    """The different texts of the sequences of one sentence, each with its likeliest sequence."""
    texts: dict[str, Translation] = {}
    for ids, length, log_prob, weights in zip(found.tokens, found.lengths, found.log_probs, found.weights, strict=True):
        if length:
            text = target.decode(ids[:length])
            texts.setdefault(text, Translation(text, float(log_prob), target.pieces(ids[:length]), weights[:length]))
    return [*texts.values()]


def _score(task, variables, encoded, target, references, found, document) -> list[str]:
    """The log-probability of each reference, and the scores of the best translations."""
    import jax

    from cnnrnn import metrics
    from cnnrnn.data.dataset import collate

    lines, examples, best = ["", "references"], [], []
    forced = jax.jit(lambda variables, batch: task.log_probs(variables, batch))
    for source_ids, reference, translations, row in zip(encoded, references, found, document, strict=True):
        ids = target.encode(reference.strip())
        example = {"source": source_ids, "source_length": len(source_ids), "target": ids, "target_length": len(ids)}
        batch = collate([example], max(map(len, (source_ids, ids)))) | {"mask": np.ones(1, np.float32)}
        log_prob = float(forced(variables, batch)[0])
        row["reference"] = {"text": reference.strip(), "log_probability": log_prob}
        lines.append(f"  {log_prob:8.3f} {reference.strip()}")
        examples.append({"references": (reference.strip(),)})
        best.append(target.encode(translations[0].text) if translations else np.array([target.end]))
    values = metrics.compute(task.score(best, examples))
    return [*lines, "", *(f"{name} {value:.4g}" for name, value in values.items())]


def _draw(file: str, source: tokenizer.Tokenizer, encoded: list[np.ndarray], found: list[list[Translation]]) -> None:
    from cnnrnn import plots

    pairs = []
    for ids, translations in list(zip(encoded, found, strict=True))[:MAX_DRAWN]:
        best = next(one for one in translations if one.weights is not None)
        columns, rows = [*source.pieces(ids), "end"], [*best.pieces, "end"][: len(best.weights)]
        pairs.append((columns, rows, best.weights[: len(rows), : len(columns)]))
    if not any(weights.any() for _, _, weights in pairs):
        raise ConfigError("--attention, but the model of the run has none - leave it out")
    try:
        plots.alignments(pairs, Path(file), "attention")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--attention={file} cannot be written: {error}") from error
