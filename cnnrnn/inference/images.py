"""Classifies the user's images, which are converted as described at the top of cnnrnn/data/images/convert.py."""

from pathlib import Path
from typing import Any

import numpy as np

from cnnrnn.errors import ConfigError, DataError, WorkdirError, one_line
from cnnrnn.inference import Answer, Request, load_task, probability_lines
from cnnrnn.training.workdir import Run

BATCH_SIZE = 32


def answer(request: Request, run: Run, workdir: Path) -> Answer:
    """For each image file, the classes with their probabilities, most probable first. See `cnnrnn.inference.answer`."""
    if request.prompt is not None:
        if request.inputs:
            raise ConfigError(f"a --prompt and the file {request.inputs[0]} - ask for one of them at a time")
        raise WorkdirError(f"the run in {workdir} was trained on images, not on text - name image files")
    images, errors = _read(request.inputs, run.info["images"])
    if not images:
        return Answer([], [], errors)
    names = run.info["class_names"]
    document, lines = [], []
    task, variables = load_task(request, run, workdir)
    probabilities = _classify(task, variables, [image for _, image in images])
    for (file, _), row in zip(images, probabilities, strict=True):
        ranked = sorted(zip(map(float, row), names, strict=True), key=lambda pair: -pair[0])
        document.append({"file": file, "classes": [{"name": name, "probability": p} for p, name in ranked]})
        lines += [one_line(file), *probability_lines(ranked[: request.top])]
    return Answer(document, lines, errors)


def _read(files: tuple[str, ...], rule: dict) -> tuple[list[tuple[str, np.ndarray]], list[DataError]]:
    """(file, uint8 [H, W, C]) of the files that can be read, and an error for each that cannot."""
    from cnnrnn.data.images import convert

    images, errors = [], []
    for file in files:
        try:
            images.append((file, convert.read(file, **{**rule, "shape": tuple(rule["shape"])})))
        except DataError as error:
            errors.append(error)
    return images, errors


def _classify(task: Any, variables: dict, images: list[np.ndarray]) -> Any:
    """The probabilities [N, K] of N images."""
    import jax

    decode = jax.jit(task.decode)
    size = min(BATCH_SIZE, len(images))
    padded = np.stack(images + images[:1] * (-len(images) % size))  # to full batches, so that it compiles once
    mask = np.ones(size, np.float32)
    batches = [{"image": padded[i : i + size], "mask": mask} for i in range(0, len(padded), size)]
    return np.concatenate([np.asarray(decode(variables, batch)) for batch in batches])[: len(images)]
