"""Measures the memory and the time that training on a long text takes, and prints the table of README.md.

python experiments/long_text/run.py
"""

import argparse
import os
import pydoc_data.topics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CYRILLIC = str.maketrans("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопярстувшхыз")
FIELDS = ("--config.data.held_out=0.01", "--config.train.eval_every=None", "--config.optim.warmup_steps=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=100, help="of the long texts, in MB")
    parser.add_argument("--num_steps", type=int, default=200)
    known = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty = measure([sys.executable, "-c", "import jax; jax.numpy.zeros(1)"])[0]
        print(f"a process that has started JAX and does nothing: {empty:.0f} MB\n")
        print("| text | unit | size, MB | start | peak memory, MB | beyond the empty process | seconds |")
        print("|---|---|---|---|---|---|---|")
        for script in ("ASCII", "Cyrillic"):
            for unit in ("character", "word"):
                for size, start in ((1.0, "first"), (1.0, "second"), (known.size, "first"), (known.size, "second")):
                    text = write_text(Path(folder), script, size)
                    peak, seconds = measure(command(text, unit, start, known.num_steps))
                    row = f"{script} | {unit} | {size:g} | {start} | {peak:.0f} | {peak - empty:.0f} | {seconds:.1f}"
                    print(f"| {row} |", flush=True)


def write_text(folder: Path, script: str, size: float) -> Path:
    """A text of at least `size` MB: the help texts of Python, repeated."""
    text = "\n".join(sorted(pydoc_data.topics.topics.values())).encode("ascii", "ignore").decode()
    data = (text if script == "ASCII" else text.translate(CYRILLIC)).encode()
    file = folder / f"{script}-{size:g}.txt"
    with open(file, "wb") as stream:
        while stream.tell() < size * 1e6:
            stream.write(data)
    return file


def command(text: Path, unit: str, start: str, num_steps: int) -> list[str]:
    """A training on the text in a new working directory. All share the folder of stored tokens."""
    paths = [f"--config.data.data_dir={text.parent / 'data'}", f"--config.data.source={text}"]
    workdir = text.parent / f"{text.stem}-{unit}-{start}"
    words = [*FIELDS, f"--config.data.unit={unit}", f"--config.train.num_steps={num_steps}", *paths]
    return [sys.executable, "-m", "cnnrnn.main", "--config", "configs/pydoc_lstm.py", *words, "--workdir", str(workdir)]


def measure(words: list[str]) -> tuple[float, float]:
    """The peak of the resident memory of a process, in MB, and its seconds.

    Raises:
      SystemExit: the process failed.
    """
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(words)}")
    return usage.ru_maxrss * 1024 / 1e6, time.perf_counter() - start


if __name__ == "__main__":
    main()
