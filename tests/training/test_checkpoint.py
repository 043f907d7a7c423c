"""Checkpoints come back bit for bit; damage is noticed wherever it lies, and the step before is used."""

import shutil
from contextlib import closing
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import shapes_dataset

from cnnrnn.errors import CheckpointError, NumericalError, WorkdirError
from cnnrnn.models.convnet import ConvNet
from cnnrnn.tasks.classification import Classification
from cnnrnn.training.checkpoint import Checkpoints, load_variables, to_state
from cnnrnn.training.state import init_state

# On some damage Orbax leaves a thread behind that finds its event loop closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TASK = Classification(ConvNet(num_classes=3, features=(2, 2, 2)))
INITIAL = partial(init_state, TASK, optax.adam(0.1), seed=3)


@pytest.fixture(scope="module")
def batch():
    return shapes_dataset().batch(0)


@pytest.fixture(scope="module")
def state(batch):
    return jax.jit(INITIAL)(batch)


def save(directory: Path, state, *steps: int, keep: int = 5) -> None:
    checkpoints = Checkpoints(directory, keep)
    for step in steps:
        checkpoints.save(step, state.replace(step=jnp.int32(step)), {"seconds": step / 3})
    checkpoints.close()


def raw(state):
    return jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))


def test_a_state_comes_back_bit_for_bit(tmp_path, state, batch):
    save(tmp_path, state, 7)
    step, leaves, record = Checkpoints(tmp_path).newest()
    restored = to_state(leaves, jax.eval_shape(INITIAL, batch))
    assert step == 7 and record == {"seconds": 7 / 3} and int(restored.step) == 7
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    expected = raw(state.replace(step=jnp.int32(7)))
    jax.tree.map(np.testing.assert_array_equal, raw(restored), expected)
    assert jax.tree.map(lambda x: x.dtype, raw(restored)) == jax.tree.map(lambda x: x.dtype, expected)


def test_only_the_newest_stay(tmp_path, state):
    save(tmp_path, state, 1, 2, 3, 4, keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"3", "4"}


def test_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "new", keep=1).newest() is None
    with pytest.raises(CheckpointError, match="train first"):
        load_variables(tmp_path / "none")


def flip(file: Path, where: float) -> None:
    data = bytearray(file.read_bytes())
    data[min(int(where * len(data)), len(data) - 1)] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("where", [0.1, 0.5, 0.95])
def test_a_flipped_bit_is_never_restored(tmp_path, state, where, capfd):
    """In any file of the newest step: it is noticed, and the step before is used, or nothing that is read changed."""
    save(tmp_path / "whole", state, 1, 2)
    good = Checkpoints(tmp_path / "whole").newest()[1]
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole" / "2").rglob("*") if path.is_file()]
    noticed = []
    for name in files:
        if not (tmp_path / "whole" / name).stat().st_size:
            continue
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        flip(tmp_path / "copy" / name, where)
        checkpoints = Checkpoints(tmp_path / "copy", keep=5)
        step, leaves, _ = checkpoints.newest()
        for path, leaf in leaves.items():
            if path != "step":
                np.testing.assert_array_equal(leaf, good[path])
        if step == 1:
            noticed.append(name)
            assert (tmp_path / "copy" / "2.corrupt").is_dir() and "is damaged" in capfd.readouterr().err
            checkpoints.save(2, state, {})  # the number is free again
            assert checkpoints.newest()[0] == 2
    assert Path("2/manifest/metadata") in noticed and any("/d/" in str(name) for name in noticed)


@pytest.mark.parametrize("damage", ["truncate", "delete", "empty"])
def test_damaged_arrays_are_noticed(tmp_path, state, damage):
    save(tmp_path, state, 1, 2)
    for file in (tmp_path / "2" / "state").rglob("d/*"):
        if damage == "delete":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if damage == "truncate" else 0])
    assert Checkpoints(tmp_path, keep=5).newest()[0] == 1


def test_when_all_are_damaged_it_is_said(tmp_path, state):
    save(tmp_path, state, 1)
    for file in (tmp_path / "1" / "manifest").rglob("metadata"):
        file.write_text("{}")
    with pytest.raises(CheckpointError, match="every checkpoint"):
        load_variables(tmp_path)
    assert (tmp_path / "1").is_dir()  # reading alone renames nothing
    for _ in range(2):  # and it is said again, not forgotten
        with pytest.raises(CheckpointError, match="every checkpoint"):
            Checkpoints(tmp_path, keep=5).newest()


def test_the_same_step_may_be_damaged_twice(tmp_path, state):
    for _ in range(2):
        save(tmp_path, state, 2) if (tmp_path / "1").exists() else save(tmp_path, state, 1, 2)
        for file in (tmp_path / "2" / "manifest").rglob("metadata"):
            file.write_text("{}")
        assert Checkpoints(tmp_path, keep=5).newest()[0] == 1


def test_a_machine_in_trouble_is_not_damage(tmp_path, state, monkeypatch):
    save(tmp_path, state, 1, 2)
    checkpoints = Checkpoints(tmp_path, keep=5)

    def trouble(step):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(checkpoints, "_read", trouble)
    with pytest.raises(WorkdirError, match="Too many open files"):
        checkpoints.newest()
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}


def test_another_model_is_refused_by_the_path_of_the_difference(tmp_path, state, batch):
    save(tmp_path, state, 1)
    leaves = Checkpoints(tmp_path).newest()[1]
    other = Classification(ConvNet(num_classes=3, features=(2, 2, 5)))
    with pytest.raises(
        CheckpointError, match=r"params/conv3/bias is float32\[2\] in the checkpoint and float32\[5\] here"
    ):
        to_state(leaves, jax.eval_shape(partial(init_state, other, optax.adam(0.1), seed=3), batch))
    with pytest.raises(CheckpointError, match="absent"):
        to_state(leaves, jax.eval_shape(partial(init_state, TASK, optax.sgd(0.1), seed=3), batch))


def test_what_is_not_finite_is_never_saved(tmp_path, state):
    bad = state.replace(params=jax.tree.map(lambda x: x.at[0].set(jnp.nan), state.params))
    half = bad.replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), bad.params))
    fine = state.replace(opt_state={"best_value": jnp.float32(jnp.inf)})  # not a number that has gone wrong
    with closing(Checkpoints(tmp_path, 5)) as checkpoints:
        with pytest.raises(NumericalError, match="params/conv1/bias is not finite after step 3"):
            checkpoints.save(3, bad, {})
        with pytest.raises(NumericalError):
            checkpoints.save(3, half, {})
        assert list(tmp_path.iterdir()) == []
        checkpoints.save(3, fine, {})


def test_a_save_that_fails_keeps_the_one_before(tmp_path, state, monkeypatch):
    save(tmp_path, state, 1)
    checkpoints = Checkpoints(tmp_path, keep=5)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(WorkdirError, match="No space left"):
        checkpoints.save(2, state, {})
    assert Checkpoints(tmp_path).newest()[0] == 1
