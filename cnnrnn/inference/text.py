"""Continues the user's text: the most likely next words with their probabilities, and a sampled continuation."""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from cnnrnn.errors import ConfigError, DataError, WorkdirError
from cnnrnn.inference import Answer, Request, load_task, probability_lines
from cnnrnn.training.workdir import Run


def answer(request: Request, run: Run, workdir: Path) -> Answer:
    """The most likely next words after the prompt, and a continuation sampled token by token.

    Models of characters give words too, see `decoding.most_likely_words`. For the rest see `cnnrnn.inference.answer`.
    """
    tokens, vocabulary = _encode(_prompt_of(request, workdir), run)

    import jax

    from cnnrnn.decoding import generate

    task, variables = load_task(run, workdir)
    prefill = jax.jit(task.prefill)  # the variables are an argument, not constants of the program

    def continuation(variables, carry, logits, key):
        step = lambda carry, token: task.prefill(variables, carry, token[:, None])  # noqa: E731
        return generate(step, carry, logits, key, request.length, request.temperature, request.top_k)

    words = _next_words(partial(prefill, variables), task.init_carry(1), tokens, vocabulary, request.top)
    sampled = ()
    if request.length:
        carry, logits = prefill(variables, task.init_carry(1), tokens[None])
        sampled = jax.jit(continuation)(variables, carry, logits, jax.random.key(request.seed))[0]
    text = vocabulary.decode([*tokens[1:], *map(int, sampled)])
    rows = [{"word": word, "probability": probability} for probability, word in words]
    lines = [request.prompt, *probability_lines(words), *(("", text) if request.length else ())]
    return Answer({"prompt": request.prompt, "next": rows, "text": text}, lines)


def _prompt_of(request: Request, workdir: Path) -> str:
    if request.prompt is None:
        raise WorkdirError(f"the run in {workdir} was not trained on images - give it a --prompt, not files")
    if request.inputs:
        raise ConfigError(f"a --prompt and the file {request.inputs[0]} - ask for one of them at a time")
    if request.temperature != request.temperature:
        raise ConfigError("--temperature is nan - it takes a number of at least 0")
    if any("\ud800" <= character <= "\udfff" for character in request.prompt):
        raise DataError("the prompt is no UTF-8 text - type it in a UTF-8 terminal")
    return request.prompt


def _encode(prompt: str, run: Run):
    """The tokens [T] of a prompt, after the line end that precedes every text, and the vocabulary."""
    from cnnrnn.data.vocabulary import UNKNOWN, Vocabulary, normalise, tokenize

    vocabulary = Vocabulary.from_info(run.info["text"])
    words, _ = tokenize(normalise(prompt), vocabulary.unit)
    tokens = vocabulary.encode([vocabulary.tokens[vocabulary.line_end], *words])
    for word in vocabulary.oov(words):
        print(f"{vocabulary.unit} {word!r} is not in the vocabulary: read as {UNKNOWN}", file=sys.stderr)
    return tokens, vocabulary


def _next_words(prefill, carry, tokens, vocabulary, top: int) -> list[tuple[float, str]]:
    """(probability, word) of the most likely next words. For a model of characters, words after a space."""
    import jax

    from cnnrnn.decoding import most_likely_words

    is_blank = np.array([not token.strip() for token in vocabulary.tokens])  # [V]
    if vocabulary.unit != "character" or " " not in vocabulary.tokens:
        probabilities = np.asarray(jax.nn.softmax(prefill(carry, tokens[None])[1][0]))  # [V]
        likeliest = np.argsort(-probabilities, kind="stable")[:top]
        return [(float(probabilities[token]), vocabulary.display(token)) for token in likeliest]
    if not is_blank[tokens[-1]]:
        tokens = np.append(tokens, np.int32(vocabulary.tokens.index(" ")))
    is_letter = np.array([token.isalnum() or token in "'’-_" for token in vocabulary.tokens])  # [V]
    step = lambda carry, token: prefill(carry, token[:, None])  # noqa: E731
    words = most_likely_words(step, *prefill(carry, tokens[None]), is_letter, is_blank, top)
    return [(probability, vocabulary.decode(word)) for probability, word in words]
