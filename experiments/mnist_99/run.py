"""Seconds from a cold process to 99.0 % on MNIST's test digits, ours and PyTorch's in turn.

python experiments/mnist_99/run.py --files FOLDER --torch PYTHON

Both train the same LeNet-5 by the same recipe and are evaluated equally often. The clock starts when the process is
started, and stops when it reports an accuracy of 99.0 %. FOLDER contains the four original files.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
TARGET = 0.99
RECIPE = dict(num_steps=1872, eval_every=117, batch_size=128, learning_rate=0.1, warmup_steps=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=Path, required=True, help="the folder with MNIST's four idx.gz files")
    parser.add_argument("--torch", default=sys.executable, help="the interpreter that has PyTorch")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sides = {
            "ours, nothing compiled before": lambda seed: ours(arguments.files, Path(scratch), seed, fresh=True),
            "ours, compiled before": lambda seed: ours(arguments.files, Path(scratch), seed, fresh=False),
            "PyTorch": lambda seed: theirs(arguments.torch, arguments.files, seed),
        }
        next(ours(arguments.files, Path(scratch), 0, fresh=False))  # prepares the set and fills the cache
        results = {side: [] for side in sides}
        for seed in range(arguments.seeds):
            for side, run in sides.items():
                results[side].append(time_to_target(run(seed)))
                print(f"seed {seed}: {side} {describe(results[side][-1])}", flush=True)
    print("\n| | seconds | steps | ratio |\n|---|---|---|---|")
    for side, runs in results.items():
        seconds, steps = zip(*runs, strict=True)
        ratios = [run[0] / other[0] for run, other in zip(runs, results["PyTorch"], strict=True)]
        print(f"| {side} | {spread(seconds, 1)} | {spread(steps, 0)} | {spread(ratios, 2)} |")


def time_to_target(evaluations: Iterator[tuple[int, float]]) -> tuple[float, int]:
    """Seconds and steps to the first evaluation that reaches the target. Without one the seconds are infinite."""
    begin = time.perf_counter()
    for step, accuracy in evaluations:
        if accuracy >= TARGET:
            seconds = time.perf_counter() - begin
            evaluations.close()  # ends the process
            return seconds, step
    return float("inf"), RECIPE["num_steps"]


def ours(files: Path, scratch: Path, seed: int, fresh: bool) -> Iterator[tuple[int, float]]:
    """Runs `cnnrnn.main`: (step, accuracy) at every evaluation."""
    workdir = Path(tempfile.mkdtemp(dir=scratch))
    fields = {
        "seed": seed,
        "data.manual_dir": files,
        "data.data_dir": scratch / "sets",
        "data.batch_size": RECIPE["batch_size"],
        "optim.learning_rate": RECIPE["learning_rate"],
        "optim.schedule": "linear",
        "optim.warmup_steps": RECIPE["warmup_steps"],
        "optim.weight_decay": 0.0,
        "train.num_steps": RECIPE["num_steps"],
        "train.eval_every": RECIPE["eval_every"],
        "train.checkpoint_every": None,
    }
    command = [sys.executable, "-m", "cnnrnn.main", "--config", "configs/mnist_lenet5.py", "--workdir", workdir]
    command += [f"--config.{field}={value}" for field, value in fields.items()]
    cache = tempfile.mkdtemp(dir=scratch) if fresh else scratch / "programs"
    for _ in lines(command, XDG_CACHE_HOME=str(cache)):
        last = (workdir / "metrics.jsonl").read_text().splitlines()[-1:] if (workdir / "metrics.jsonl").exists() else []
        record = json.loads(last[0]) if last else {}
        if record.get("split") == "test":
            yield record["step"], record["accuracy"]


def theirs(python: str, files: Path, seed: int) -> Iterator[tuple[int, float]]:
    """Runs theirs.py: (step, accuracy) at every evaluation."""
    for line in lines([python, HERE / "theirs.py", files, json.dumps(RECIPE), seed]):
        yield tuple(json.loads(line))


def lines(command: list, **environment: str) -> Iterator[str]:
    """The lines that a process prints, as they arrive. The process ends with the iterator."""
    process = subprocess.Popen(
        list(map(str, command)), cwd=HERE.parent.parent, env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    try:
        yield from process.stdout
        if process.wait():
            sys.exit(f"{command[1]} ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()


def describe(result: tuple[float, int]) -> str:
    """Seconds and steps, as text."""
    return f"{result[0]:.1f} s, {result[1]} steps"


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and the range in brackets."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


if __name__ == "__main__":
    main()
