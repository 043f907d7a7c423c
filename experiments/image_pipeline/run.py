"""Does a step wait for images from disk, and does memory stay bounded? python experiments/image_pipeline/run.py

Makes a set of JPEGs once, in --folder. Then it trains on the set with the public command and reads the memory of all
processes. It also times steps whose batches are read from disk, and in turn the same steps with the batches in memory.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from waiting import time_steps

from cnnrnn import plots

CONFIG = """from ml_collections import ConfigDict
def get_config():
    return ConfigDict(dict(
        seed=0,
        task=dict(name="classification.Classification"),
        model=dict(name="{model}"),
        data=dict(name="images.custom.image_set", source="{folder}", size={size},
                  batch_size={batch_size}, eval_batch_size={batch_size}, memory_limit=0),
        optim=dict(name="sgd", learning_rate=0.001, momentum=0.9),
        train=dict(num_steps={steps}, log_every={steps}),
    ))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--folder", type=Path, default=Path("runs/image_pipeline/images"), help="the set; made if it does not exist")
    add("--runs", type=Path, default=Path("runs/image_pipeline"), help="for the working directories")
    add("--images", type=int, default=20_000, help="the number of images in the set")
    add("--model", default="alexnet.AlexNet")
    add("--size", type=int, default=224)
    add("--batch_size", type=int, default=32)
    add("--steps", type=int, default=40, help="the number of steps of a run, and of a turn")
    add("--turns", type=int, default=3)
    add("--workers", type=int, nargs="+", default=[0, 1, 2])
    add("--figure", type=Path, help="draw the memory over time into this PNG")
    known = parser.parse_args()
    make_images(known.folder, known.images)
    known.runs.mkdir(parents=True, exist_ok=True)
    config = known.runs / "config.py"
    settings = {name: getattr(known, name) for name in ("model", "size", "batch_size", "steps")}
    config.write_text(CONFIG.format(folder=known.folder.absolute(), **settings))
    memory = {f"workers {workers}": measure_memory(config, workers, known.runs) for workers in known.workers}
    print(
        "| workers | peak, MiB | median of first half | of second half | from disk, steps/s | in memory | waiting, % |"
    )
    print("|---|---|---|---|---|---|---|")
    for workers, series in zip(known.workers, memory.values(), strict=True):
        used = [mib for _, mib in series]
        halves = [statistics.median(half) for half in (used[: len(used) // 2], used[len(used) // 2 :])]
        from_disk, in_memory = time_steps(config, workers, known.steps, known.turns)
        row = [f"{max(used):.0f}", *(f"{half:.0f}" for half in halves), f"{1 / from_disk:.2f}", f"{1 / in_memory:.2f}"]
        print(f"| {workers} | {' | '.join(row)} | {100 * (1 - in_memory / from_disk):.0f} |", flush=True)
    if known.figure:
        plots.curves({"MiB of all processes": memory}, known.figure, known.model, unit="second")


def make_images(folder: Path, count: int) -> None:
    """Writes JPEGs of about 300 x 400 pixels in ten classes, unless the folder exists."""
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.part")
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(make_image, part), range(count), chunksize=100))
        part.rename(folder)


def make_image(folder: Path, number: int) -> None:
    """Smooth colors and noise, so that the file is as large as a photograph's. One in a hundred is for testing."""
    rng = np.random.default_rng(number)
    size = int(rng.integers(360, 441)), int(rng.integers(270, 331))
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(smooth) + rng.integers(-20, 21, (size[1], size[0], 3), np.int16)
    directory = folder / ("train" if number // 10 % 100 else "test") / f"class{number % 10}"
    directory.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(directory / f"{number:06}.jpg", quality=85)


def measure_memory(config: Path, workers: int, runs: Path) -> list[tuple[float, float]]:
    """Trains with the public command: (seconds, MiB of all its processes), twice a second."""
    workdir = runs / f"workers{workers}-{os.getpid()}"
    words = ["--config", str(config), "--workdir", str(workdir), f"--config.data.workers={workers}"]
    process = subprocess.Popen([sys.executable, "-m", "cnnrnn.main", *words], stdout=subprocess.DEVNULL)
    start, series = time.perf_counter(), []
    while process.poll() is None:
        series.append((time.perf_counter() - start, sum(map(memory_of, descendants(process.pid)))))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(process.returncode)
    return series


def descendants(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    try:
        children = " ".join(task.read_text() for task in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # it has just ended
        return []
    return [pid, *(member for child in children.split() for member in descendants(int(child)))]


def memory_of(pid: int) -> float:
    """Resident MiB of a process. Pages that it shares with other processes are divided between them."""
    try:
        return int(re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1]) / 1024
    except (OSError, TypeError):  # it has just ended
        return 0.0


if __name__ == "__main__":
    main()
