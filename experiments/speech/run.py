"""How well are new words and new voices recognized, and how exact are the times? Trains several seeds.

python experiments/speech/run.py

The quick start of speech recognition learns words that eSpeak NG synthesizes. A table has the error rates for words and
voices that were heard in training or not, and the errors of the times at which phones begin, against eSpeak's.
Flags --config.FIELD=VALUE are passed on to the training.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

CONFIG = "configs/espeak_ctc.py"
CELLS = {  # split: (words, voices)
    "validation": "known words, known voices",
    "new_voices": "known words, new voices",
    "new_words": "new words, known voices",
    "test": "new words, new voices",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="the number of seeds: 0, 1, ...")
    parser.add_argument("--runs", type=Path, default=Path("runs/speech"), help="for the working directories")
    known, passed_on = parser.parse_known_args()
    rates, errors, minutes = {split: [] for split in CELLS}, {split: [] for split in CELLS}, []
    for seed in range(known.seeds):
        workdir, start = known.runs / str(seed), time.perf_counter()
        command = [sys.executable, "-m", "cnnrnn.main", "--config", CONFIG, "--workdir", str(workdir)]
        subprocess.run([*command, f"--config.seed={seed}", *passed_on], check=True)
        minutes.append((time.perf_counter() - start) / 60)
        records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        for split in CELLS:
            last = [record for record in records if record["split"] == split][-1]
            rates[split].append((100 * last["phone_error_rate"], 100 * last["recording_error_rate"]))
        task, variables, splits = load(workdir)
        for split in CELLS:
            errors[split].append(boundary_errors(task, variables, splits[split]))
    print(f"\n| {known.seeds} seeds | phones wrong, % | words wrong, % | begin of a phone: median, 90 % error, ms |")
    print("|---|---|---|---|")
    for split, name in CELLS.items():
        phones, words = (spread([pair[i] for pair in rates[split]]) for i in (0, 1))
        median, most = (spread([np.percentile(one, q) for one in errors[split]], 0) for q in (50, 90))
        print(f"| {name} | {phones} | {words} | {median}, {most} |")
    print(f"\n{spread(minutes, 1)} minutes a run; {real_time(task, variables, splits['new_voices']):.0f} x real time")


def load(workdir: Path):
    """The task, the variables and the data of a run."""
    from cnnrnn import config as configs
    from cnnrnn.inference import Request, load_task
    from cnnrnn.training.workdir import read_run

    run = read_run(str(workdir))
    task, variables = load_task(Request(), run, workdir)
    return task, variables, configs.build("data", run.config.data, seed=run.config.seed)


def boundary_errors(task, variables, dataset) -> np.ndarray:
    """The absolute errors in ms of the begins of all phones, by forced alignment of the right labels."""
    import jax

    from cnnrnn.inference.speech import find_segments
    from cnnrnn.layers.ctc import ctc_align

    @jax.jit
    def align(variables, batch):
        logits, counts = task.forward(variables, (), batch)[0]
        states, _ = ctc_align(logits, counts, batch["labels"], batch["label_length"])
        return states, jax.nn.softmax(logits), counts

    errors = []
    for number in range(dataset.num_batches):
        batch = dataset.batch(number)
        states, posteriors, counts = jax.device_get(align(variables, batch))
        for row in np.flatnonzero(batch["mask"]):
            (example,) = dataset.examples(batch["index"][row : row + 1])
            segments = find_segments(
                states[row, : counts[row]], posteriors[row], example["labels"], task.info["labels"],
                task.seconds_per_frame, 0.0,
            )  # fmt: skip
            errors += [1000 * abs(s.start - right) for s, right in zip(segments, example["starts"], strict=False)]
    return np.array(errors)


def real_time(task, variables, dataset) -> float:
    """Seconds of sound that are recognized in a second, by batches of 64, with the beam; compilation left out."""
    import jax

    search = jax.jit(task.search)
    batches = [dataset.batch(number) for number in range(dataset.num_batches)]
    for _ in range(2):  # the first pass compiles
        start, sound = time.perf_counter(), 0.0
        for batch in batches:
            jax.block_until_ready(search(variables, batch))
            sound += float((batch["length"] * batch["mask"]).sum()) / task.info["sample_rate"]
    return sound / (time.perf_counter() - start)


def spread(values: list[float], digits: int = 2) -> str:
    """The mean and the standard deviation."""
    deviation = f" +- {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


if __name__ == "__main__":
    main()
