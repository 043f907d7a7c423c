"""Every config is loaded, overridden field by field, built, shrunk and run for two steps."""

import json

import numpy as np
import pytest
from conftest import ROOT

from cnnrnn import config as configs
from cnnrnn.data import images
from cnnrnn.training import loop

FILES = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_runs_for_two_steps(file, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    fake = rng.integers(0, 256, (64, 28, 28, 1)).astype(np.uint8), rng.integers(0, 10, 64)
    monkeypatch.setattr(images, "_prepared", lambda *_: fake)  # stands for what would be downloaded
    config = configs.load(str(file), [("train.num_steps", "2"), ("data.batch_size", "4"), ("train.log_every", "1")])
    result = loop.train(config, str(tmp_path))
    assert 0 <= result["accuracy"] <= 1 and np.isfinite(result["loss"])
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(record["step"], record["split"]) for record in records] == [(1, "train"), (2, "train"), (2, "test")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_field_can_be_set_from_the_command_line(file):
    config = configs.load(str(file))
    for field, (value, _) in configs.differences(config, type(config)()).items():
        again = configs.load(str(file), [(field, str(value))])
        assert configs.differences(config, again) == {}, field


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_its_docstring_says_where_it_comes_from_and_what_it_scores(file):
    text = file.read_text().split('"""')[1]
    assert f"--config configs/{file.name}" in text
    for word in ("Source:", "Command:", "Score:", "seeds", "minutes"):
        assert word in text, word
