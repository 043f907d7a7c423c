"""Trains one config with several seeds and prints its line in the README's table of results.

python experiments/seeds/run.py --config configs/digits_lenet5.py

Each seed is a run of its own, python -m cnnrnn.main in a new process, and goes on if it was stopped. Flags that are not
known here, --config.FIELD=VALUE, are passed on to it.
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
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument("--runs", type=Path, default=Path("runs/seeds"), help="where the working directories go")
    parser.add_argument("--figure", type=Path, help="draw the test metrics of all seeds into this PNG")
    known, passed_on = parser.parse_known_args()
    name = Path(known.config).stem
    workdirs = [known.runs / f"{name}-{seed}" for seed in range(known.seeds)]
    minutes = [train(known.config, workdir, seed, passed_on) for seed, workdir in enumerate(workdirs)]
    tests = [read_tests(workdir) for workdir in workdirs]
    print(f"\n{name}: {known.seeds} seeds, {tests[0][-1]['step']} steps, {os.cpu_count()} CPU cores")
    for metric in metrics_of(tests[0][-1]):
        print(f"  test {metric:10} {spread([test[-1][metric] for test in tests], percent=metric == 'accuracy')}")
    print(f"  minutes         {spread(minutes)}")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"  peak memory     {memory:.0f} MiB, the largest of the runs")
    if known.figure:
        series = {
            metric: {f"seed {seed}": [(t["step"], t[metric]) for t in test] for seed, test in enumerate(tests)}
            for metric in metrics_of(tests[0][-1])
        }
        plots.curves(series, known.figure, f"{name}, test split")


def train(config: str, workdir: Path, seed: int, passed_on: list[str]) -> float:
    """Trains with one seed; the minutes of the whole process, imports and data included."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "cnnrnn.main", "--config", config, "--workdir", str(workdir)]
    subprocess.run([*command, f"--config.seed={seed}", *passed_on], check=True)
    return (time.perf_counter() - start) / 60


def read_tests(workdir: Path) -> list[dict]:
    """What a run recorded of its test split."""
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if record["split"] == "test"]


def metrics_of(record: dict) -> list[str]:
    """The names of the metrics in a record."""
    return [name for name in record if name not in ("step", "split")]


def spread(values: list[float], percent: bool = False) -> str:
    """Mean and standard deviation, and each value."""
    scale, unit, digits = (100, " %", 2) if percent else (1, "", 4)
    values = [scale * value for value in values]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    each = ", ".join(f"{value:.{digits}f}" for value in values)
    return f"{statistics.mean(values):.{digits}f} +- {deviation:.{digits}f}{unit}   ({each})"


if __name__ == "__main__":
    main()
