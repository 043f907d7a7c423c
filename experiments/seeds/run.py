"""Trains one config with several seeds and prints a line of the README's table of results.

python experiments/seeds/run.py --config configs/digits_lenet5.py [--seeds 3] [--runs runs/seeds] [--config.FIELD=VALUE
...]

Each seed is a run of its own, python -m cnnrnn.main in a new process, and resumes if it was stopped. What is not known
here is passed on to it."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/seeds"), help="the directory of the working directories"
    )
    known, passed_on = parser.parse_known_args()
    name = Path(known.config).stem
    results = [train(known.config, known.runs / f"{name}-{seed}", seed, passed_on) for seed in range(known.seeds)]
    print(f"\n{name}, {known.seeds} seeds, {os.cpu_count()} CPU cores")
    for metric in results[0]:
        values = [result[metric] for result in results]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        each = ", ".join(f"{value:.4f}" for value in values)
        print(f"  {metric:12} {statistics.mean(values):.4f} +- {deviation:.4f}   ({each})")
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"  peak memory  {memory:.0f} MiB, the largest of the runs")


def train(config: str, workdir: Path, seed: int, passed_on: list[str]) -> dict[str, float]:
    """The test metrics at the end of a run, and its wall time in minutes, imports and data included."""
    start = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "cnnrnn.main",
        "--config",
        config,
        "--workdir",
        str(workdir),
        f"--config.seed={seed}",
        *passed_on,
    ]
    subprocess.run(command, check=True)
    minutes = (time.perf_counter() - start) / 60
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in records if record["split"] == "test"][-1]
    return {metric: value for metric, value in last.items() if metric not in ("step", "split")} | {"minutes": minutes}


if __name__ == "__main__":
    main()
