"""A working directory contains one run: one process, one config, one set of data."""

import errno
import json
import os
from pathlib import Path

import pytest

from cnnrnn.errors import ConfigError, DataError, Interrupted, WorkdirError
from cnnrnn.training.workdir import Workdir, atomic_write, read_run

LATIN_1 = os.fsdecode(b"caf\xe9")  # a name that is not UTF-8


def test_one_process_at_a_time(tmp_path, config):
    with Workdir(str(tmp_path), config):
        with pytest.raises(WorkdirError, match="is in use by process [0-9]+ on "):
            Workdir(str(tmp_path), config)
    with Workdir(str(tmp_path), config):
        pass


def test_before_the_first_checkpoint_a_mistake_can_be_fixed(tmp_path, config):
    config.optim.name = "sdg"
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": {"crc32": 1}})
    config.optim.name = "sgd"
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": {"crc32": 2}})
    assert read_run(str(tmp_path)).config.optim.name == "sgd" and read_run(str(tmp_path)).info["crc32"] == 2


def test_one_config(tmp_path, config):
    with Workdir(str(tmp_path), config):
        pass
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    config.train.num_steps = 99
    with Workdir(str(tmp_path), config):  # its length may change
        pass
    config.optim.learning_rate = 9.0
    with pytest.raises(ConfigError, match="optim.learning_rate is 9.0 but the run in"):
        Workdir(str(tmp_path), config)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.num_steps", 99), ("train.log_every", 9), ("train.eval_every", 9), ("train.checkpoint_every", 9),
        ("train.decode_every", 9), ("train.max_to_keep", 9), ("data.eval_batch_size", 9),
    ],
)  # fmt: skip
def test_what_may_change_when_a_run_is_resumed(tmp_path, config, field, value):
    with Workdir(str(tmp_path), config):
        pass
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    section, key = field.split(".")
    config[section][key] = value
    with Workdir(str(tmp_path), config):
        pass
    assert read_json(tmp_path / "config.json")[section][key] == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", 1), ("train.parallel", "pmap"), ("data.batch_size", 9), ("model.features", (4, 4, 9)),
        ("task.max_shift", 1), ("optim.momentum", 0.5), ("data.name", "images.published.mnist"),
    ],
)  # fmt: skip
def test_what_may_not_change(tmp_path, config, field, value):
    with Workdir(str(tmp_path), config):
        pass
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    section, _, key = field.rpartition(".")
    (config[section] if section else config)[key] = value
    with pytest.raises(ConfigError, match=f"^{field} is .* but the run in .* - choose another --workdir"):
        Workdir(str(tmp_path), config)


def test_a_refused_config_leaves_the_directory_unlocked(tmp_path, config):
    with Workdir(str(tmp_path), config):
        pass
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    other = config.copy_and_resolve_references()
    other.optim.learning_rate = 9.0
    with pytest.raises(ConfigError) as raised:
        Workdir(str(tmp_path), other)
    with Workdir(str(tmp_path), config):  # in the same process, while the error and its traceback exist
        assert raised.value


