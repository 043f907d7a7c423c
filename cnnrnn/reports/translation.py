"""attention.png: for a few sources where each token of the translation looked."""

from pathlib import Path

import jax
import numpy as np

from cnnrnn import plots
from cnnrnn.data import tokenizer
from cnnrnn.data.dataset import Dataset, collate
from cnnrnn.tasks.task import Task

COUNT = 6


def draw(task: Task, variables: dict, dataset: Dataset, directory: Path) -> None:
    """Translates sources of at least median length and draws what they looked at; without attention nothing."""
    order = np.argsort(dataset.source.lengths, kind="stable")
    places = np.linspace(0.5, 0.95, COUNT) * (len(order) - 1)
    examples = dataset.examples(order[np.unique(places.astype(int))])
    length = max(example["source_length"] for example in examples)
    batch = collate([{name: example[name] for name in ("source", "source_length")} for example in examples], length)
    found = jax.device_get(jax.jit(task.search)(variables, batch["source"], batch["source_length"]))
    if not found.weights.any():
        return
    source, target = (tokenizer.from_info(task.info[side]) for side in ("source", "target"))
    alignments = []
    for example, tokens, size, weights in zip(
        examples, found.tokens[:, 0], found.lengths[:, 0], found.weights[:, 0], strict=True
    ):
        rows = [*target.pieces(tokens[:size].tolist()), "end"][:size]
        columns = [*source.pieces(example["source"].tolist()), "end"]
        alignments.append((columns, rows, weights[: len(rows), : len(columns)]))
    plots.alignments(alignments, directory / "attention.png", type(task.model).__name__)
