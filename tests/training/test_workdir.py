"""A working directory holds one run: one process, one config, one set of data."""

import pytest

from cnnrnn.errors import ConfigError, Interrupted, WorkdirError
from cnnrnn.training.workdir import Workdir, read_run


def test_one_process_at_a_time(tmp_path, config):
    with Workdir(str(tmp_path), config):
        with pytest.raises(WorkdirError, match="is in use by process [0-9]+ on "):
            Workdir(str(tmp_path), config)
    with Workdir(str(tmp_path), config):
        pass


def test_before_the_first_checkpoint_a_mistake_may_be_mended(tmp_path, config):
    config.optim.name = "sdg"
    with Workdir(str(tmp_path), config) as workdir:
        workdir.keep_info({"train": {"crc32": 1}})
    config.optim.name = "sgd"
    with Workdir(str(tmp_path), config) as workdir:
        workdir.keep_info({"train": {"crc32": 2}})
    assert read_run(str(tmp_path)).config.optim.name == "sgd" and read_run(str(tmp_path)).info["crc32"] == 2


def test_one_config(tmp_path, config):
    with Workdir(str(tmp_path), config):
        pass
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    config.train.num_steps = 99
    with Workdir(str(tmp_path), config):  # how long it goes may change
        pass
    config.optim.learning_rate = 9.0
    with pytest.raises(ConfigError, match="optim.learning_rate is 9.0 but the run in"):
        Workdir(str(tmp_path), config)


def test_checkpoints_without_their_config_are_not_taken_over(tmp_path, config):
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with pytest.raises(WorkdirError, match="no config.json"):
        Workdir(str(tmp_path), config)


def test_one_set_of_data(tmp_path, config):
    train, test = {"dims": {"num_classes": 3}, "crc32": 1}, {"dims": {"num_classes": 3}, "crc32": 2}
    with Workdir(str(tmp_path), config) as workdir:
        workdir.keep_info({"train": train, "test": test})
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    with Workdir(str(tmp_path), config) as workdir:
        workdir.keep_info({"train": train, "test": test})
        with pytest.raises(WorkdirError, match="another crc32"):
            workdir.keep_info({"train": train | {"crc32": 3}, "test": test})
        with pytest.raises(WorkdirError, match="another test"):
            workdir.keep_info({"train": train, "test": test | {"crc32": 3}})
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


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"seed": 0}', "\x00\x01"])
def test_a_damaged_config_is_one_line(tmp_path, config, text):
    with Workdir(str(tmp_path), config) as workdir:
        workdir.keep_info({"train": {}})
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WorkdirError, match="config.json is damaged"):
        read_run(str(tmp_path))


def test_no_run(tmp_path):
    with pytest.raises(WorkdirError, match="no trained run"):
        read_run(str(tmp_path))
