"""The report of a finished run: curves.png, and the images that the module of its task in this package draws.

A module cnnrnn/reports/x.py belongs to cnnrnn/tasks/x.py and has a function
`draw(task, variables, dataset, directory) -> None`.
"""

import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

from cnnrnn.command import note
from cnnrnn.data.dataset import Dataset
from cnnrnn.errors import join_lines
from cnnrnn.reports import curves
from cnnrnn.tasks.task import Task
from cnnrnn.training.workdir import atomic_write

FILE = "report.json"  # stores the step of the last report


def write(task: Task, variables: dict, dataset: Dataset, records: list[dict], directory: Path) -> None:
    """Draws the report, unless the report of this step has been drawn.

    An error while drawing is printed and not raised: a missing image must not fail a finished run.

    Args:
      task: of the run.
      variables: of the model, at the end of the run.
      dataset: the split that was evaluated during training.
      records: the lines of metrics.jsonl.
      directory: of the run.
    """
    step = max(record["step"] for record in records)
    if _reported_step(directory) == step:
        return
    title = f"{type(task.model).__name__}, {directory.name}"
    done = _attempt(lambda: curves.draw(records, directory / "curves.png", title), "curves.png")
    if (module := _find_module(task)) is not None:
        done &= _attempt(lambda: module.draw(task, variables, dataset, directory), f"report of {type(task).__name__}")
    if done:
        atomic_write(directory / FILE, json.dumps({"step": step}) + "\n")


def _reported_step(directory: Path) -> int | None:
    try:
        return json.loads((directory / FILE).read_text())["step"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _find_module(task: Task):
    package, _, name = type(task).__module__.rpartition(".")
    if package != "cnnrnn.tasks" or importlib.util.find_spec(f"{__name__}.{name}") is None:
        return None
    return importlib.import_module(f"{__name__}.{name}")


def _attempt(draw: Callable[[], None], name: str) -> bool:
    try:
        draw()
    except Exception as error:
        note(f"no {name}: {type(error).__name__}: {join_lines(str(error))}")
        return False
    return True
