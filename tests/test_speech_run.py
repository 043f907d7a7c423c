"""A run on a user's own recordings, from the command line: trained, asked, and refused in one line."""

import json
import re

import numpy as np
import pytest
from conftest import assert_refused, run_command
from PIL import Image

from cnnrnn.data.audio.wav import encode_wav

CONFIG = "configs/espeak_ctc.py"
RATE = 8000
TONES = {"low": 300.0, "mid": 900.0, "high": 2500.0}
SMALL = [
    f"--config.data.sample_rate={RATE}",
    "--config.data.held_out=0.15",
    "--config.data.batch_size=16",
    "--config.data.num_buckets=2",
    "--config.model.hidden_size=24",
    "--config.model.num_layers=1",
    "--config.task.num_mels=20",
    "--config.task.normalization=global",  # one tone alone has no variance
    "--config.task.time_masks=0",
    "--config.task.frequency_masks=0",
    "--config.optim.learning_rate=0.02",
    "--config.optim.warmup_steps=10",
    "--config.train.num_steps=400",
    "--config.train.eval_every=200",
]


def tones(names, rate=RATE):
    """A fifth of a second of each tone, in a little noise."""
    time = np.arange(rate // 5) / rate
    clean = np.concatenate([0.5 * np.sin(2 * np.pi * TONES[name] * time) for name in names])
    noise = np.random.default_rng(1).normal(size=len(clean))
    return clean + 0.01 * np.sqrt(rate / RATE) * noise  # as loud in each band at every rate


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(0)
    (folder / "sounds").mkdir()
    for number in range(60):
        names = rng.permutation(list(TONES))[: 1 + number % 3]
        (folder / "sounds" / f"{number}.wav").write_bytes(encode_wav(tones(names), RATE))
        (folder / "sounds" / f"{number}.lab").write_text(" ".join(names))
    workdir = folder / "run"
    words = ["--config", CONFIG, "--workdir", workdir, f"--config.data.source={folder / 'sounds'}", *SMALL]
    done = run_command("main", *words)
    assert done.returncode == 0, done.stderr
    return workdir, folder, done


def test_it_learns_and_leaves_its_predictions(trained):
    workdir, _, done = trained
    last = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["split"] == "test" and last["phone_error_rate"] < 0.05 and last["too_short"] == 0
    predictions = (workdir / "predictions.test.txt").read_text().splitlines()
    assert predictions and all(set(line.split()) <= TONES.keys() for line in predictions)
    assert re.search(r"\d+\.wav: .* \(.*\)", done.stdout)


def test_recordings_are_recognized_with_their_times(trained, tmp_path):
    workdir = trained[0]
    (tmp_path / "a b.wav").write_bytes(encode_wav(tones(["high", "low", "mid"]), RATE))
    (tmp_path / "two.wav").write_bytes(encode_wav(tones(["mid", "high"], 2 * RATE), 2 * RATE))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    files = [tmp_path / name for name in ("a b.wav", "bad.wav", "two.wav")]
    outputs = ["--ctm", tmp_path / "a.ctm", "--textgrid", tmp_path / "grids", "--plot", tmp_path / "a.png"]
    done = run_command("predict", "--workdir", workdir, *files, "--top=2", "--json", *outputs)
    assert done.returncode == 3 and "bad.wav: it is not a WAV file" in done.stderr
    first, second = json.loads(done.stdout)
    assert first["transcripts"][0]["labels"] == ["high", "low", "mid"] and len(first["transcripts"]) == 2
    assert second["transcripts"][0]["labels"] == ["mid", "high"]
    starts = [segment["start"] for segment in first["segments"]]
    assert starts == pytest.approx([0, 0.2, 0.4], abs=0.08)
    assert first["segments"][2]["end"] == pytest.approx(0.6) and 0.5 < first["segments"][0]["probability"] <= 1
    ctm = [line.split() for line in (tmp_path / "a.ctm").read_text().splitlines()]
    assert [row[4] for row in ctm] == ["high", "low", "mid", "mid", "high"] and ctm[0][:2] == ["a_b", "1"]
    assert float(ctm[1][2]) == pytest.approx(starts[1], abs=1e-3)
    grid = (tmp_path / "grids" / "two.TextGrid").read_text()
    assert grid.startswith('File type = "ooTextFile"') and 'text = "mid"' in grid and "xmax = 0.400000" in grid
    assert Image.open(tmp_path / "a.png").size[0] > 400


@pytest.mark.parametrize(
    ("words", "exit_code", "hint"),
    [
        (["none.wav"], 3, "cannot read none.wav: No such file"),
        (["pyproject.toml"], 3, "pyproject.toml: it is not a WAV file"),
        (["a.wav", "--plot=/no/such/folder/a.png"], 2, "--plot: there is no folder /no/such/folder"),
        (["--prompt=hello"], 2, "--prompt is for runs on text - name WAV files"),
        (["a.wav", "--score=a.txt"], 2, "--score is for runs of another kind"),
    ],
)
def test_a_wrong_question_is_one_line(trained, words, exit_code, hint):
    assert_refused(run_command("predict", "--workdir", trained[0], *words), exit_code, hint)
