"""A dry run builds everything, says what was understood, compiles nothing and writes no run."""

import json
import math
import re

import jax
import numpy as np
import optax
import pytest
from conftest import assert_refused, run_command
from PIL import Image

from cnnrnn.training import loop
from cnnrnn.training.dry_run import MAX_ITEMS, describe, dry_run
from cnnrnn.training.memory import estimate_memory
from cnnrnn.training.parts import build_parts
from cnnrnn.training.state import init_state


def programs(log: str) -> set[str]:
    """The names of the functions that were compiled, without single operations of JAX."""
    names = set(re.findall(r"compilation of jit\((\w+)\)", log))
    return {name for name in names if not hasattr(jax.lax, f"{name}_p")}


def test_it_is_what_a_run_is_and_compiles_nothing(config, tmp_path, caplog, capsys):
    jax.clear_caches()
    with jax.log_compiles():
        dry_run(config)
        dry = capsys.readouterr()
        assert not [*tmp_path.iterdir()] and not programs(caplog.text)
        loop.train(config, str(tmp_path / "run"))
        assert {"init_state", "train_steps", "eval_step"} <= programs(caplog.text)
    wet = capsys.readouterr().out
    model = (tmp_path / "run" / "model.txt").read_text()
    assert model in dry.out and model in wet and "activations" in model
    summary = json.loads((tmp_path / "run" / "dataset.json").read_text())["summary"]
    assert summary.keys() == {"train", "test"} and sum(summary["train"]["classes"].values()) == 4000
    for split in summary.values():
        for line in describe(split, indent=4):
            assert line in dry.out


def test_on_the_command_line(tmp_path):
    for kind in ("cat", "dog"):
        for number in range(5):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 20 + number)).save(tmp_path / "set" / kind / f"{number}.png")
    words = ["--config", "configs/custom_images.py", f"--config.data.source={tmp_path / 'set'}", "--dry_run"]
    assert_refused(run_command("main", *words, "--config.task.mean=(0.1,0.2)"), 2, "mean")
    assert_refused(run_command("main", *words, "--config.data.source=nope"), 3, "no folder nope")
    (tmp_path / "set" / "dog" / "notes.txt").touch()
    done = run_command("main", *words)
    assert done.returncode == 0, done.stderr
    for line in (
        f"data images.custom.image_set, {tmp_path / 'set'}",
        "    classes: cat 4, dog 4",
        "    sizes: 30 x 20, 30 x 22 (median) to 30 x 24 pixels, color",
        f"    left out: not an image that is read, *.txt (count 1, first {tmp_path / 'set' / 'dog' / 'notes.txt'})",
        "dry run: no step was compiled, and no run was written",
    ):
        assert line in done.stdout.splitlines(), done.stdout


def test_long_lists_are_cut_and_names_stay_on_one_line():
    classes = {f"class {number}": 1000 + number for number in range(MAX_ITEMS + 3)}
    (line,) = describe({"classes": classes})
    assert line.startswith("classes: class 0 1,000, ") and line.endswith(", and 3 more")
    assert describe({"left out": {}, "x": {"a\nb": {"count": 2}}}) == ["left out: nothing", "x: a\\nb (count 2)"]


@pytest.mark.parametrize("model", ["convnet.ConvNet", "lenet5.LeNet5"])
def test_the_memory_is_that_of_the_arrays(config, model):
    config.model = {"name": model}
    with build_parts(config) as (task, tx, splits):
        batch = splits["train"].batch(0)
        state = jax.eval_shape(lambda: init_state(task, tx, batch, seed=0))
        memory = estimate_memory(task, splits, batch, state)
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
        assert memory["parameters"] == memory["gradients"] == memory["optimizer"] == 4 * count  # momentum
        assert memory["data"] == 5000 * (28 * 28 + splits["train"].source.arrays["label"].itemsize)
        assert memory["batch"] == sum(np.asarray(rows).nbytes for rows in batch.values())
        larger = {name: np.concatenate([rows, rows]) for name, rows in batch.items()}
        twice = estimate_memory(task, splits, larger, state)["activations"] / memory["activations"]
        assert 1.7 < twice < 2.1  # without what does not depend on the batch


def test_the_memory_of_activations_is_what_the_derivative_keeps(config):
    """Of a chain of known size: each of its sigmoids keeps its output."""
    from typing import NamedTuple

    import jax.numpy as jnp

    from cnnrnn.metrics import Average
    from cnnrnn.training.state import TrainState

    class Chain(NamedTuple):
        def forward(self, variables, carry, batch, train, key):
            outputs = jax.nn.sigmoid(jax.nn.sigmoid(batch["x"] @ variables["params"]["w"]))
            return outputs, carry, {}

        def metrics(self, outputs, batch):
            return {"loss": Average(jnp.sum(outputs), 1.0)}

    batch = {"x": np.zeros((6, 3), np.float32), "mask": np.ones(6, np.float32)}
    params = {"w": np.zeros((3, 5), np.float32)}
    state = TrainState(0, params, optax.sgd(0.1).init(params), {}, (), None)
    assert estimate_memory(Chain(), {}, batch, state)["activations"] == 2 * 6 * 5 * 4
