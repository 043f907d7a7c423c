"""Names that a user gives may have any character: they break no run, no line and no terminal; files keep them."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from conftest import ROOT, run_command
from PIL import Image

from cnnrnn import command
from cnnrnn.errors import ConfigError, DataError, one_line
from cnnrnn.training import log

LATIN_1 = os.fsdecode(b"caf\xe9")  # a name that is not UTF-8
HOSTILE = "two\nlines\t\x1b[2J\x9b\u202egnp\u2028"  # ends lines, clears the screen, turns the direction
ESCAPED = r"two\nlines\t\x1b[2J\x9b\u202egnp\u2028"


def write_images(folder: str, names: list[str]) -> None:
    os.makedirs(folder)
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(os.path.join(folder, name))


def test_a_run_on_names_that_are_not_utf8(tmp_path):
    """Trained, reported and asked; what it stores reads back to the same names."""
    images, names = os.path.join(tmp_path, LATIN_1), sorted([LATIN_1, "cost_$5_{x}", HOSTILE, "नमस्ते"])
    for name in names:
        write_images(os.path.join(images, name), [f"{name} {number}.png" for number in range(2)])
    config, workdir = os.path.join(tmp_path, f"{LATIN_1}.py"), tmp_path / "a_$5_{run}"
    shutil.copy(ROOT / "configs" / "custom_images.py", config)
    fields = ["--config.train.num_steps=2", "--config.data.batch_size=4"]
    done = run_command("main", "--config", config, f"--config.data.source={images}", *fields, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert len(done.stderr.splitlines()) <= 2  # a line for each of two pictures
    assert "no report" not in done.stderr and "Warning" not in done.stderr
    assert {"curves.png", "mistakes.png", "report.json"} <= {*os.listdir(workdir)}
    assert json.loads((workdir / "dataset.json").read_text())["class_names"] == names
    assert json.loads((workdir / "config.json").read_text())["data"]["source"] == images

    file = os.path.join(images, LATIN_1, f"{LATIN_1} 0.png")
    done = run_command("predict", "--json", "--workdir", workdir, file, os.path.join(images, f"{HOSTILE}.png"))
    (answer,) = json.loads(done.stdout)
    assert answer["file"] == file and sorted(row["name"] for row in answer["classes"]) == names
    assert done.returncode == 3 and rf"caf\xe9/{ESCAPED}.png - check the name" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_package_that_jax_cannot_run(tmp_path):
    """In a folder whose name is not UTF-8: one line before JAX is imported, which would say std::bad_cast."""
    os.symlink(ROOT, os.path.join(tmp_path, LATIN_1))
    done = subprocess.run(
        [sys.executable, "-m", "cnnrnn.main", "--config", "nope.py", "--workdir", "w"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.path.join(tmp_path, LATIN_1)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("cnnrnn: error: the path of cnnrnn, ") and r"caf\xe9/cnnrnn, is not UTF-8 - " in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HOSTILE, ESCAPED),
        (LATIN_1, r"caf\xe9"),
        ("\r\x00\x7f\x85\u2029", r"\r\x00\x7f\x85\u2029"),
        ("\u061c\u200e\u200f\u202a\u202d\u2066\u2069\ud83d", r"\u061c\u200e\u200f\u202a\u202d\u2066\u2069\ud83d"),
        ("a  b", "a  b"),  # nobody would find "a b"
        ("नमस्ते क्\u200dष می\u200cخواهم 中 😀", "नमस्ते क्\u200dष می\u200cخواهم 中 😀"),  # joiners belong to words
    ],
)
def test_one_line(text, line):
    assert one_line(text) == line and one_line(line) == line
    assert str(DataError(f"no file {text} - check the name")) == f"no file {line} - check the name"


def test_the_text_of_a_library_is_joined_and_a_name_beside_it_is_escaped():
    with pytest.raises(ConfigError) as raised:
        try:
            raise ValueError("shapes differ:\n    (3, 4)\n    \x1b(5,)")
        except ValueError as error:
            raise ConfigError(f"{HOSTILE}: {error} - fix it") from error
    assert str(raised.value) == rf"{ESCAPED}: shapes differ: (3, 4) \x1b(5,) - fix it"


def test_what_is_printed_controls_no_terminal(capsys):
    command.echo(f"{HOSTILE}\nthe next line")
    command.note(f"left out {HOSTILE}")
    output = capsys.readouterr()
    assert output.out.split("\n") == ["two", *ESCAPED.removeprefix(r"two\n").split("\n"), "the next line", ""]
    assert output.err == f"left out {ESCAPED}\n"


@pytest.mark.parametrize("flags", [[], ["--debug"]])
def test_the_error_of_a_bug_controls_no_terminal(flags):
    code = f"from cnnrnn import command\ndef main(argv): raise OSError({HOSTILE!r})\ncommand.run(main)"
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.split("\n")[-2].startswith(r"cnnrnn: bug: OSError: two lines \x1b[2J\x9b\u202egnp - ")
    assert not {*"\t\x1b\x9b\u202e\u2028"} & {*done.stderr}
    assert ("Traceback" in done.stderr) == bool(flags)


METRICS = {"[red]loss": 1.0, ":smile:": 2.0, "_x": 3.0, HOSTILE: 4.0, LATIN_1: 5.0}
DESCRIBED = rf"[red]loss 1  :smile: 2  _x 3  {ESCAPED} 4  caf\xe9 5"


@pytest.mark.parametrize("terminal", [True, False])
def test_metrics_are_printed_under_their_names(tmp_path, monkeypatch, capsys, terminal):
    """Neither markup nor control characters; beside a progress bar and without one."""
    monkeypatch.setattr(log, "Console", partial(log.Console, force_terminal=terminal, width=400, color_system=None))
    with log.Log(tmp_path, 0, end=9) as writer:
        for split in ("train", "[b]test"):
            writer.write(5, split, METRICS)
            writer.advance(5)
    output = capsys.readouterr()
    printed = output.err if terminal else output.out
    assert f"step 5  [b]test {DESCRIBED}\n" in printed
    assert f"train {DESCRIBED}   [b]test {DESCRIBED}" in printed or not terminal  # of the bar
    assert not {"\x9b", "\u202e", "\u2028"} & {*printed}
    assert log.read(tmp_path / "metrics.jsonl")[0] == {"step": 5, "split": "train", **METRICS}
