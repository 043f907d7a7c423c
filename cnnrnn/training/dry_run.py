"""The dry run: builds everything, prints what was understood, and stops before a step is compiled."""

from functools import partial
from typing import Any

import jax
from ml_collections import ConfigDict

from cnnrnn.command import echo
from cnnrnn.errors import one_line
from cnnrnn.training.evaluate import check_best_metric
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.parts import build_parts, describe_model
from cnnrnn.training.state import init_state
from cnnrnn.training.step import check_batchnorm_padding

MAX_ITEMS = 12  # of a list that is printed


def dry_run(config: ConfigDict) -> None:
    """Prints what a training with this config would do. No working directory is needed, and none is written.

    What is printed about the data is in the dataset.json of a run, and the table of the model in its model.txt.

    Raises:
      UserError: what a training would raise before its first step.
    """
    with build_parts(config) as parts:
        task, tx, splits = parts
        train = splits["train"]
        batch = train.batch(0)
        padded = make_devices(config.train.get("parallel", "jit")).pad(batch)
        state = jax.eval_shape(partial(init_state, task, tx, seed=config.seed), padded)
        check_batchnorm_padding(batch, padded, state)
        evaluated = next(dataset for split, dataset in splits.items() if split != "train")
        best = (config.train.get(name) for name in ("best_metric", "best_mode"))
        check_best_metric(*best, task, state, padded, evaluated)
        echo(one_line(", ".join(filter(None, [f"data {config.data.name}", config.data.get("source")]))))
        for split, dataset in splits.items():
            echo("\n".join([f"  {split}", *describe(dataset.summary, indent=4)]))
        passes = config.train.num_steps / train.num_batches
        steps = f"{config.train.num_steps:,} steps with batches of {len(batch['mask'])}"
        echo(f"  {steps}, {passes:.3g} passes over the training data")
        echo(f"\n{describe_model(parts, padded, state)}\n\ndry run: no step was compiled, and no run was written")


def describe(summary: dict[str, Any], indent: int = 0) -> list[str]:
    """The lines of a JSON object for people; a long list is cut."""
    lines = []
    for name, value in summary.items():
        if isinstance(value, dict):
            items = [f"{key} {_text(item)}" for key, item in [*value.items()][:MAX_ITEMS]]
            rest = [f"and {len(value) - MAX_ITEMS} more"] if len(value) > MAX_ITEMS else []
            value = ", ".join(items + rest) or "nothing"
        lines.append(one_line(f"{' ' * indent}{name}: {_text(value)}"))
    return lines


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{key} {_text(item)}' for key, item in value.items())})"
    return f"{value:,}" if isinstance(value, int) else str(value)
