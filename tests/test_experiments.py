"""Every study runs, shortened."""

import json
import os
import subprocess
import sys

from conftest import ROOT
from PIL import Image


def test_seeds(tmp_path):
    command = [sys.executable, "experiments/seeds/run.py", "--config", "configs/digits_lenet5.py", "--seeds=2"]
    paths = ["--runs", str(tmp_path), "--figure", str(tmp_path / "figure.png")]
    done = subprocess.run(
        [*command, *paths, "--config.train.num_steps=2"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    summary = done.stdout[done.stdout.index("digits_lenet5: 2 seeds, 2 steps") :]
    assert "test accuracy" in summary and "+-" in summary and "peak memory" in summary
    assert Image.open(tmp_path / "figure.png").size[0] > 500


def test_zaremba(tmp_path):
    """On another text: the Penn Treebank is not available everywhere."""
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("the clouds are in the sky \n" * 70)
    words = ["--config.train.num_steps=4", "--config.train.eval_every=2", "--config.train.log_every=1"]
    words += [f"--config.data.source={tmp_path}", "--config.data.batch_size=4", "--config.model.hidden_size=8"]
    command = [sys.executable, "experiments/zaremba/run.py", "--runs", str(tmp_path / "runs"), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "published: validation 120.7, test 114.5" in done.stdout and "\ntest " in done.stdout
    assert Image.open(tmp_path / "runs" / "small.png").size[0] > 500


def test_throughput():
    """One workload of ours is timed. A side that cannot be timed leaves a dash: PyTorch is not required."""
    folder = ROOT / "experiments" / "throughput"
    command = [sys.executable, folder / "ours.py", "lstm_35_20_200", "step", "float32", "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["ms"] > 0 and result["peak MiB"] > 0
    row = {f"ours {what}": [result] for what in ("step float32", "forward float32", "scan float32", "step bf16")}
    row |= {f"theirs {what}": [None] for what in ("step float32", "compiled float32", "forward float32", "step bf16")}
    row |= {f"ceiling {precision}": [result] for precision in ("float32", "bf16")}
    code = "import json, sys, run; print(run.table(json.load(sys.stdin)))"
    text = json.dumps({"lstm_35_20_200": row})
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, input=text, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].startswith("| lstm_35_20_200 | -, - | ")


def test_a_step_and_its_input_overlap_can_be_measured():
    command = [sys.executable, "experiments/throughput/overlap.py", "--steps=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()[2:]] == ["0", "0", "5", "10", "20"]


def test_the_time_to_99_percent_ends_at_the_first_evaluation_that_reaches_it():
    code = "import run; print(run.time_to_target(pair for pair in [(117, 0.98), (234, 0.99), (351, 0.995)])[1])"
    folder = ROOT / "experiments" / "mnist_99"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "234", done.stderr


def test_waiting_for_images_can_be_measured(tmp_path):
    paths = ["--folder", tmp_path / "images", "--runs", tmp_path / "runs", "--figure", tmp_path / "memory.png"]
    sizes = ["--images=60", "--model=lenet5.LeNet5", "--size=28", "--batch_size=4", "--steps=2", "--turns=1"]
    done = subprocess.run(
        [sys.executable, "experiments/image_pipeline/run.py", *paths, *sizes, "--workers", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[-1].split(" | ")
    assert row[0] == "| 1" and len(row) == 7 and float(row[1]) > 100
    assert Image.open(tmp_path / "memory.png").size[0] > 500


def test_long_text(tmp_path):
    """Its text, its command and its figure of a process."""
    code = (
        "import sys; from pathlib import Path; import run\n"
        "text = run.write_text(Path(sys.argv[1]), 'Cyrillic', 0.5)\n"
        "assert 5e5 <= text.stat().st_size < 2e6 and 'ы' in text.read_text()\n"
        "words = run.command(text, 'character', 'first', 2)\n"
        "assert Path('../../', words[words.index('--config') + 1]).exists() and str(text) in ' '.join(words)\n"
        "peak, seconds = run.measure([sys.executable, '-c', 'x = bytearray(50_000_000)'])\n"
        "assert 50 < peak < 200 and 0 < seconds < 60"
    )
    folder = ROOT / "experiments" / "long_text"
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_the_compiled_loop_can_be_timed():
    command = [sys.executable, "experiments/throughput/native.py", "--only=gru_35_20_200", "--rounds=1", "--seconds=0"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 or "implementation is 'native', but there is no" in done.stderr, done.stderr
    assert done.returncode or [line[:7] for line in done.stdout.splitlines()] == ["| layer", "|---|--", "| gru_3"]


def test_padding(tmp_path):
    (tmp_path / "pairs.tsv").write_text(
        "".join(f"{'ab' * (n % 9 + 1)}{n % 7}\t{'x ' * (n % 5 + 1)}\n" for n in range(90))
    )
    words = [f"--config.data.source={tmp_path / 'pairs.tsv'}", "--config.model.hidden_size=8"]
    command = [
        sys.executable,
        "experiments/padding/run.py",
        "--config",
        "configs/cmudict_seq2seq.py",
        "--config.data.batch_size=4",
    ]
    done = subprocess.run(
        [*command, "--buckets", "1", "2", *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    one, two = (
        [float(cell) for cell in line.strip("| ").split(" | ") if "," not in cell]
        for line in done.stdout.splitlines()[-2:]
    )
    assert one[0] == 1 and two[0] == 2 and one[2] > two[2] > 0
