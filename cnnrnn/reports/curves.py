"""curves.png: every metric of a run over its steps."""

from pathlib import Path

from cnnrnn import plots


def draw(records: list[dict], file: Path, title: str) -> None:
    """Draws the records of metrics.jsonl, one panel for each metric, one line for each split."""
    series: plots.Series = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "split"):
                series.setdefault(name, {}).setdefault(record["split"], []).append((record["step"], value))
    if series:
        plots.curves(series, file, title)
