"""Translates the user's sentences: the best translations of each with their log-probabilities."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cnnrnn.command import note
from cnnrnn.data import tokenizer
from cnnrnn.data.bitext_files import load_lexicon, read_lines
from cnnrnn.data.progress import progress
from cnnrnn.errors import ConfigError, DataError, one_line
from cnnrnn.inference import Answer, Request, load_task
from cnnrnn.training.workdir import Run

FLAGS = ("file", "score", "attention", "beam_size")  # of a request, that only this module answers
BATCH_SIZE = 64
BEAM_SIZE = 5
MAX_DRAWN = 6


class Candidate(NamedTuple):
    """One translation.

    Attributes:
      text: as it is printed.
      log_prob: in nats; None if it is not the model's but the lexicon's.
      ids: [T], of the tokens.
      weights: [T, S], of the attention.
    """

    text: str
    log_prob: float | None
    ids: np.ndarray | None = None
    weights: np.ndarray | None = None

    @property
    def line(self) -> str:
        """As it is printed."""
        text = one_line(self.text)
        return f"   lexicon {text}" if self.log_prob is None else f"  {self.log_prob:8.3f} {text}"

    @property
    def document(self) -> dict:
        """As a JSON object."""
        return {"text": self.text, "log_probability": self.log_prob, "lexicon": self.log_prob is None}


def answer(request: Request, run: Run, workdir: Path) -> Answer:
    """For each sentence the best translations. A word in the run's lexicon gets its pronunciations first.

    With `--score`, also the log-probability of each reference, and the scores of the best translations. For the rest
    see `cnnrnn.inference.answer`.
    """
    convert = lambda text: text.strip().lower() if run.info["lowercase"] else text.strip()  # noqa: E731
    sentences = [convert(sentence) for sentence in _sentences_of(request)]
    if run.info["lexicon"] is not None:
        sentences = [sentence.lower() for sentence in sentences]  # as in CMUdict
    is_raw, references = not run.info["is_tokenized"], None
    if request.score is not None:
        references = _references_of(request.score, len(sentences), convert, is_raw)
    source, target = (tokenizer.from_info(run.info[side]) for side in ("source", "target"))
    encoded = [_encode(sentence, source, run.info["max_length"]) for sentence in sentences]
    task, variables = load_task(request, run, workdir)
    if request.attention is not None and getattr(task.model, "attention", None) == "none":
        raise ConfigError("--attention, but the model of the run has none - leave it out")
    found = _search(task, variables, encoded, target, _beam_size(request, task))
    if request.attention is not None:
        _draw(request.attention, source, target, encoded, found)
    if references is None:
        _add_lexicon(run.info["lexicon"], sentences, found)
    document, lines = [], []
    for sentence, candidates in zip(sentences, found, strict=True):
        shown = candidates[: request.top]
        document.append({"source": sentence, "translations": [one.document for one in shown]})
        lines += [one_line(sentence), *(one.line for one in shown)]
    if references is None:
        return Answer(document, lines)
    log_probs = _log_probs(task, variables, encoded, [target.encode(reference) for reference in references])
    scored = [Candidate(text, log_prob) for text, log_prob in zip(references, log_probs, strict=True)]
    for row, candidate in zip(document, scored, strict=True):
        row["reference"] = {"text": candidate.text, "log_probability": candidate.log_prob}
    scores = _scores(task, [candidates[0].ids for candidates in found], references)
    score_lines = [f"{name} {value:.4g}  {task.signatures.get(name, '')}".rstrip() for name, value in scores.items()]
    lines += ["", "references", *(candidate.line for candidate in scored), "", *score_lines]
    return Answer({"answers": document, "scores": scores}, lines)


def _beam_size(request: Request, task: Any) -> int:
    """It does not follow `--top`, so that the first of several translations is the one translation."""
    beam_size = request.beam_size or max(BEAM_SIZE, task.beam_size)
    if request.beam_size is None and request.top > beam_size:
        raise ConfigError(f"--top is {request.top}, but the beam has {beam_size} - give --beam_size={request.top}")
    return beam_size


def _add_lexicon(lexicon: dict | None, sentences: list[str], found: list[list[Candidate]]) -> None:
    try:
        pronunciations = load_lexicon(lexicon)
    except DataError as error:
        note(f"answered without CMUdict: {error}")
        return
    for sentence, candidates in zip(sentences, found, strict=True):
        candidates[:0] = [Candidate(text, None) for text in pronunciations.get(sentence, ())]


def _references_of(file: str, count: int, convert, is_raw: bool) -> list[str]:
    references = [convert(line) for line in read_lines(Path(file), "check --score")]
    if len(references) != count:
        raise DataError(f"{file} has {len(references)} lines for {count} sentences - give one each")
    if is_raw and tokenizer.is_tokenized(references):
        raise DataError(f"{file} is tokenized: its lines end in ' .' - give raw text, as in training")
    if "" in references:
        raise DataError(f"{file}, line {references.index('') + 1} is empty - give a translation")
    return references


def _sentences_of(request: Request) -> list[str]:
    sentences = [*request.inputs, *([] if request.prompt is None else [request.prompt])]
    if request.file is not None:
        if sentences:
            raise ConfigError(f"--file and the sentence {sentences[0]!r} - ask for one of them at a time")
        if request.file == "-":
            text = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").removeprefix("\ufeff")
            sentences = text.removesuffix("\n").split("\n") if text else []
        else:
            sentences = read_lines(Path(request.file), "check --file")
    for number, sentence in enumerate(sentences, start=1):
        if not sentence.strip():
            raise DataError(f"sentence {number} is empty - leave it out")
        if "\n" in sentence:
            raise DataError(f"sentence {number} has a line end - divide it there")
        if any("\ud800" <= character <= "\udfff" for character in sentence):
            raise DataError(f"sentence {number} is not UTF-8 text - convert it")
    if not sentences:
        raise ConfigError("no sentence - write some after the flags, in quotes, or give a --file")
    return sentences


def _encode(sentence: str, source: tokenizer.Tokenizer, max_length: int) -> np.ndarray:
    if unknown := source.unknown_parts(sentence):
        parts = ", ".join(map(repr, unknown))
        if source.unk_id is None:
            raise DataError(f"{sentence!r} has {parts}, which did not occur in training - leave it out")
        note(f"{sentence!r} has {parts}, which did not occur in training: read as <unk>")
    ids = source.encode(sentence)
    if len(ids) > max_length:
        raise DataError(f"{sentence[:40]!r}... has {len(ids)} tokens, more than {max_length} - divide it")
    return ids


def _search(task: Any, variables: dict, encoded: list[np.ndarray], target, beam_size: int) -> list[list[Candidate]]:
    """The different translations of each sentence, the best first."""
    import jax

    @jax.jit
    def search(variables, batch):
        return task.search(variables, batch["source"], batch["length"], beam_size, beam_size)

    examples = [{"source": ids, "length": len(ids)} for ids in encoded]
    return [_distinct(found, target) for found in _by_batch(partial(search, variables), examples, "translating")]


def _by_batch(function: Callable[[dict], Any], examples: list[dict], what: str) -> list[Any]:
    """The results of a jitted function for each example, in their order. All batches have one shape: one compilation.

    Sequences of similar length share a batch, whose loops then end early.
    """
    import jax

    from cnnrnn.data.dataset import collate, pad_batch

    size, results = min(BATCH_SIZE, len(examples)), [None] * len(examples)
    length = {number: max(map(np.size, example.values())) for number, example in enumerate(examples)}
    order = sorted(length, key=length.__getitem__)
    with progress(what, len(order)) as advance:
        for start in range(0, len(order), size):
            numbers = order[start : start + size]
            batch = pad_batch(collate([examples[number] for number in numbers], max(length.values())), size)
            found = jax.device_get(function(batch))
            for row, number in enumerate(numbers):
                results[number] = jax.tree.map(lambda rows, row=row: rows[row], found)
            advance(len(numbers))
    return results


def _distinct(found: Any, target: tokenizer.Tokenizer) -> list[Candidate]:
    """The different texts of the sequences of one sentence, each with its best sequence."""
    texts: dict[str, Candidate] = {}
    for ids, length, log_prob, weights in zip(found.tokens, found.lengths, found.log_probs, found.weights, strict=True):
        if length:
            text = target.decode(ids[:length])
            texts.setdefault(text, Candidate(text, float(log_prob), ids[:length], weights[:length]))
    return [*texts.values()]


def _log_probs(task: Any, variables: dict, sources: list[np.ndarray], targets: list[np.ndarray]) -> list[float]:
    """The log-probability of each target."""
    import jax

    examples = [
        {"source": source, "source_length": len(source), "target": ids, "target_length": len(ids)}
        for source, ids in zip(sources, targets, strict=True)
    ]
    return [*map(float, _by_batch(partial(jax.jit(task.log_probs), variables), examples, "scoring"))]


def _scores(task: Any, answers: list[np.ndarray], references: list[str]) -> dict[str, float]:
    from cnnrnn import metrics

    return metrics.compute(task.score(answers, [{"references": (reference,)} for reference in references]))


def _draw(file: str, source, target, encoded: list[np.ndarray], found: list[list[Candidate]]) -> None:
    from cnnrnn import plots

    pairs = []
    for ids, candidates in list(zip(encoded, found, strict=True))[:MAX_DRAWN]:
        best = candidates[0]
        columns, rows = [*source.pieces(ids), "end"], [*target.pieces(best.ids), "end"][: len(best.weights)]
        pairs.append((columns, rows, best.weights[: len(rows), : len(columns)]))
    try:
        plots.alignments(pairs, Path(file), "attention")
    except (OSError, ValueError) as error:
        raise ConfigError(f"--attention={file} cannot be written: {error}") from error
