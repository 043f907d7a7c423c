"""Trains a language model of Zaremba et al. 2014 on the Penn Treebank and draws its curve beside the published results.

python experiments/zaremba/run.py --size small --config.data.manual_dir=FOLDER

A run that was stopped continues. Flags that are unknown here, --config.FIELD=VALUE, are passed on to it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from cnnrnn import plots
from cnnrnn.config import load

PUBLISHED = {"small": (120.7, 114.5), "medium": (86.2, 82.7), "large": (82.2, 78.4)}  # validation, test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=PUBLISHED, default="small")
    parser.add_argument("--runs", type=Path, default=Path("runs/zaremba"), help="for the working directory")
    parser.add_argument("--figure", type=Path, help="the PNG to draw; by default beside the working directory")
    known, passed_on = parser.parse_known_args()
    config, workdir = f"configs/ptb_zaremba.py:{known.size}", known.runs / known.size
    command = [sys.executable, "-m", "cnnrnn.main", "--config", config, "--workdir", str(workdir)]
    subprocess.run([*command, *passed_on], check=True)

    epoch = load(config).train.eval_every
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    print(f"\n{known.size}\nepoch  validation perplexity")
    trained, validated, tested = (by_epoch(records, split, epoch) for split in ("train", "validation", "test"))
    for number, perplexity in validated:
        print(f"{number:5g}  {perplexity:.1f}")
    print(f"test {tested[-1][1]:.1f} after {tested[-1][0]:g} epochs")
    print(f"published: validation {PUBLISHED[known.size][0]}, test {PUBLISHED[known.size][1]}")
    published = zip(("validation", "test"), PUBLISHED[known.size], strict=True)
    plots.curves(
        {"perplexity": {"train": trained, "validation": validated, "test": tested}},
        known.figure or known.runs / f"{known.size}.png",
        f"LSTM of Zaremba et al. 2014, {known.size}",
        unit="epoch",
        references={"perplexity": {f"published, {split}": value for split, value in published}},
    )


def by_epoch(records: list[dict], split: str, epoch: int) -> list[tuple[float, float]]:
    """(epochs, perplexity) of each record of a split."""
    return [(record["step"] / epoch, record["perplexity"]) for record in records if record["split"] == split]


if __name__ == "__main__":
    main()
