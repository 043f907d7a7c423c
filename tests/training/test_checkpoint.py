"""Checkpoints are restored bit for bit; damage is detected in every file, and the step before is used."""

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

from cnnrnn.errors import CheckpointError, ConfigError, NumericalError, WorkdirError
from cnnrnn.models.convnet import ConvNet
from cnnrnn.tasks.classification import Classification
from cnnrnn.training.best import BestCheckpoint
from cnnrnn.training.checkpoint import Checkpoints
from cnnrnn.training.restore import load_variables, to_state
from cnnrnn.training.state import init_state

# After some damage a thread of Orbax finds its event loop closed.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TASK = Classification(ConvNet(num_classes=3, features=(2, 2, 2)))
INITIAL = partial(init_state, TASK, optax.adam(0.1), seed=3)


@pytest.fixture(scope="module")
def batch():
    return shapes_dataset().batch(0)


@pytest.fixture(scope="module")
def state(batch):
    return jax.jit(INITIAL)(batch)


def save(directory: Path, state, *steps: int, max_to_keep: int = 5) -> None:
    checkpoints = Checkpoints(directory, max_to_keep)
    for step in steps:
        checkpoints.save(step, state.replace(step=jnp.int32(step)), {"seconds": step / 3})
    checkpoints.close()


def raw(state):
    return jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))


def test_a_state_is_restored_bit_for_bit(tmp_path, state, batch):
    save(tmp_path, state, 7)
    step, leaves, record = Checkpoints(tmp_path).newest()
    restored = to_state(leaves, jax.eval_shape(INITIAL, batch))
    assert step == 7 and record == {"seconds": 7 / 3} and int(restored.step) == 7
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    expected = raw(state.replace(step=jnp.int32(7)))
    jax.tree.map(np.testing.assert_array_equal, raw(restored), expected)
    assert jax.tree.map(lambda x: x.dtype, raw(restored)) == jax.tree.map(lambda x: x.dtype, expected)


def test_only_the_newest_are_not_deleted(tmp_path, state):
    save(tmp_path, state, 1, 2, 3, 4, max_to_keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"3", "4"}


def test_no_checkpoint(tmp_path):
    assert Checkpoints(tmp_path / "new", max_to_keep=1).newest() is None
    with pytest.raises(CheckpointError, match="train first"):
        load_variables(tmp_path / "none")


def flip(file: Path, position: float) -> None:
    data = bytearray(file.read_bytes())
    data[min(int(position * len(data)), len(data) - 1)] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("position", [0.1, 0.5, 0.95])
def test_a_flipped_bit_is_never_restored(tmp_path, state, position, capfd):
    """In any file of the newest step: it is detected and the step before is used, or it changes no array."""
    save(tmp_path / "good", state, 1, 2)
    good = Checkpoints(tmp_path / "good").newest()[1]
    files = [path.relative_to(tmp_path / "good") for path in (tmp_path / "good" / "2").rglob("*") if path.is_file()]
    detected = []
    for name in files:
        if not (tmp_path / "good" / name).stat().st_size:
            continue
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "good", tmp_path / "copy")
        flip(tmp_path / "copy" / name, position)
        checkpoints = Checkpoints(tmp_path / "copy", max_to_keep=5)
        step, leaves, _ = checkpoints.newest()
        for path, leaf in leaves.items():
            if path != "step":
                np.testing.assert_array_equal(leaf, good[path])
        if step == 1:
            detected.append(name)
            assert (tmp_path / "copy" / "2.corrupt").is_dir() and "is damaged" in capfd.readouterr().err
            checkpoints.save(2, state, {})  # the step can be saved again
            assert checkpoints.newest()[0] == 2
    assert Path("2/manifest/metadata") in detected and any("/d/" in str(name) for name in detected)


@pytest.mark.parametrize("damage", ["truncate", "delete", "empty"])
def test_damaged_arrays_are_detected(tmp_path, state, damage):
    save(tmp_path, state, 1, 2)
    for file in (tmp_path / "2" / "state").rglob("d/*"):
        if damage == "delete":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if damage == "truncate" else 0])
    assert Checkpoints(tmp_path, max_to_keep=5).newest()[0] == 1


