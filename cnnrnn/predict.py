"""Asks a trained run, from its newest checkpoint: what is on a picture, or what comes next in a text.

python -m cnnrnn.predict --workdir runs/digits_lenet5 picture.png ...
python -m cnnrnn.predict --workdir runs/pydoc_lstm --prompt "the clouds are in the"

For each picture the classes with their probabilities, best first. Pictures of any size, colour or grey, are converted
by the rule at the top of cnnrnn/data/pictures.py. A picture that cannot be read gets one line; the others are answered.

For a prompt the most likely next words with their probabilities, of a model of characters too, and then a continuation,
drawn at random.
"""

import json
import sys
from functools import partial
from pathlib import Path

from absl import flags

from cnnrnn import command
from cnnrnn import config as configs
from cnnrnn.errors import ConfigError, DataError, WorkdirError

WORKDIR = flags.DEFINE_string("workdir", None, "the directory of a trained run")
JSON = flags.DEFINE_bool("json", False, "print one JSON document instead of lines, with every class of a picture")
TOP = flags.DEFINE_integer("top", 4, "how many classes or next words to print", lower_bound=1)
PROMPT = flags.DEFINE_string("prompt", None, "the beginning of a text; a run on text continues it")
LENGTH = flags.DEFINE_integer("length", 200, "how many tokens the continuation has", lower_bound=0)
TEMPERATURE = flags.DEFINE_float("temperature", 1.0, "below 1 the likely is drawn more often, 0 always", lower_bound=0)
TOP_K = flags.DEFINE_integer("top_k", None, "draw among so many of the likeliest tokens; by default all", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "of the draws", lower_bound=0, upper_bound=2**32 - 1)

BATCH_SIZE = 32


def main(argv: list[str]) -> None:
    """Reads the flags, and prints answers of the kind that the run can give."""
    files = command.parse(argv, usage=__doc__)
    workdir = command.workdir(WORKDIR.value)
    if PROMPT.value is None and not files:
        raise ConfigError("nothing to answer - name picture files behind the flags, or give a --prompt")
    if PROMPT.value is not None and files:
        raise ConfigError(f"a --prompt and the file {files[0]} - ask for one of them at a time")

    from cnnrnn.training.workdir import read_run

    run = read_run(workdir)
    kind, needed = ("pictures", "pictures") if files else ("text", "a --prompt")
    if kind not in run.info:
        raise WorkdirError(
            f"the run in {workdir} was not trained on {kind}, which {needed} would need - name one that was"
        )
    if files:
        _name_pictures(files, run, Path(workdir))
    else:
        _continue_text(PROMPT.value, run, Path(workdir))


def _load(run, workdir: Path) -> tuple:
    """The task of a run, and its newest variables."""
    from cnnrnn.training.checkpoint import load_variables

    model = configs.build("model", run.config.model, **run.info["dims"])
    return configs.build("task", run.config.task, model=model), load_variables(workdir / "checkpoints")


def _continue_text(prompt: str, run, workdir: Path) -> None:
    from cnnrnn.data.vocabulary import UNKNOWN, Vocabulary, normalise, tokenize

    if TEMPERATURE.value != TEMPERATURE.value:
        raise ConfigError("--temperature is nan - it takes a number of at least 0")
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise DataError("the prompt is no UTF-8 text - type it in a UTF-8 terminal")
    vocabulary = Vocabulary.from_info(run.info["text"])
    tokens, _ = tokenize(normalise(prompt), vocabulary.unit)
    numbers = vocabulary.numbers([vocabulary.tokens[vocabulary.line_end], *tokens])  # a text begins behind a line end
    for token in vocabulary.missing(tokens):
        print(f"{vocabulary.unit} {token!r} is not in the vocabulary: read as {UNKNOWN}", file=sys.stderr)

    import jax

    from cnnrnn.decoding import generate

    task, variables = _load(run, workdir)
    read = jax.jit(task.read)
    words = _next_words(partial(read, variables), task.init_carry(1), numbers, vocabulary)

    def continued(variables, carry, logits, key):
        step = lambda carry, token: task.read(variables, carry, token[:, None])  # noqa: E731
        return generate(step, carry, logits, key, LENGTH.value, TEMPERATURE.value, TOP_K.value)

    drawn = []
    if LENGTH.value:
        carry, logits = read(variables, task.init_carry(1), numbers[None])
        drawn = jax.jit(continued)(variables, carry, logits, jax.random.key(SEED.value))[0]
    text = vocabulary.text([*numbers[1:], *map(int, drawn)])
    if JSON.value:
        rows = [{"word": word, "probability": probability} for probability, word in words]
        print(json.dumps({"prompt": prompt, "next": rows, "text": text}, indent=2, ensure_ascii=False))
        return
    print(prompt)
    _print_rows(words)
    if LENGTH.value:
        print(f"\n{text}")


