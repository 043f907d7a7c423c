"""mistakes.png: images that a classifier takes for another class."""

from pathlib import Path

import jax
import numpy as np

from cnnrnn import plots
from cnnrnn.data.dataset import Dataset
from cnnrnn.tasks.task import Task

MAX_IMAGES = 60
MAX_EXAMPLES = 10_000  # that are evaluated to find mistakes


def draw(task: Task, variables: dict, dataset: Dataset, directory: Path) -> None:
    """Draws mistakes of every class; if there are none, no file is written."""
    decode, names = jax.jit(task.decode), task.info["class_names"]
    mistakes: dict[int, list] = {}  # {label: [(image, prediction), ...]}
    count, shown, seen = 0, 0, 0
    for number in range(dataset.num_batches):
        batch = dataset.batch(number)
        predictions = np.argmax(decode(variables, batch), axis=-1)  # [B]
        wrong = np.flatnonzero((predictions != batch["label"]) & (batch["mask"] > 0))
        count, seen = count + len(wrong), seen + int(batch["mask"].sum())
        for row in wrong:
            of_class = mistakes.setdefault(int(batch["label"][row]), [])
            if shown < MAX_IMAGES and len(of_class) < max(1, MAX_IMAGES // len(names)):
                of_class.append((batch["image"][row].copy(), int(predictions[row])))
                shown += 1
        if seen >= MAX_EXAMPLES:
            break
    file = directory / "mistakes.png"
    file.unlink(missing_ok=True)
    rows = [(image, names[label], names[p]) for label in sorted(mistakes) for image, p in mistakes[label]]
    if rows:
        images, labels, predictions = zip(*rows, strict=True)
        title = f"{type(task.model).__name__}: {count} of {seen} are taken for another class; {shown} of them"
        plots.mistakes(np.stack(images), [*labels], [*predictions], file, title)
