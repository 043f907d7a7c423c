"""The command line as a user types it: every error of the user is one line with its exit code, before any training."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, assert_refused, run_command
from PIL import Image

DIGITS = "configs/digits_lenet5.py"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--config", DIGITS], "no --workdir"),
        (["--workdir", "w"], "no --config"),
        (["--config", DIGITS, "--workdir="], "no --workdir"),
        (["--config", "nope.py", "--workdir", "w"], "configs/digits_lenet5.py"),
        (["--config", "configs/digit_lenet5.py", "--workdir", "w"], "did you mean configs/digits_lenet5.py?"),
        (["--confg", DIGITS, "--workdir", "w"], "did you mean --config?"),
        (["--confg.optim.learning_rate=1"], "did you mean --config.optim.learning_rate?"),
        (["--optim.learning_rate=1"], "did you mean --config.optim.learning_rate?"),
        (["--config", DIGITS, "--workdir", "w", "--config.optim.learning_rat=1"], "did you mean learning_rate?"),
        (["--config", DIGITS, "--workdir", "w", "--config.train.num_steps=-5"], "at least 1"),
        (["--config", DIGITS, "--workdir", "w", "stray"], "stray word 'stray'"),
        (["--config", DIGITS, "--workdir", "w", "--debug=maybe"], "--debug"),
    ],
)
def test_wrong_flags_are_usage_errors(words, hint):
    assert_refused(run_command("main", *words), 2, hint)


def heavy_imports(program: str, *words: str) -> tuple[str, str, list[str]]:
    """What a program prints on stdout and stderr, and which heavy modules it imports."""
    code = (
        f"import sys, runpy; sys.argv = ['x', *{words!r}]\n"
        f"try: runpy.run_module('cnnrnn.{program}', run_name='__main__')\n"
        "finally: print([m for m in ('jax', 'flax', 'numpy', 'orbax') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    *errors, imported = done.stderr.strip().splitlines()
    return done.stdout, "".join(errors), imported


@pytest.mark.parametrize("program", ["main", "predict"])
def test_help_imports_nothing_heavy(program):
    text, errors, imported = heavy_imports(program, "--help")
    assert "--workdir" in text and "--debug" in text and not errors
    assert imported == "[]"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--confg", DIGITS, "--workdir", "w"], "did you mean --config?"),
        (["--config", "configs/digit_lenet5.py", "--workdir", "w"], "did you mean configs/digits_lenet5.py?"),
        (["--config", DIGITS, "--workdir", "w", "--config.optm.learning_rate=1"], "did you mean optim?"),
        (
            [
                "--config",
                DIGITS,
                "--workdir",
                "w",
                "--config.seed=1",
                "--config.data.batch_size=3",
                "--config.optm.x=1",
            ],
            "did you mean optim?",
        ),
    ],
)
def test_what_is_known_to_be_wrong_before_jax_is_imported(words, hint):
    _, errors, imported = heavy_imports("main", *words)
    assert hint in errors
    assert "jax" not in imported and "flax" not in imported


def test_a_workdir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    done = run_command("main", "--config", DIGITS, "--workdir", tmp_path / "file" / "run")
    assert_refused(done, 6, "cannot write in")


def test_a_full_disk_is_one_line(tmp_path):
    words = f"-m cnnrnn.main --config {DIGITS} --workdir {tmp_path / 'w'}"
    script = f"ulimit -f 1; exec {sys.executable} {words}"  # no file may grow beyond 1 KiB
    programs = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}  # those that are cut short reach no other test
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=os.environ | programs, capture_output=True, text=True)
    assert done.returncode == 6, done.stderr
    assert any(line.startswith("cnnrnn: error: ") for line in done.stderr.splitlines()), done.stderr


def test_a_device_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    assert_refused(run_command("main", "--config", DIGITS, "--workdir", tmp_path / "w"), 2, "JAX cannot start")


def test_an_implementation_that_needs_another_device(tmp_path):
    words = ["--config", "configs/pydoc_lstm.py", "--workdir", tmp_path / "w", "--config.model.implementation=cudnn"]
    assert_refused(run_command("main", *words), 2, "model: implementation is 'cudnn', but JAX runs on 1 x cpu")


def test_a_closed_stdout_ends_no_training(tmp_path):
    words = ["--config", DIGITS, "--workdir", str(tmp_path / "w"), "--config.train.num_steps=5"]
    command = [sys.executable, "-m", "cnnrnn.main", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(120) == 0 and errors == ""
    assert (tmp_path / "w" / "checkpoints" / "5").is_dir() and not (tmp_path / "w" / "FAILED").exists()


def test_debug_shows_the_traceback():
    done = run_command("main", "--config", "nope.py", "--workdir", "w", "--debug")
    assert "Traceback" in done.stderr and "ConfigError" in done.stderr and done.returncode == 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained run, its directory's name with a space and an accent, and its console output."""
    workdir = tmp_path_factory.mktemp("a run") / "chiffres dorés"
    done = run_command(
        "main", "--config", DIGITS, "--workdir", workdir, "--config.train.num_steps=200", "--config.train.log_every=100"
    )
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_leaves_its_files(trained):
    workdir, done = trained
    left = {file.name for file in workdir.iterdir()}
    files = ["config.json", "dataset.json", "metrics.jsonl", "model.txt", "curves.png", "tensorboard", "checkpoints"]
    assert {*files} <= left
    assert "FAILED" not in left
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["split"] == "test" and records[-1]["step"] == 200 and records[-1]["accuracy"] > 0.7
    assert (workdir / "checkpoints" / "200").is_dir()
    assert Image.open(workdir / "curves.png").size[0] > 800
    assert list((workdir / "tensorboard").glob("events.out.tfevents.*"))
    assert "61,706" in done.stdout and "61,706" in (workdir / "model.txt").read_text()
    assert "test accuracy 0." in done.stdout.splitlines()[-2]


