"""What a run logs: metrics.jsonl, TensorBoard events, and a progress bar or plain lines."""

import contextlib
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnnrnn.command import echo
from cnnrnn.errors import WorkdirError, one_line
from cnnrnn.training.workdir import atomic_write


class Log:
    """Records metrics by step; `with Log(directory, start, end) as log`.

    Args:
      directory: the working directory.
      start: the step from which the run starts. Later records, of a run that was killed, are dropped.
      end: the last step, for the bar.
    """

    def __init__(self, directory: Path, start: int, end: int):
        import tensorboardX

        file = directory / "metrics.jsonl"
        self.records = [record for record in read(file) if record["step"] <= start]
        atomic_write(file, "".join(map(_line, self.records)))
        self._stream = open(file, "a", encoding="utf-8")
        self._events = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=start + 1)
        console = Console(file=sys.stderr)
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),  # a name may have [brackets]
        )
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("", total=end, completed=start) if self._bar else None
        self._latest: dict[str, str] = {}

    def __enter__(self) -> "Log":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()
        for file in (self._stream, self._events):
            with contextlib.suppress(OSError):  # `write` has reported it
                file.close()

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Records the metrics of a split at a step; on return they are on disk. What is recorded already is left out.

        Raises:
          WorkdirError: they cannot be written.
        """
        if self.has(step, split):  # an evaluation that a resumed run repeats
            return
        record = {"step": step, "split": split, **metrics}
        self.records.append(record)
        try:
            self._stream.write(_line(record))
            self._stream.flush()
            os.fsync(self._stream.fileno())
            for name, value in metrics.items():
                self._events.add_scalar(f"{split}/{name}", value, step)
            self._events.flush()
        except OSError as error:
            raise WorkdirError(f"cannot write the metrics: {error.strerror} - make room, then run it again") from error
        self._latest[split] = f"{one_line(split)} {describe(metrics)}"
        line = f"step {step}  {self._latest[split]}"
        if self._bar is None:
            echo(line)
        elif split != "train":  # the bar shows the training metrics
            self._bar.console.out(line, highlight=False)

    def has(self, step: int, split: str) -> bool:
        """Whether there is a record of a split at a step."""
        return any((record["step"], record["split"]) == (step, split) for record in self.records)

    def speed(self, step: int, steps_per_second: float) -> None:
        """Records the speed, for TensorBoard alone: metrics.jsonl is the same in every run."""
        self._events.add_scalar("train/steps_per_second", steps_per_second, step)

    def advance(self, step: int) -> None:
        """Moves the bar."""
        if self._bar:
            self._bar.update(self._task, completed=step, description="   ".join(self._latest.values()))


def read(file: Path) -> list[dict]:
    """The records of a metrics.jsonl, [] if there is none. A line damaged by a crash is left out."""
    if not file.exists():
        return []
    records = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int) and "split" in record:
                records.append(record)
    return records


def describe(metrics: dict[str, float]) -> str:
    """Metrics in one line, with four digits."""
    return "  ".join(f"{one_line(name)} {value:.4g}" for name, value in metrics.items())


def _line(record: dict) -> str:
    return json.dumps(record) + "\n"