def test_a_checkpoint_that_was_never_committed_is_none(tmp_path, config):
    with Workdir(str(tmp_path), config):
        pass
    (tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp").mkdir(parents=True)
    config.optim.learning_rate = 9.0
    with Workdir(str(tmp_path), config):
        pass


def test_checkpoints_without_their_config_are_not_taken_over(tmp_path, config):
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(WorkdirError, match="no config.json"):
        Workdir(str(tmp_path), config)


def test_one_set_of_data(tmp_path, config):
    train, test = {"dims": {"num_classes": 3}, "crc32": 1}, {"dims": {"num_classes": 3}, "crc32": 2}
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": train, "test": test})
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": train, "test": test})
        with pytest.raises(WorkdirError, match="another crc32"):
            workdir.verify_dataset_info({"train": train | {"crc32": 3}, "test": test})
        with pytest.raises(WorkdirError, match="another test"):
            workdir.verify_dataset_info({"train": train, "test": test | {"crc32": 3}})
    run = read_run(str(tmp_path))
    assert run.info["dims"] == {"num_classes": 3} and run.config.to_dict() == config.to_dict()


def test_a_failure_leaves_its_reason_and_an_interruption_does_not(tmp_path, config):
    with pytest.raises(ValueError), Workdir(str(tmp_path), config):
        raise ValueError("why")
    failed = (tmp_path / "FAILED").read_text()
    assert failed.endswith("ValueError: why\n") and "Traceback" in failed
    with pytest.raises(Interrupted), Workdir(str(tmp_path), config):
        raise Interrupted("stopped")
    assert not (tmp_path / "FAILED").exists()


@pytest.mark.parametrize("kind", [DataError, ValueError])  # of a user, of a bug
def test_a_failure_may_name_a_file_that_is_not_utf8(tmp_path, config, kind):
    with pytest.raises(kind), Workdir(str(tmp_path), config):
        raise kind(f"no file {LATIN_1}.png")
    assert ".png" in (tmp_path / "FAILED").read_text(encoding="utf-8").splitlines()[-1]


def test_a_failure_of_a_user_is_one_line(tmp_path, config):
    with pytest.raises(DataError), Workdir(str(tmp_path), config):
        raise DataError("no file a\n\x1b[2Jb")
    assert (tmp_path / "FAILED").read_text() == "DataError: no file a\\n\\x1b[2Jb\n"


def test_a_path_that_orbax_cannot_take(tmp_path, config):
    """It is refused before the directory is made, and when the run in it is asked."""
    path = os.path.join(tmp_path, LATIN_1)
    for use in (lambda: Workdir(path, config), lambda: read_run(path)):
        with pytest.raises(WorkdirError, match=r"the path .*caf\\xe9 is not UTF-8, .* - choose another --workdir"):
            use()
    assert not [*tmp_path.iterdir()]


def test_a_lock_with_any_content(tmp_path, config):
    with Workdir(str(tmp_path), config):
        (tmp_path / ".lock").write_bytes(b"process 7 on caf\xe9\x1b[2J")
        with pytest.raises(WorkdirError) as raised:
            Workdir(str(tmp_path), config)
    assert "is in use by process 7 on caf\ufffd\\x1b[2J" in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seed": 0}', "\x00\x01"])
def test_a_damaged_config_is_one_line(tmp_path, config, text):
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": {}})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WorkdirError, match="config.json is damaged"):
        read_run(str(tmp_path))


def rewrite(file: Path, section: str, old: str, new: str, value=None) -> None:
    """Renames a field of a config.json, as a later version of the package may."""
    tree = read_json(file)
    given = tree[section].pop(old)
    tree[section][new] = given if value is None else value
    file.write_text(json.dumps(tree))


def read_json(file: Path) -> dict:
    return json.loads(file.read_text())


OLD_FIELDS = [
    ("train", "checkpoint_every", "save_every", None, "train.save_every"),
    ("model", "features", "filters", None, "model.filters"),
    ("model", "name", "name", "convnet.ConvolutionalNet", "model.name"),
    ("data", "name", "name", "images.digits", "data.name"),  # as in the runs before the packages of data sets
]


@pytest.mark.parametrize(("section", "old", "new", "value", "field"), OLD_FIELDS)
def test_a_config_of_another_version_is_not_called_damaged(tmp_path, config, section, old, new, value, field):
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": {}})
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    rewrite(tmp_path / "config.json", section, old, new, value)
    words = rf"config\.json was written by another version of cnnrnn: .*{field}.* - use that version, or choose another"
    with pytest.raises(WorkdirError, match=words):
        read_run(str(tmp_path))
    with pytest.raises(WorkdirError, match=words):
        Workdir(str(tmp_path), config)


def test_a_config_that_names_a_module_from_elsewhere(tmp_path, config):
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": {}})
    rewrite(tmp_path / "config.json", "model", "name", "name", "nets_of_another_folder.Net")
    with pytest.raises(WorkdirError, match="no module nets_of_another_folder in .* - start where Python can import it"):
        read_run(str(tmp_path))


def test_a_file_that_the_disk_does_not_give_is_not_called_damaged(tmp_path, config, monkeypatch):
    with Workdir(str(tmp_path), config) as workdir:
        workdir.verify_dataset_info({"train": {}})

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", broken)
        with pytest.raises(WorkdirError, match=r"cannot read .*config\.json: Input/output error"):
            read_run(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", broken)
        with pytest.raises(WorkdirError, match="cannot write in .*: Input/output error"):
            Workdir(str(tmp_path), config)


def test_no_run(tmp_path):
    with pytest.raises(WorkdirError, match="no trained run"):
        read_run(str(tmp_path))


def test_a_file_is_written_completely_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "file.txt"
    atomic_write(file, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(WorkdirError, match="No space left on device - make room"):
            atomic_write(file, "new")
    assert file.read_text() == "old" and [*tmp_path.iterdir()] == [file]
    atomic_write(file, "new")
    assert file.read_text() == "new" and [*tmp_path.iterdir()] == [file]