def test_the_same_command_again_trains_nothing_and_prints_the_same_result(trained):
    workdir, done = trained
    before = (workdir / "metrics.jsonl").read_bytes()
    again = run_command(
        "main", "--config", DIGITS, "--workdir", workdir, "--config.train.num_steps=200", "--config.train.log_every=100"
    )
    assert again.returncode == 0
    assert again.stdout.splitlines()[-2].split("after")[0] == done.stdout.splitlines()[-2].split("after")[0]
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_another_config_is_refused_in_the_same_workdir(trained):
    done = run_command("main", "--config", DIGITS, "--workdir", trained[0], "--config.optim.learning_rate=0.5")
    assert_refused(done, 2, "optim.learning_rate is 0.5", "0.02")


def test_a_run_of_another_version_is_refused(trained, tmp_path):
    """By training and by prediction, in one line, and not as damage."""
    shutil.copytree(trained[0], tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    config["data"]["name"] = "images.digits"
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    for words in (["main", "--config", DIGITS], ["predict", "seven.png"]):
        done = run_command(words[0], "--workdir", tmp_path / "old", *words[1:])
        assert_refused(done, 6, "config.json was written by another version of cnnrnn: data.name is", "choose another")


@pytest.fixture
def images(tmp_path):
    """Held-out digits as a user's files: as they are, large dark on light in colour; and files that are no images."""
    from cnnrnn.data.images.published import digits

    source = digits(0)["test"].source
    array = source[0]["image"][..., 0]
    plain, photo = tmp_path / "plain.png", tmp_path / "a photo.jpg"
    Image.fromarray(array).save(plain)
    large = Image.fromarray(255 - array).resize((280, 280)).convert("RGB")
    canvas = Image.new("RGB", (500, 400), "white")
    canvas.paste(large, (150, 60))
    canvas.save(photo)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes(plain.read_bytes()[:90])
    return tmp_path, str(source[0]["label"])


def test_predict_answers_in_lines_and_in_json(trained, images):
    folder, label = images
    files = [folder / "plain.png", folder / "a photo.jpg"]
    assert len(json.loads(run_command("predict", "--workdir", trained[0], *files[:1] * 2, "--json").stdout)) == 2
    done = run_command("predict", "--workdir", trained[0], *files, "--top=3")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 8 and lines[0] == str(files[0]) and lines[4] == str(files[1])
    assert all(line.split()[1] == label and line.split()[0].endswith("%") for line in (lines[1], lines[5])), lines
    answers = json.loads(run_command("predict", "--workdir", trained[0], *files, "--json").stdout)
    for answer in answers:
        probabilities = [row["probability"] for row in answer["classes"]]
        assert len(probabilities) == 10 and probabilities == sorted(probabilities, reverse=True)
        np.testing.assert_allclose(sum(probabilities), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["text.png", "cut.png", "missing.png", "folder.png"])
def test_predict_refuses_a_file_that_is_no_image_and_answers_the_others(trained, images, name):
    folder, _ = images
    done = run_command("predict", "--workdir", trained[0], folder / name, folder / "plain.png")
    assert_refused(done, 3, name)
    assert done.stdout.splitlines()[0] == str(folder / "plain.png")


def test_predict_needs_a_trained_run(tmp_path):
    assert_refused(run_command("predict", "--workdir", tmp_path, "x.png"), 6, "no trained run")
    assert_refused(run_command("predict", "x.png"), 2, "no --workdir")
    assert_refused(run_command("predict", "--workdir", tmp_path), 2, "nothing to answer")
    assert_refused(run_command("predict", "--workdir", tmp_path, "--top=0", "x.png"), 2, "--top")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0])
def test_a_signal_before_the_first_step_is_one_line(tmp_path, number, seconds):
    """While libraries are imported, or the model is built: no traceback, and never ignored."""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    words = [sys.executable, "-m", "cnnrnn.main", "--config", DIGITS, "--workdir", str(tmp_path / "run")]
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(seconds)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert errors.startswith("cnnrnn: ") and "the same command continues" in errors and len(errors.splitlines()) == 1


def test_an_argument_of_the_rule_is_no_misspelt_field(tmp_path):
    """weight_decay_rate of adafactor is near weight_decay; and a value of another type is refused."""
    words = ["--config", DIGITS, "--workdir", tmp_path / "run", "--config.train.num_steps=1"]
    words += ["--config.optim.momentum=None", "--config.optim.schedule=constant"]
    adafactor = ["--config.optim.name=adafactor", "--config.optim.weight_decay=0"]
    done = run_command("main", *words, *adafactor, "--config.optim.weight_decay_rate=1e-3")
    assert done.returncode == 0, done.stderr
    done = run_command("main", *words, "--config.optim.nesterov=Flase", "--workdir", tmp_path / "other")
    assert_refused(done, 2, "optim: nesterov is 'Flase' - it takes true or false")
