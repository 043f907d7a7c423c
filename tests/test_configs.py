"""Every config is loaded, overridden field by field, built, shrunk and run for two steps."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from cnnrnn import config as configs
from cnnrnn.data import builders
from cnnrnn.data.audio.wav import encode_wav
from cnnrnn.data.sampling import WindowSampler
from cnnrnn.training import loop

FILES = sorted((ROOT / "configs").glob("*.py"))


SMALL = {  # overrides that a config needs to run in a test, by its model
    "recurrent_lm": [
        ("data.warmup", "0"),
        ("data.eval_batch_size", "256"),
        ("optim.warmup_steps", "0"),
        ("model.hidden_size", "8"),
        ("model.embed_size", "8"),
        ("data.window", "8"),
    ],
    "seq2seq": [
        ("optim.warmup_steps", "0"),
        ("data.eval_batch_size", "512"),
        ("data.num_buckets", "1"),
        ("task.beam_size", "1"),
        ("model.hidden_size", "8"),
    ],
    "bilstm_ctc": [("optim.warmup_steps", "0"), ("model.hidden_size", "8"), ("model.num_layers", "1")],
    "lenet5_1998": [("optim.warmup_steps", "0")],
    "harley": [("optim.warmup_steps", "0")],
    "cifar_net": [("data.eval_batch_size", "16"), ("task.ten_crops", "False")],
    "alexnet_2012": [
        ("data.size", "72"),
        ("task.crop", "67"),
        ("task.ten_crops", "False"),
        ("model.hidden_size", "8"),
        ("data.workers", "0"),
    ],
}


def write_images(folder: Path, classes: int = 3, each: int = 4) -> Path:
    """A set of small photographs of noise, FOLDER/CLASS/*.png."""
    rng = np.random.default_rng(0)
    for name in range(classes):
        (folder / f"class{name}").mkdir(parents=True)
        for number in range(each):
            pixels = rng.integers(0, 256, (80, 90, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{name}" / f"{number}.png")
    return folder


def write_pairs(folder: Path, languages: tuple[str, str] | None) -> Path:
    """A folder of sentences in two languages, or of a lexicon with pronunciations."""
    folder.mkdir()
    words = [f"{a}{b}{c}" for a in "abc" for b in "def" for c in ("", "g", "hi")]
    if languages is None:
        for split in ("train", "ref"):
            (folder / f"g014b2b.{split}").write_text("".join(f"{word}\tAH K{n % 3}\n" for n, word in enumerate(words)))
    for split in ("train", "val", "test_2016_flickr"):
        for language in languages or ():
            (folder / f"{split}.{language}").write_text("".join(f"{word} {word[::-1]} dog.\n" for word in words))
    return folder


def write_recordings(folder: Path) -> Path:
    """A folder of noise with transcripts."""
    folder.mkdir()
    for number in range(40):
        samples = np.random.default_rng(number).normal(size=6000) / 10
        (folder / f"{number}.wav").write_bytes(encode_wav(samples, 16000))
        (folder / f"{number}.txt").write_text("a b")
    return folder


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_runs_for_two_steps(file, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lines = "".join(f"{' '.join(rng.permutation(['the', 'clouds', 'are', 'in', 'sky']))}\n" for _ in range(150))

    def fake(builder: str, splits, *_):
        if builder.startswith("text."):
            return {split: {"text": np.frombuffer(lines.encode(), np.uint8)} for split in splits}
        shape = (64, 32, 32, 3) if builder == "cifar10.Cifar10" else (64, 28, 28, 1)
        arrays = {"image": rng.integers(0, 256, shape).astype(np.uint8), "label": rng.integers(0, 10, 64)}
        return {"train": arrays, "test": arrays}

    monkeypatch.setattr(builders, "load", fake)  # in place of a download
    config = configs.load(str(file))
    small = [("train.num_steps", "2"), ("data.batch_size", "4"), ("train.log_every", "1")]
    small += SMALL.get(config.model.name.partition(".")[0], [])
    if config.data.get("source") == "cmudict":
        small += [("data.held_out", "0.005")]
    elif config.data.name == "bitext.pairs":
        small += [
            ("data.held_out", "0.3"),
            ("data.source", str(write_pairs(tmp_path / "pairs", config.data.get("languages")))),
        ]
    if config.data.name == "audio.recordings.recordings":
        small += [("data.held_out", "0.3"), ("data.source", str(write_recordings(tmp_path / "recordings")))]
    if config.data.name == "images.custom.image_set":
        small += [("data.source", str(write_images(tmp_path / "images")))]
    tmp_path = tmp_path / "run"
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
    sampler = WindowSampler(929_589, config.data.batch_size, config.data.window, None)
    assert config.model.hidden_size == hidden_size
    assert config.train.num_steps == epochs * sampler.num_batches == epochs * config.train.eval_every


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
