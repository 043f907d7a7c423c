"""Whole runs: stopped, killed and resumed, they end with the bits of an unbroken run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_command
from ml_collections import ConfigDict

from cnnrnn.data.dataset import Dataset
from cnnrnn.data.sampling import SequentialSampler
from cnnrnn.errors import ConfigError, DataError, Interrupted, NumericalError
from cnnrnn.layers.cpu.native.loop import unsupported_reason
from cnnrnn.layers.rnn.cells import LSTM
from cnnrnn.training import loop, session
from cnnrnn.training.checkpoint import Checkpoints

DIGITS = [
    "--config",
    "configs/digits_lenet5.py",
    "--config.model.name=convnet.ConvNet",
    "--config.model.features=(4,4,8)",
]
SHORT = [
    "--config.train.num_steps=60",
    "--config.train.log_every=7",
    "--config.train.eval_every=20",
    "--config.train.checkpoint_every=10",
]


def state_and_metrics(workdir: Path):
    """All arrays of the newest checkpoint as bytes, and all metrics."""
    _, leaves, record = Checkpoints(workdir / "checkpoints").newest()
    return (
        {path: leaf.tobytes() for path, leaf in leaves.items()},
        record["sums"],
        (workdir / "metrics.jsonl").read_text(),
    )


def train_and_stop(config, workdir: Path, monkeypatch, method: str, step: int) -> None:
    """Trains until a method of the log is called at a step, where a signal arrives."""
    original = getattr(session.Log, method)

    def interrupted(log, at, *rest):
        original(log, at, *rest)
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(session.Log, method, interrupted)
        with pytest.raises(Interrupted, match="stopped by SIGTERM at step [0-9]+ of 12, saved"):
            loop.train(config, str(workdir))
    assert not (workdir / "FAILED").exists()


@pytest.mark.parametrize(
    ("parallel", "method", "step"),
    [("jit", "write", 4), ("pmap", "write", 4), ("jit", "advance", 5)],  # at a report; after a step
)
def test_stopped_and_resumed_ends_with_the_same_bits(tmp_path, config, parallel, method, step, monkeypatch):
    config.train.parallel = parallel
    config.task.max_shift = 1  # randomness inside the step
    loop.train(config, str(tmp_path / "unbroken"))
    train_and_stop(config, tmp_path / "broken", monkeypatch, method, step)
    loop.train(config, str(tmp_path / "broken"))
    assert state_and_metrics(tmp_path / "broken") == state_and_metrics(tmp_path / "unbroken")


@pytest.mark.parametrize(
    ("parallel", "implementation"), [("jit", "scan"), ("pmap", "scan"), ("jit", "native"), ("pmap", "native")]
)
def test_with_a_carry_and_an_average_it_ends_with_the_same_bits(tmp_path, parallel, implementation, monkeypatch):
    """Stopped in the second pass over a text, it continues with the carry and with NT-ASGD's average."""
    if implementation == "native" and (reason := unsupported_reason(LSTM(), np.zeros((1, 1, 1), np.float32))):
        pytest.skip(reason)
    (tmp_path / "text.txt").write_text("the clouds are in the sky\n" * 20)
    config = ConfigDict(
        dict(
            seed=0,
            task=dict(name="language_modelling.LanguageModelling", temporal_activation_reg=1.0),
            model=dict(
                name="recurrent_lm.RecurrentLM",
                hidden_size=8,
                output_dropout_rate=0.5,
                weight_dropout_rate=0.5,
                implementation=implementation,
            ),
            data=dict(name="text.stream", source=str(tmp_path / "text.txt"), batch_size=4, window=16, warmup=16),
            optim=dict(name="sgd", learning_rate=3.0, clip_norm=0.5, nonmono=1),  # too large: it averages soon
            train=dict(num_steps=12, log_every=3, eval_every=2, checkpoint_every=6, parallel=parallel),
        )
    )
    loop.train(config, str(tmp_path / "unbroken"))
    train_and_stop(config, tmp_path / "broken", monkeypatch, "advance", 9)
    _, stopped, _ = Checkpoints(tmp_path / "broken" / "checkpoints").newest()
    assert stopped["opt_state/2/count"] > 0  # it had begun to average
    loop.train(config, str(tmp_path / "broken"))
    unbroken = state_and_metrics(tmp_path / "unbroken")
    assert state_and_metrics(tmp_path / "broken") == unbroken
    assert any(path.startswith("carry/") and any(leaf) for path, leaf in unbroken[0].items())


def test_stopped_and_told_to_end_there_it_is_evaluated(tmp_path, config, monkeypatch):
    train_and_stop(config, tmp_path, monkeypatch, "write", 4)
    config.train.num_steps = 4
    assert loop.train(config, str(tmp_path))["accuracy"] >= 0


def test_a_batch_that_cannot_be_read_loses_nothing(tmp_path, config, monkeypatch):
    loop.train(config, str(tmp_path / "unbroken"))
    original = loop.BatchLoader.batches

    def broken(loader, step, count):
        if step == 8:
            raise DataError("cat.jpg is broken - replace it")
        return original(loader, step, count)

    for _ in range(2):  # the second time nothing is new, and the saved step stays as it is
        with monkeypatch.context() as patched:
            patched.setattr(loop.BatchLoader, "batches", broken)
            with pytest.raises(DataError, match=r"cat\.jpg"):
                loop.train(config, str(tmp_path / "broken"))
        assert Checkpoints(tmp_path / "broken" / "checkpoints").newest()[0] == 8
    loop.train(config, str(tmp_path / "broken"))
    assert state_and_metrics(tmp_path / "broken") == state_and_metrics(tmp_path / "unbroken")