def test_when_all_are_damaged_that_is_the_error(tmp_path, state):
    directory = tmp_path / "checkpoints"
    save(directory, state, 1)
    for file in (directory / "1" / "manifest").rglob("metadata"):
        file.write_text("{}")
    with pytest.raises(CheckpointError, match="every checkpoint"):
        load_variables(tmp_path)
    assert (directory / "1").is_dir()  # reading alone renames nothing
    for _ in range(2):  # the second time, too
        with pytest.raises(CheckpointError, match="every checkpoint"):
            Checkpoints(directory, max_to_keep=5).newest()


def scaled(state, factor: float):
    return state.replace(params=jax.tree.map(lambda x: x * factor, state.params))


def test_the_newest_are_averaged(tmp_path, state):
    with closing(Checkpoints(tmp_path / "checkpoints", max_to_keep=5)) as checkpoints:
        for step in (1, 2, 3, 6):
            checkpoints.save(step, scaled(state, step), {})
    for average, factor in ((1, 6), (2, 4.5), (4, 3)):
        mean = load_variables(tmp_path, average=average)["params"]
        jax.tree.map(lambda x, y, f=factor: np.testing.assert_allclose(x, f * y, rtol=1e-6), mean, state.params)
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(mean))
    with pytest.raises(CheckpointError, match="has 4 checkpoints, fewer than --average, 5 - lower it"):
        load_variables(tmp_path, average=5)
    for file in (tmp_path / "checkpoints" / "3" / "manifest").rglob("metadata"):
        file.write_text("{}")
    mean = load_variables(tmp_path, average=2)["params"]  # of 6 and 2
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, 4 * y, rtol=1e-6), mean, state.params)


def test_the_best_is_kept(tmp_path, state):
    """By its value, in a second start too, and whichever step it has."""

    def evaluate(*values: tuple[int, dict], mode="max"):
        with closing(BestCheckpoint(tmp_path, "bleu", mode)) as best:
            for step, metrics in values:
                best.update(step, scaled(state, step), metrics)
            return best.step, best.value

    def kept():
        (saved,) = Checkpoints(tmp_path / "best").latest(9)
        params = load_variables(tmp_path, "best")["params"]
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x, saved.step * y), params, state.params)
        return saved.step

    with pytest.raises(CheckpointError, match="keeps no best checkpoint - train with a train.best_metric"):
        load_variables(tmp_path, "best")
    assert evaluate((1, {"bleu": 3.0}), (2, {"loss": 9.0}), (3, {"bleu": 5.0}), (4, {"bleu": 5.0})) == (3, 5.0)
    assert kept() == 3
    assert evaluate((2, {"bleu": 4.0})) == (3, 5.0) and kept() == 3
    assert evaluate((2, {"bleu": 6.0})) == (2, 6.0) and kept() == 2  # killed, and continued from before
    assert evaluate((2, {"bleu": 7.0})) == (2, 7.0) and kept() == 2
    save(tmp_path / "best", state, 5)  # of another metric
    assert evaluate((5, {"bleu": float("nan")})) == (2, 7.0)  # killed between a save and the deletion of the others
    assert evaluate((1, {"bleu": 8.0})) == (1, 8.0) and kept() == 1
    assert evaluate((9, {"bleu": 1.0}), mode="min") == (9, 1.0) and kept() == 9
    for file in (tmp_path / "best" / "9" / "manifest").rglob("metadata"):
        file.write_text("{}")
    assert evaluate((9, {"bleu": 2.0})) == (9, 2.0) and kept() == 9  # it was damaged
    with pytest.raises(ConfigError, match="leave out --checkpoint=best"):
        load_variables(tmp_path, "best", average=2)


def test_the_same_step_may_be_damaged_twice(tmp_path, state):
    for _ in range(2):
        save(tmp_path, state, 2) if (tmp_path / "1").exists() else save(tmp_path, state, 1, 2)
        for file in (tmp_path / "2" / "manifest").rglob("metadata"):
            file.write_text("{}")
        assert Checkpoints(tmp_path, max_to_keep=5).newest()[0] == 1


