"""Says what is on pictures: python -m cnnrnn.predict --workdir runs/digits_lenet5 picture.png ...

For each picture the classes with their probabilities, best first, from the newest checkpoint of a trained run. Pictures
of any size, colour or grey, are converted by the rule at the top of cnnrnn/data/pictures.py. A picture that cannot be
read gets one line; the others are answered.
"""

import json
import sys
from pathlib import Path

from absl import flags

from cnnrnn import command
from cnnrnn import config as configs
from cnnrnn.errors import ConfigError, DataError, WorkdirError

WORKDIR = flags.DEFINE_string("workdir", None, "the directory of a trained run")
JSON = flags.DEFINE_bool("json", False, "print one JSON document with every class instead of lines")
TOP = flags.DEFINE_integer("top", 4, "how many classes to print for each picture")

BATCH_SIZE = 32


def main(argv: list[str]) -> None:
    """Reads the flags and the pictures, and prints answers."""
    files = command.parse(argv, usage=__doc__)
    workdir = command.workdir(WORKDIR.value)
    if not files:
        raise ConfigError("no picture to look at - name picture files behind the flags")
    if TOP.value < 1:
        raise ConfigError(f"--top is {TOP.value} - it takes a whole number of at least 1")

    from cnnrnn.training.workdir import read_run

    run = read_run(workdir)
    if "pictures" not in run.info:
        raise WorkdirError(f"the run in {workdir} was not trained on pictures - name one that was")
    pictures, errors = _read_all(files, run.info["pictures"])
    answers = _answer([image for _, image in pictures], run, Path(workdir)) if pictures else []
    _print([file for file, _ in pictures], answers, run.info["class_names"])
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

    from cnnrnn.training.checkpoint import load_variables

    model = configs.build("model", run.config.model, **run.info["dims"])
    task = configs.build("task", run.config.task, model=model)
    variables = load_variables(workdir / "checkpoints")
    decode = jax.jit(task.decode)
    size = min(BATCH_SIZE, len(images))
    stacked = np.stack(images + images[:1] * (-len(images) % size))  # filled up to whole batches
    rows = [
        np.asarray(decode(variables, {"image": stacked[at : at + size], "mask": np.ones(size, np.float32)}))
        for at in range(0, len(stacked), size)
    ]
    return [*np.concatenate(rows)[: len(images)]]


def _print(files: list[str], answers: list, class_names: list[str]) -> None:
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
        for probability, name in rows[: TOP.value]:
            print(f"  {_percent(probability):>4} {name}")


def _percent(probability: float) -> str:
    """As on the slide, 82%; but nothing is called impossible or certain that is not."""
    return "<1%" if probability < 0.005 else ">99%" if probability >= 0.995 else f"{probability:.0%}"


if __name__ == "__main__":
    command.run(main)
