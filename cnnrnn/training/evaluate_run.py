"""Evaluates a trained run again: on another split, with other parameters, or with other resumable fields."""

from collections.abc import Sequence
from pathlib import Path

from cnnrnn import config as configs
from cnnrnn.command import echo
from cnnrnn.errors import ConfigError, one_line
from cnnrnn.tasks.task import Task
from cnnrnn.training.evaluate import Evaluator
from cnnrnn.training.log import describe
from cnnrnn.training.parallel import make_devices
from cnnrnn.training.parts import build_parts
from cnnrnn.training.restore import Which, load_variables
from cnnrnn.training.session import show
from cnnrnn.training.workdir import SUMMARY, atomic_write, check_config, check_dataset_info, read_run


def evaluate_run(
    workdir: str,
    split: str,
    overrides: Sequence[tuple[str, str]] = (),
    which: Which = "newest",
    average: int = 1,
    predictions: str | None = None,
) -> dict[str, float]:
    """The metrics of a split, with scores, which are printed too. The directory of the run does not change.

    Args:
      workdir: of the run.
      split: one that the run evaluates: "validation" or "test".
      overrides: of the run's config, see `config.load`; only fields that may change on resume.
      which, average: the parameters, see `load_variables`.
      predictions: the file to write `Task.lines` to, if the task has any.

    Raises:
      UserError: there is no such run, split or checkpoint, or the data are not those of the run.
    """
    run, path = read_run(workdir), Path(workdir)
    config = run.config.copy_and_resolve_references()
    configs.override(config, overrides)
    check_config(path, run.config, config)
    known = [name for name in run.info.get(SUMMARY, (split,)) if name != "train"]
    if split not in known:
        raise ConfigError(f"the run evaluates no split {split} - there are {', '.join(known)}")
    if predictions is not None:
        _check_folder(predictions)
    variables = load_variables(path, which, average)
    with build_parts(config) as (task, _, splits):
        check_dataset_info(path, {name: dataset.info for name, dataset in splits.items()})
        if predictions is not None and type(task).lines is Task.lines:
            raise ConfigError("--predictions, but the task of the run predicts no text - leave it out")
        lines: list[tuple[str, str]] = []
        devices = make_devices(config.train.get("parallel", "jit"))
        values = Evaluator(task, devices)(
            devices.replicate(variables), splits[split], with_score=True, keep_lines=lines.extend
        )
        show(lines)
        echo(f"{one_line(split)} {describe(values)}")
        for name, signature in task.signatures.items():
            echo(f"{name} {signature}")
    if predictions is not None:
        atomic_write(Path(predictions).expanduser(), "".join(f"{line}\n" for line, _ in lines))
    return values


def _check_folder(file: str) -> None:
    path = Path(file).expanduser()
    if not path.parent.is_dir():
        raise ConfigError(f"--predictions: there is no folder {path.parent} - make it first")
    if not path.name or path.is_dir():
        raise ConfigError(f"--predictions={file} is no file - name one")