SPEC = "[tensorstore_spec='{...}']"
READ = 'Error opening "zarr" driver: Error reading "params.C1.kernel/.zarray"'
TROUBLE = [
    OSError(24, "Too many open files"),
    OSError(5, "Input/output error"),
    OSError(116, "Stale file handle"),
    TimeoutError("the file system does not answer"),
    MemoryError(),
    ValueError(f"UNKNOWN: {READ}: Input/output error [os_error_code='5'] {SPEC}"),  # these as TensorStore writes them
    ValueError(f"UNKNOWN: {READ}: Input/output error {SPEC}"),
    ValueError(f"ABORTED: {READ}: Stale file handle {SPEC}"),
    ValueError(f"DEADLINE_EXCEEDED: {READ}: Connection timed out [os_error_code='110'] {SPEC}"),
    ValueError(f"PERMISSION_DENIED: {READ}: Permission denied [os_error_code='13'] {SPEC}"),
    ValueError("RESOURCE_EXHAUSTED: Too many open files"),
    RuntimeError("UNAVAILABLE: connection reset"),
    ValueError(f"NOT_FOUND: {READ}: No such device or address [os_error_code='6'] {SPEC}"),
]


@pytest.mark.parametrize("error", TROUBLE, ids=lambda error: f"{type(error).__name__}-{str(error)[:20]}")
def test_a_disk_or_a_machine_in_trouble_is_not_damage(tmp_path, state, monkeypatch, error):
    save(tmp_path, state, 1, 2)
    original = Checkpoints._read

    def read(checkpoints, step):
        if step == 1:
            return original(checkpoints, step)
        try:
            raise error
        except Exception as cause:  # Orbax may raise another error from it
            raise ValueError("cannot restore") from cause

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "_read", read)
        with pytest.raises(WorkdirError, match=r"cannot read .*/2: .* - check the disk") as raised:
            Checkpoints(tmp_path, max_to_keep=5).newest()
    assert "cannot restore" not in str(raised.value) and "tensorstore_spec" not in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}
    assert Checkpoints(tmp_path, max_to_keep=5).newest()[0] == 2


def test_a_file_that_cannot_be_opened_is_not_damage(tmp_path, state):
    """A loop of symbolic links: the system refuses it to root, too."""
    save(tmp_path, state, 1, 2)
    for file in (tmp_path / "2" / "state" / "d").iterdir():
        file.unlink()
        file.symlink_to(file)
    with pytest.raises(WorkdirError, match="Too many levels of symbolic links") as raised:
        Checkpoints(tmp_path, max_to_keep=5).newest()
    assert len(str(raised.value)) < 500 and (tmp_path / "2").is_dir()


def test_a_directory_that_the_disk_does_not_list_is_not_empty(tmp_path, state, monkeypatch):
    save(tmp_path, state, 1)
    checkpoints = Checkpoints(tmp_path, max_to_keep=5)

    def broken():
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoints._manager, "reload", broken)
    with pytest.raises(WorkdirError, match="cannot read .*: Input/output error"):
        checkpoints.newest()


def test_a_checkpoint_that_is_deleted_while_it_is_read_is_not_damage(tmp_path, state, monkeypatch, capfd):
    """As when a run goes on while `predict` reads its newest checkpoint."""
    save(tmp_path, state, 1, max_to_keep=1)
    original = Checkpoints._read

    def read(checkpoints, step):
        if step == 1:
            save(tmp_path, state, 2, max_to_keep=1)
        return original(checkpoints, step)

    monkeypatch.setattr(Checkpoints, "_read", read)
    assert Checkpoints(tmp_path).newest()[0] == 2 and capfd.readouterr().err == ""


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


def test_a_number_that_is_not_finite_is_never_saved(tmp_path, state):
    bad = state.replace(params=jax.tree.map(lambda x: x.at[0].set(jnp.nan), state.params))
    half = bad.replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), bad.params))
    fine = state.replace(opt_state={"best_value": jnp.float32(jnp.inf)})  # as it starts
    with closing(Checkpoints(tmp_path, 5)) as checkpoints:
        with pytest.raises(NumericalError, match="params/conv1/bias is not finite after step 3"):
            checkpoints.save(3, bad, {})
        with pytest.raises(NumericalError):
            checkpoints.save(3, half, {})
        assert list(tmp_path.iterdir()) == []
        checkpoints.save(3, fine, {})


def test_a_save_that_fails_leaves_the_checkpoint_before(tmp_path, state, monkeypatch):
    save(tmp_path, state, 1)
    checkpoints = Checkpoints(tmp_path, max_to_keep=5)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(WorkdirError, match="No space left"):
        checkpoints.save(2, state, {})
    assert Checkpoints(tmp_path).newest()[0] == 1
