"""Configs: loaded, overridden, checked, built; every mistake is one line before JAX is imported."""

from pathlib import Path

import pytest
from ml_collections import ConfigDict

from cnnrnn import config as configs
from cnnrnn.errors import ConfigError

DIGITS = "configs/digits_lenet5.py"


@pytest.fixture(autouse=True)
def _at_root(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent.parent)


def load(*overrides: str) -> ConfigDict:
    pairs, rest = configs.split_overrides(overrides)
    assert not rest
    return configs.load(DIGITS, pairs)


def test_overrides_reach_fields_the_config_names_and_fields_it_leaves_to_the_signature():
    config = load(
        "--config.optim.learning_rate=1",
        "--config.train.num_steps",
        "3e2",
        "--config.optim.clip_norm=0.5",
        "--config.task.mean=(0.5,)",
        "--config.seed=7",
        "--config.optim.momentum=0.8",
        "--config.optim.nesterov=True",
    )
    assert (config.optim.learning_rate, config.train.num_steps, config.optim.clip_norm) == (1.0, 300, 0.5)
    assert (config.task.mean, config.seed, config.optim.momentum, config.optim.nesterov) == ((0.5,), 7, 0.8, True)


def test_a_name_is_overridden_before_the_fields_that_depend_on_it():
    config = load("--config.model.features=(2,2,2)", "--config.model.name=convnet.ConvNet")
    assert config.model.features == (2, 2, 2)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("--config.optim.learning_rat=1", "did you mean learning_rate?"),
        ("--config.optm.learning_rate=1", "did you mean optim?"),
        ("--config.learning_rate=1", "unknown config field learning_rate"),
        ("--config.optim=1", "is a section"),
        ("--config.optim.learning_rate=nan", "a number of at least 0"),
        ("--config.train.num_steps=-5", "a whole number of at least 1"),
        ("--config.train.num_steps=ten", "a whole number of at least 1"),
        ("--config.model.name=lenet6.LeNet6", "did you mean lenet5?"),
        ("--config.model.name=lenet5.LeNet", "did you mean LeNet5?"),
        ("--config.model.name=LeNet5", 'write "module.Constructor"'),
        ("--config.model.dropout=0.5", "which goes to LeNet5 in cnnrnn/models/lenet5.py"),
        ("--config.seed=x", "a whole number"),
        ("--config.seed=-1", "a whole number from 0"),
        ("--config.train.seed=1", "unknown config field train.seed"),
        ("--config.data.split=test", "unknown config field data.split"),
        ("--config.train.parallel=xmap", "it takes 'jit', 'pmap'"),
        ("--config.optim.schedule=cosin", "'constant', 'linear', 'cosine'"),
        ("--config.optim.momentun=0.5", "did you mean momentum?"),
    ],
)
def test_a_wrong_override_is_refused(override, words):
    with pytest.raises(ConfigError) as refusal:
        load(override)
    assert words in str(refusal.value)


def test_an_override_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="no value for --config.seed"):
        load("--config.seed")


def test_the_program_keeps_its_own_arguments():
    with pytest.raises(ConfigError, match="num_classes is not for the config"):
        configs.build("model", load("--config.model.num_classes=3").model, num_classes=10)


def test_a_missing_argument_is_named():
    with pytest.raises(ConfigError, match="missing a required argument: 'num_classes'"):
        configs.build("model", load().model)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def get_config():\n    return undefined\n", "line 2, raised NameError"),
        ("def get_config(:\n", "SyntaxError"),
        ("x = 1\n", "AttributeError"),
        ("def get_config():\n    return {}\n", "returned a dict"),
    ],
)
def test_a_broken_config_file_is_refused(tmp_path, source, words):
    file = tmp_path / "broken.py"
    file.write_text(source)
    with pytest.raises(ConfigError) as refusal:
        configs.load(str(file))
    assert words in str(refusal.value)


def test_sections_are_checked(config):
    config.optm = ConfigDict()
    with pytest.raises(ConfigError, match="did you mean optim"):
        configs.check(config)
    del config.optm, config.task
    with pytest.raises(ConfigError, match="the config has no task"):
        configs.check(config)


@pytest.mark.parametrize("field", ["train.num_steps", "optim.name", "optim.learning_rate", "model.name"])
def test_a_missing_field_is_named(config, field):
    section, key = field.split(".")
    del config[section][key]
    with pytest.raises(ConfigError, match=key):
        configs.check(config)


def test_a_section_is_a_dict(config):
    config = config.to_dict() | {"optim": 3}
    with pytest.raises(ConfigError, match="config section optim is 3"):
        configs.check(ConfigDict(config))


def test_an_argument_reaches_get_config(tmp_path):
    file = tmp_path / "with_argument.py"
    source = (
        Path(DIGITS)
        .read_text()
        .replace("def get_config()", "def get_config(seed='3')")
        .replace("seed=0", "seed=int(seed)")
    )
    file.write_text(source)
    assert configs.load(str(file)).seed == 3
    assert configs.load(f"{file}:5").seed == 5


def test_json_keeps_a_config():
    import json

    config = load("--config.task.mean=(0.5, 0.25)")
    again = configs.from_plain(json.loads(configs.dump(config)))
    assert again.to_dict() == config.to_dict() and again.task.mean == (0.5, 0.25)
    assert configs.differences(config, again) == {}
    again.optim.learning_rate = 3.0
    assert configs.differences(config, again) == {"optim.learning_rate": (config.optim.learning_rate, 3.0)}
