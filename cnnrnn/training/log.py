"""What a run tells: metrics.jsonl, TensorBoard events, curves.png, and a progress bar or plain lines."""

import contextlib
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cnnrnn import plots
from cnnrnn.command import say


class Log:
    """Records metrics by step; `with Log(directory, start, end) as log`.

    Args:
      directory: the working directory.
      start: the step that the run begins from; what was recorded after it, by a run that was killed, is dropped.
      end: the last step, for the bar.
    """

    def __init__(self, directory: Path, start: int, end: int):
        import tensorboardX

        self._file = directory / "metrics.jsonl"
        self.records = [record for record in read(self._file) if record["step"] <= start]
        part = self._file.with_suffix(".part")
        part.write_text("".join(map(_line, self.records)), encoding="utf-8")
        part.replace(self._file)
        self._stream = open(self._file, "a", encoding="utf-8")
        self._events = tensorboardX.SummaryWriter(str(directory / "tensorboard"), purge_step=start + 1)
        console = Console(file=sys.stderr)
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
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
        self._stream.close()
        self._events.close()

    def write(self, step: int, split: str, metrics: dict[str, float]) -> None:
        """Records the metrics of a split at a step, on disk before it returns."""
        record = {"step": step, "split": split, **metrics}
        self.records.append(record)
        self._stream.write(_line(record))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        for name, value in metrics.items():
            self._events.add_scalar(f"{split}/{name}", value, step)
        self._events.flush()
        self._latest[split] = f"{split} {describe(metrics)}"
        line = f"step {step}  {self._latest[split]}"
        if self._bar is None:
            say(line)
        elif split != "train":  # the bar itself tells of training
            self._bar.console.print(line, highlight=False)

    def has(self, step: int, split: str) -> bool:
        """Whether the metrics of a split at a step have been recorded."""
        return any((record["step"], record["split"]) == (step, split) for record in self.records)

    def speed(self, step: int, steps_per_second: float) -> None:
        """Records the speed since the last time, for TensorBoard alone: it is not the same twice."""
        self._events.add_scalar("train/steps_per_second", steps_per_second, step)

    def advance(self, step: int) -> None:
        """Moves the bar."""
        if self._bar:
            self._bar.update(self._task, completed=step, description="   ".join(self._latest.values()))


def read(file: Path) -> list[dict]:
    """The records of a metrics.jsonl, [] if there is none; a line torn by a crash or otherwise damaged is left out."""
    if not file.exists():
        return []
    records = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and {"step", "split"} <= record.keys():
                records.append(record)
    return records


def describe(metrics: dict[str, float]) -> str:
    """Metrics in one line, with four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def draw(records: list[dict], file: Path, title: str) -> None:
    """Draws all that was recorded into one picture; a failure is a warning, for the run is worth more."""
    series: plots.Series = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "split"):
                series.setdefault(name, {}).setdefault(record["split"], []).append((record["step"], value))
    try:
        if series:
            plots.curves(series, file, title)
    except Exception as error:
        print(f"no {file.name}: {type(error).__name__}: {error}", file=sys.stderr)


def _line(record: dict) -> str:
    return json.dumps(record) + "\n"
