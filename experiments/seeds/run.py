"""Trains one config with several seeds and prints its line in the README's table of results.

python experiments/seeds/run.py --config configs/digits_lenet5.py

Each seed is one run of python -m cnnrnn.main in a new process; a run that was stopped continues. Flags that are unknown
here, --config.FIELD=VALUE, are passed on to it.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cnnrnn import plots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, default=3, help="the number of seeds: 0, 1, ...")
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"), help="for the working directories")
    parser.add_argument("--figure", type=Path, help="draw the evaluations of all seeds into this PNG")
    known, passed_on = parser.parse_known_args()
    name = Path(known.config).name.replace(".py", "").replace(":", "-")  # a config may have variants
    workdirs = [known.runs / f"{name}-{seed}" for seed in range(known.seeds)]
    minutes = [train(known.config, workdir, seed, passed_on) for seed, workdir in enumerate(workdirs)]
    runs = [read_evaluations(workdir) for workdir in workdirs]
    last = {split: records[-1] for split, records in runs[0].items()}
    print(f"\n{name}: {known.seeds} seeds, {max(r['step'] for r in last.values())} steps, {os.cpu_count()} CPU cores")
    for split, record in last.items():
        for metric in metrics_of(record):
            values = [run[split][-1][metric] for run in runs]
            print(f"  {split} {metric:18} {spread(values, percent=metric == 'accuracy')}")
    print(f"  minutes         {spread(minutes)}")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"  peak memory     {memory:.0f} MiB, the largest of the runs")
    if known.figure:
        split = next(iter(last))
        series = {
            metric: {f"seed {seed}": [(r["step"], r[metric]) for r in run[split]] for seed, run in enumerate(runs)}
            for metric in metrics_of(last[split])
        }
        plots.curves(series, known.figure, f"{name}, {split} split")


def train(config: str, workdir: Path, seed: int, passed_on: list[str]) -> float:
    """Trains with one seed. Returns the minutes of the whole process, imports and data included."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "cnnrnn.main", "--config", config, "--workdir", str(workdir)]
    subprocess.run([*command, f"--config.seed={seed}", *passed_on], check=True)
    return (time.perf_counter() - start) / 60


def read_evaluations(workdir: Path) -> dict[str, list[dict]]:
    """The records of a run for each split but the training split."""
    splits: dict[str, list[dict]] = {}
    for record in map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines()):
        if record["split"] != "train":
            splits.setdefault(record["split"], []).append(record)
    return splits


def metrics_of(record: dict) -> list[str]:
    """The names of the metrics in a record."""
    return [name for name in record if name not in ("step", "split")]


def spread(values: list[float], percent: bool = False) -> str:
    """Mean, standard deviation, and each value, as text."""
    scale, unit, digits = (100, " %", 2) if percent else (1, "", 4)
    values = [scale * value for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    each = ", ".join(f"{value:.{digits}f}" for value in values)
    return f"{statistics.mean(values):.{digits}f} +- {deviation:.{digits}f}{unit}   ({each})"


if __name__ == "__main__":
    main()
