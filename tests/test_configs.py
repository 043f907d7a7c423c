"""Every config is loaded, overridden field by field, built, shrunk and run for two steps."""

import json

import numpy as np
import pytest
from conftest import ROOT

from cnnrnn import config as configs
from cnnrnn.data import images, text
from cnnrnn.data.vocabulary import Vocabulary
from cnnrnn.training import loop

FILES = sorted((ROOT / "configs").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_runs_for_two_steps(file, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    fake = {"image": rng.integers(0, 256, (64, 28, 28, 1)).astype(np.uint8), "label": rng.integers(0, 10, 64)}
    lines = "".join(f"{' '.join(rng.permutation(['the', 'clouds', 'are', 'in', 'sky']))}\n" for _ in range(150))
    # these stand for what would be downloaded
    monkeypatch.setattr(images, "_prepared", lambda *_: {"train": fake, "test": fake})
    monkeypatch.setattr(text, "_prepared", lambda _, splits, *__: dict.fromkeys(splits, lines))
    config = configs.load(str(file))
    small = [("train.num_steps", "2"), ("data.batch_size", "4"), ("train.log_every", "1")]
    if "window" in config.data:
        small += [("data.warmup", "0"), ("data.eval_batch_size", "256")]
        small += [
            ("optim.warmup_steps", "0"),
            ("model.hidden_size", "8"),
            ("model.embed_size", "8"),
            ("data.window", "8"),
        ]
    result = loop.train(configs.load(str(file), small), str(tmp_path))
    assert np.isfinite(list(result.values())).all()
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(record["step"], record["split"]) for record in records[:2]] == [(1, "train"), (2, "train")]
    assert {(record["step"], record["split"]) for record in records[2:]} <= {(2, "validation"), (2, "test")}
    assert len(records) > 2


@pytest.mark.parametrize(
    ("size", "hidden_size", "epochs"), [("small", 200, 13), ("medium", 650, 39), ("large", 1500, 55)]
)
def test_the_sizes_of_zaremba_and_their_passes(size, hidden_size, epochs):
    """A pass over the 929,589 tokens of the Penn Treebank is as long as the config says."""
    config = configs.load(f"{ROOT / 'configs' / 'ptb_zaremba.py'}:{size}")
    vocabulary = Vocabulary("token", ("\n", "a"))
    tokens = np.ones(929_589, np.int32)
    stream = text.TextStream(tokens, tokens, vocabulary, config.data.batch_size, config.data.window, None)
    assert config.model.hidden_size == hidden_size
    assert config.train.num_steps == epochs * stream.num_batches == epochs * config.train.eval_every


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
    for word in ("Source:", "Command:", "Hardware:", "Score:"):
        assert word in text, word
    if "Score: not measured" not in text:
        assert "seed" in text and "minutes" in text