def _next_words(read, carry, numbers, vocabulary) -> list[tuple[float, str]]:
    """(probability, word) of the words that are likeliest behind a text; of characters, behind it and a blank."""
    import jax
    import numpy as np

    from cnnrnn.decoding import likeliest_words

    blanks = np.array([not token.strip() for token in vocabulary.tokens])
    if vocabulary.unit != "character" or " " not in vocabulary.tokens:
        probabilities = np.asarray(jax.nn.softmax(read(carry, numbers[None])[1][0]))
        likeliest = np.argsort(-probabilities, kind="stable")[: TOP.value]
        return [(float(probabilities[n]), vocabulary.label(n)) for n in likeliest]
    if not blanks[numbers[-1]]:
        numbers = np.append(numbers, np.int32(vocabulary.tokens.index(" ")))
    letters = np.array([token.isalnum() or token in "'’-_" for token in vocabulary.tokens])
    step = lambda carry, token: read(carry, token[:, None])  # noqa: E731
    words = likeliest_words(step, *read(carry, numbers[None]), letters, blanks, TOP.value)
    return [(probability, vocabulary.text(word)) for probability, word in words]


def _name_pictures(files: list[str], run, workdir: Path) -> None:
    pictures, errors = _read_all(files, run.info["pictures"])
    answers = _answer([image for _, image in pictures], run, workdir) if pictures else []
    _print_pictures([file for file, _ in pictures], answers, run.info["class_names"])
    for error in errors[:-1]:
        print(f"cnnrnn: error: {error}", file=sys.stderr)
    if errors:
        raise errors[-1]


def _read_all(files: list[str], rule: dict) -> tuple[list[tuple], list[DataError]]:
    """(file, uint8 [H, W, C]) of what can be read, and an error for each that cannot."""
    from cnnrnn.data import pictures

    found, errors = [], []
    for file in files:
        try:
            found.append((file, pictures.read(file, **{**rule, "shape": tuple(rule["shape"])})))
        except DataError as error:
            errors.append(error)
    return found, errors


def _answer(images: list, run, workdir: Path) -> list:
    """The probabilities [K] of each picture."""
    import jax
    import numpy as np

    task, variables = _load(run, workdir)
    decode = jax.jit(task.decode)
    size = min(BATCH_SIZE, len(images))
    stacked = np.stack(images + images[:1] * (-len(images) % size))  # filled up to whole batches
    rows = [
        np.asarray(decode(variables, {"image": stacked[at : at + size], "mask": np.ones(size, np.float32)}))
        for at in range(0, len(stacked), size)
    ]
    return [*np.concatenate(rows)[: len(images)]]


def _print_pictures(files: list[str], answers: list, class_names: list[str]) -> None:
    ranked = [
        sorted(zip(map(float, probabilities), class_names, strict=True), key=lambda pair: -pair[0])
        for probabilities in answers
    ]
    if JSON.value:
        document = [
            {"file": file, "classes": [{"name": name, "probability": p} for p, name in rows]}
            for file, rows in zip(files, ranked, strict=True)
        ]
        print(json.dumps(document, indent=2))
        return
    for file, rows in zip(files, ranked, strict=True):
        print(file)
        _print_rows(rows[: TOP.value])


def _print_rows(rows: list[tuple[float, str]]) -> None:
    for probability, name in rows:
        print(f"  {_percent(probability):>4} {name}")


def _percent(probability: float) -> str:
    """As on the slide, 82%; but nothing is called impossible or certain that is not."""
    return "<1%" if probability < 0.005 else ">99%" if probability >= 0.995 else f"{probability:.0%}"


if __name__ == "__main__":
    command.run(main)