def test_an_evaluation_that_cannot_be_read_loses_nothing(tmp_path, config, monkeypatch):
    loop.train(config, str(tmp_path / "unbroken"))

    def broken(*given, **how):
        raise DataError("dog.jpg is broken - replace it")

    with monkeypatch.context() as patched:
        patched.setattr(loop.Evaluator, "__call__", broken)
        with pytest.raises(DataError, match=r"dog\.jpg"):
            loop.train(config, str(tmp_path / "broken"))
    assert Checkpoints(tmp_path / "broken" / "checkpoints").newest()[0] == 6
    loop.train(config, str(tmp_path / "broken"))
    assert state_and_metrics(tmp_path / "broken") == state_and_metrics(tmp_path / "unbroken")


@pytest.mark.parametrize("num_steps", [12, 6])
def test_a_signal_in_a_long_evaluation_is_heard_between_its_batches(tmp_path, config, monkeypatch, num_steps):
    """Stopped in the evaluation at step 6, which may be the end, it is evaluated there by the next start."""
    config.data.eval_batch_size = 100  # ten batches
    config.train.num_steps = num_steps
    loop.train(config, str(tmp_path / "unbroken"))
    original, calls = Dataset.batch, []

    def interrupted(dataset, step):
        if isinstance(dataset.sampler, SequentialSampler):
            calls.append(step)
            if step == 3:
                os.kill(os.getpid(), signal.SIGTERM)
        return original(dataset, step)

    with monkeypatch.context() as patched:
        patched.setattr(Dataset, "batch", interrupted)
        with pytest.raises(Interrupted, match=f"stopped by SIGTERM at step 6 of {num_steps}, saved"):
            loop.train(config, str(tmp_path / "broken"))
    assert calls == [0, 1, 2, 3]
    loop.train(config, str(tmp_path / "broken"))
    assert state_and_metrics(tmp_path / "broken") == state_and_metrics(tmp_path / "unbroken")


def test_a_value_error_of_a_model_names_the_section(tmp_path, config):
    config.task.crop = 99
    with pytest.raises(ConfigError, match="task: crop is 99 for images of 28 x 28"):
        loop.train(config, str(tmp_path))
    config.task.crop = None
    config.model = ConfigDict(dict(name="batchnorm_net.BatchNormNet", features=(4,) * 6))
    with pytest.raises(ConfigError, match="model: "):
        loop.train(config, str(tmp_path))


def test_a_pattern_that_matches_no_parameter_is_refused(tmp_path, config):
    config.optim.rate_multipliers = (("convv*/kernel", 2.0),)
    with pytest.raises(ConfigError, match="optim: the pattern 'convv"):
        loop.train(config, str(tmp_path))


def test_batch_normalisation_does_not_see_padding(tmp_path, config):
    """Four devices here; six images would be padded to eight."""
    config.model = ConfigDict(dict(name="batchnorm_net.BatchNormNet", features=(4, 4), hidden_size=8))
    config.data.batch_size = 6
    with pytest.raises(ConfigError, match="take a multiple of 4"):
        loop.train(config, str(tmp_path))


def test_a_larger_num_steps_goes_on(tmp_path, config):
    loop.train(config, str(tmp_path))
    config.train.num_steps = 18
    result = loop.train(config, str(tmp_path))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if record["split"] == "test"] == [6, 12, 18]
    assert records[-1] == {"step": 18, "split": "test"} | result


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(tmp_path, config):
    config.optim.learning_rate = 1e30
    with pytest.raises(NumericalError, match=r"the loss of step [234] is (nan|inf|-inf)"):
        loop.train(config, str(tmp_path))
    assert "NumericalError" in (tmp_path / "FAILED").read_text()
    assert Checkpoints(tmp_path / "checkpoints").newest() is None


def start(workdir: Path) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    words = [sys.executable, "-m", "cnnrnn.main", *DIGITS, *SHORT, "--workdir", str(workdir)]
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_and_interrupted_at_random_moments(tmp_path):
    """kill -9 twice and Ctrl-C once, each after a line of output; then to the end, with the bits of an unbroken run."""
    assert run_command("main", *DIGITS, *SHORT, "--workdir", tmp_path / "unbroken").returncode == 0
    rng = np.random.default_rng()
    for how in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process, lines, seen = start(tmp_path / "broken"), int(rng.integers(1, 4)), ""
        for line in process.stdout:
            seen += line
            lines -= line.startswith("step ")
            if lines <= 0:
                break
        process.send_signal(how)
        rest, errors = process.communicate(timeout=60)
        over = "s of training" in seen + rest  # it was at its end before the signal came
        assert process.returncode == (0 if over else -9 if how == signal.SIGKILL else 75), errors
        if process.returncode == 75:
            assert "the same command continues" in errors and len(errors.splitlines()) == 1
    done = run_command("main", *DIGITS, *SHORT, "--workdir", tmp_path / "broken")
    assert done.returncode == 0, done.stderr
    assert state_and_metrics(tmp_path / "broken") == state_and_metrics(tmp_path / "unbroken")
