"""Predictions of a trained run on a user's own input: one module for each kind of input.

The field "inference" of a run's info names the module: one of this package, or any module that Python can import. The
module has a function `answer(request, run, workdir) -> Answer`.
"""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from cnnrnn import config as configs
from cnnrnn.errors import ConfigError, UserError, WorkdirError, one_line
from cnnrnn.training.workdir import Run


class Request(NamedTuple):
    """What the user asks.

    Attributes:
      inputs: the positional arguments of the command line: files, or text.
      prompt: the beginning of a text.
      top: the number of alternatives to print.
      length, temperature, top_k, seed: of the sampled continuation of the prompt, see `decoding.generate`.
      file: of sentences, one a line; "-" is standard input.
      score: a file with a right translation of each sentence, to score against.
      attention: the picture to write of where a translation looked.
      beam_size: of the search for translations or transcripts; None is the task's, or a default if that is less.
      ctm, textgrid, plot: a file and a folder for the times of a transcript, and the picture of a recording.
      checkpoint, average: which parameters, see `restore.load_variables`.
    """

    inputs: tuple[str, ...] = ()
    prompt: str | None = None
    top: int = 4
    length: int = 200
    temperature: float = 1.0
    top_k: int | None = None
    seed: int = 0
    file: str | None = None
    score: str | None = None
    attention: str | None = None
    checkpoint: str = "newest"
    average: int = 1
    beam_size: int | None = None
    ctm: str | None = None
    textgrid: str | None = None
    plot: str | None = None


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
      document: the whole answer, as a JSON value.
      lines: the answer as text for the terminal.
      errors: one for each input that cannot be read; the other inputs are answered.
    """

    document: Any
    lines: list[str]
    errors: list[UserError] = []


def answer(request: Request, run: Run, workdir: Path) -> Answer:
    """Answers a request with a checkpoint of a run.

    Raises:
      WorkdirError: the run names no module that answers, or the module cannot be imported.
      UserError: the request does not suit the run, or none of its inputs can be read.
    """
    module = _find_module(run, workdir)
    for name in ("file", "score", "attention", "beam_size", "ctm", "textgrid", "plot"):
        if getattr(request, name) is not None and name not in getattr(module, "FLAGS", ()):
            raise ConfigError(f"--{name} is for runs of another kind than the one in {workdir} - leave it out")
    with configs.as_config_error(run.config):
        return module.answer(request, run, workdir)


def load_task(request: Request, run: Run, workdir: Path) -> tuple[Any, dict]:
    """The task of a run with its model, and the variables of the model that the request asks for."""
    import jax

    from cnnrnn.training.restore import load_variables

    model = configs.build("model", run.config.model, **run.info["dims"])
    task = configs.build("task", run.config.task, model=model, info=run.info)
    return task, jax.device_put(load_variables(workdir, request.checkpoint, request.average))


def percent(probability: float) -> str:
    """A whole percentage. It is "<1%" or ">99%" where rounding would give 0% or 100%, which claim certainty."""
    return "<1%" if probability < 0.005 else ">99%" if probability >= 0.995 else f"{probability:.0%}"


def probability_lines(rows: list[tuple[float, str]]) -> list[str]:
    """One line for each (probability, name)."""
    return [f"  {percent(probability):>4} {one_line(name)}" for probability, name in rows]


def _find_module(run: Run, workdir: Path) -> ModuleType:
    name = run.info.get("inference")
    if not isinstance(name, str):
        raise WorkdirError(f"the run in {workdir} does not say how it is asked - train it again with this version")
    if "." not in name and importlib.util.find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise WorkdirError(
            f"the run in {workdir} is asked through the module {name}: {error} - start where it can be imported"
        ) from error
