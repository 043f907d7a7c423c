"""gates.png: every gate of the top layer over a line of the text."""

from pathlib import Path

import jax

from cnnrnn import plots
from cnnrnn.data.dataset import Dataset
from cnnrnn.tasks.task import Task


def draw(task: Task, variables: dict, dataset: Dataset, directory: Path) -> None:
    """Runs the model over a line of the split and draws its gates."""
    tokens, labels = dataset.source.sample_line()
    _, sown = jax.jit(lambda v, x: task.model.apply(v, x, mutable=["gates"]))(variables, tokens[None])
    layers = jax.device_get(sown["gates"]["layers"])
    (gates,) = layers[f"layer{len(layers)}"]["gates"]
    plots.gates({name: steps[0] for name, steps in gates.items()}, labels, directory / "gates.png")
