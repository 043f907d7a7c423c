"""Every study runs, shortened."""

import subprocess
import sys

from conftest import ROOT
from PIL import Image


def test_seeds(tmp_path):
    command = [sys.executable, "experiments/seeds/run.py", "--config", "configs/digits_lenet5.py", "--seeds=2"]
    places = ["--runs", str(tmp_path), "--figure", str(tmp_path / "figure.png")]
    done = subprocess.run(
        [*command, *places, "--config.train.num_steps=2"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    summary = done.stdout[done.stdout.index("digits_lenet5: 2 seeds, 2 steps") :]
    assert "test accuracy" in summary and "+-" in summary and "peak memory" in summary
    assert Image.open(tmp_path / "figure.png").size[0] > 500
