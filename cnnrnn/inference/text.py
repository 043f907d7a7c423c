"""Continues the user's text: the most likely next words with their probabilities, and a sampled continuation."""

from functools import partial
from pathlib import Path

import numpy as np

from cnnrnn.command import note
from cnnrnn.errors import ConfigError, DataError, WorkdirError
from cnnrnn.inference import Answer, Request, load_task, percent, probability_lines
from cnnrnn.training.workdir import Run


def answer(request: Request, run: Run, workdir: Path) -> Answer:
    """The most likely next words after the prompt, and a continuation sampled token by token.

    Models of characters give words too, see `decoding.most_likely_words`. For the rest see `cnnrnn.inference.answer`.
    """
    tokens, vocabulary = _encode(_prompt_of(request, workdir), run)

    import jax

    from cnnrnn.decoding import generate

    task, variables = load_task(request, run, workdir)
    prefill = jax.jit(task.prefill)  # the variables are an argument, not constants of the program

    def continuation(variables, carry, logits, key):
        def step(carry, token):
            carry, logits = task.prefill(variables, carry, token[:, None])
            return carry, _without_unknown(logits, vocabulary)

        logits = _without_unknown(logits, vocabulary)
        return generate(step, carry, logits, key, request.length, request.temperature, request.top_k)

    words, unknown = _next_words(partial(prefill, variables), task.init_carry(1), tokens, vocabulary, request.top)
    sampled = ()
    if request.length:
        carry, logits = prefill(variables, task.init_carry(1), tokens[None])
        sampled = jax.jit(continuation)(variables, carry, logits, jax.random.key(request.seed))[0]
    text = vocabulary.decode([*tokens[1:], *map(int, sampled)])
    rows = [{"word": word, "probability": probability} for probability, word in words]
    document = {"prompt": request.prompt, "next": rows, "text": text}
    lines = [request.prompt, *probability_lines(words)]
    if unknown is not None:
        document["unknown"] = unknown
        lines.append(f"  {percent(unknown):>4} for all {vocabulary.unit}s that are not in the vocabulary")
    return Answer(document, lines + (["", text] if request.length else []))


def _prompt_of(request: Request, workdir: Path) -> str:
    if request.prompt is None:
        raise WorkdirError(f"the run in {workdir} was not trained on images - give it a --prompt, not files")
    if request.inputs:
        raise ConfigError(f"a --prompt and the file {request.inputs[0]} - ask for one of them at a time")
    if request.temperature != request.temperature:
        raise ConfigError("--temperature is nan - it takes a number of at least 0")
    if any("\ud800" <= character <= "\udfff" for character in request.prompt):
        raise DataError("the prompt is not UTF-8 text - type it in a UTF-8 terminal")
    return request.prompt


def _encode(prompt: str, run: Run):
    """The tokens [T] of a prompt, after the line end that precedes every text, and the vocabulary."""
    from cnnrnn.data.vocabulary import UNKNOWN, Vocabulary, normalise, tokenize

    vocabulary = Vocabulary.from_info(run.info["text"])
    words, _ = tokenize(normalise(prompt), vocabulary.unit)
    tokens = vocabulary.encode([vocabulary.tokens[vocabulary.line_end], *words])
    for word in vocabulary.oov(words):
        note(f"{vocabulary.unit} {word!r} is not in the vocabulary: read as {UNKNOWN}")
    return tokens, vocabulary


def _without_unknown(logits, vocabulary):
    """Logits [..., V] by which <unk>, which stands for many words and is none, is never sampled."""
    import jax.numpy as jnp

    if vocabulary.unknown is None or len(vocabulary.tokens) < 2:
        return logits
    return jnp.where(np.arange(logits.shape[-1]) == vocabulary.unknown, -jnp.inf, logits)


def _next_words(prefill, carry, tokens, vocabulary, top: int) -> tuple[list[tuple[float, str]], float | None]:
    """(probability, word) of the most likely next words, and the probability of <unk>, None if there is none.

    For a model of characters the words are those after a blank.
    """
    import jax

    from cnnrnn.data.vocabulary import is_part_of_word
    from cnnrnn.decoding import most_likely_words

    names, unknown = vocabulary.tokens, vocabulary.unknown
    is_blank = np.array([not token.strip() for token in names])  # [V]
    of_words = vocabulary.unit == "character" and " " in names
    if of_words and not is_blank[tokens[-1]]:
        tokens = np.append(tokens, np.int32(names.index(" ")))
    carry, logits = prefill(carry, tokens[None])
    probabilities = np.asarray(jax.nn.softmax(logits[0]))  # [V]
    unknown_probability = None if unknown is None else float(probabilities[unknown])
    is_unknown = np.arange(len(names)) == (-1 if unknown is None else unknown)
    if not of_words:
        likeliest = np.argsort(np.where(is_unknown, 1.0, -probabilities), kind="stable")[:top]
        words = [(float(probabilities[id_]), vocabulary.display(id_)) for id_ in likeliest if not is_unknown[id_]]
        return words, unknown_probability
    is_letter = np.array([is_part_of_word(token) for token in names])  # [V]
    step = lambda carry, token: prefill(carry, token[:, None])  # noqa: E731
    words = most_likely_words(step, carry, logits, is_letter, is_blank | is_unknown, top)
    return [(probability, vocabulary.decode(word)) for probability, word in words], unknown_probability
