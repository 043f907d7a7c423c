"""A new task is its own files and a config: tests/reverse_words has a source, a task, an inference and a config.

It is a task of sequence to sequence: bucketed by length, decoded greedily, scored on the host. Nothing in the package
knows of it.
"""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, assert_refused, run_command

from cnnrnn import config as configs
from cnnrnn.errors import Interrupted
from cnnrnn.training import loop, session
from cnnrnn.training.checkpoint import Checkpoints

CONFIG = "tests/reverse_words/config.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir, trained from the command line, with the module's folder on Python's path as a user's would be."""
    workdir = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(ROOT / "tests"))
        done = run_command("main", "--config", CONFIG, "--workdir", workdir)
        assert done.returncode == 0, done.stderr
        yield workdir


def test_it_reverses_every_word_it_has_never_seen(trained):
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    tests = {record["step"]: record for record in records if record["split"] == "test"}
    assert [step for step, record in tests.items() if "word_error_rate" in record] == [500, 1000]
    assert [*tests] == [250, 500, 750, 1000] and tests[1000]["word_error_rate"] == 0


def test_it_answers_from_the_command_line(trained):
    done = run_command("predict", "--workdir", trained, "abcd", "e", "dab")
    assert done.returncode == 0 and done.stdout.splitlines() == ["abcd -> dcba", "e -> e", "dab -> bad"], done.stderr
    answers = json.loads(run_command("predict", "--workdir", trained, "--json", "cab").stdout)
    assert answers == [{"word": "cab", "reversed": "bac"}]
    assert_refused(run_command("predict", "--workdir", trained, "--prompt", "abc"), 2, "no words")
    assert_refused(run_command("predict", "--workdir", trained, "abz"), 3, "'abz' has a letter 'z'")


def test_a_misspelt_field_of_it_is_one_line(trained):
    done = run_command("main", "--config", CONFIG, "--workdir", trained / "x", "--config.data.num_bukets=2")
    assert_refused(done, 2, "data.num_bukets", "did you mean num_buckets?")


@pytest.mark.parametrize("parallel", ["jit", "pmap"])
@pytest.mark.parametrize("stopped_at", [5, 12])
def test_stopped_in_a_bucketed_pass_it_ends_with_the_same_bits(tmp_path, monkeypatch, parallel, stopped_at):
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    small = {"train.num_steps": 16, "train.log_every": 4, "train.eval_every": 4, "train.decode_every": 8}
    small |= {"model.hidden_size": 8, "train.parallel": parallel, "train.steps_per_dispatch": 2}
    config = configs.load(str(ROOT / CONFIG), [(field, str(value)) for field, value in small.items()])
    loop.train(config, str(tmp_path / "unbroken"))
    original = session.Log.advance

    def interrupted(log, step):
        original(log, step)
        if step >= stopped_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(session.Log, "advance", interrupted)
        with pytest.raises(Interrupted):
            loop.train(config, str(tmp_path / "broken"))
    assert stopped_at <= Checkpoints(tmp_path / "broken" / "checkpoints").newest()[0] < 16
    loop.train(config, str(tmp_path / "broken"))
    ends = []
    for name in ("unbroken", "broken"):
        _, leaves, _ = Checkpoints(tmp_path / name / "checkpoints").newest()
        lines = sorted((tmp_path / name / "metrics.jsonl").read_text().splitlines())
        ends.append(({path: leaf.tobytes() for path, leaf in leaves.items()}, lines))
    assert ends[0] == ends[1]


def test_killed_in_a_bucketed_pass_it_ends_with_the_same_bits(tmp_path):
    """kill -9 after the first checkpoint, then the same command."""
    small = ["--config.train.num_steps=60", "--config.train.checkpoint_every=10", "--config.train.log_every=5"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["PYTHONPATH"] = str(ROOT / "tests")
    command = [sys.executable, "-m", "cnnrnn.main", "--config", CONFIG, "--workdir"]
    unbroken = subprocess.run([*command, tmp_path / "a", *small], cwd=ROOT, env=environment, capture_output=True)
    assert unbroken.returncode == 0, unbroken.stderr
    killed = subprocess.Popen(
        [*command, tmp_path / "b", *small], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    for line in killed.stdout:
        if line.startswith("step 25"):
            killed.kill()
    assert killed.wait() == -9
    assert subprocess.run([*command, tmp_path / "b", *small], cwd=ROOT, env=environment).returncode == 0
    states = [Checkpoints(tmp_path / name / "checkpoints").newest()[1] for name in "ab"]
    assert {path: leaf.tobytes() for path, leaf in states[0].items()} == {
        path: leaf.tobytes() for path, leaf in states[1].items()
    }
