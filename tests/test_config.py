"""Configs are loaded, overridden, checked and built; every mistake is one line."""

import json
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from cnnrnn import config as configs
from cnnrnn import config_file
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
        ("--config.sed=1", "did you mean seed?"),
        ("--config.seed.x=1", "unknown config field seed.x"),
        ("--config.learning_rate=1", "unknown config field learning_rate"),
        ("--config.optim=1", "is a section"),
        ("--config.optim.learning_rate=nan", "a number of at least 0"),
        ("--config.train.num_steps=-5", "a whole number of at least 1"),
        ("--config.train.num_steps=ten", "a whole number of at least 1"),
        ("--config.model.name=lenet6.LeNet6", "did you mean lenet5?"),
        ("--config.model.name=lenet5.LeNet", "did you mean LeNet5?"),
        ("--config.model.name=LeNet5", 'write "module.Constructor"'),
        ("--config.model.name=../lenet5.LeNet5", 'write "module.Constructor"'),
        ("--config.model.name=lenet5.nn", "there is no nn in cnnrnn/models/lenet5.py"),
        ("--config.data.name=images.published.digts", "did you mean digits?"),
        ("--config.data.name=image.published.digits", "did you mean images.published?"),
        ("--config.task.model=3", "which goes to Classification in cnnrnn/tasks/classification.py"),
        ("--config.model.dropout=0.5", "which goes to LeNet5 in cnnrnn/models/lenet5.py"),
        ("--config.seed=x", "a whole number"),
        ("--config.seed=-1", "a whole number from 0"),
        ("--config.train.seed=1", "unknown config field train.seed"),
        ("--config.data.split=test", "unknown config field data.split"),
        ("--config.train.parallel=xmap", "it takes 'jit', 'pmap'"),
        ("--config.optim.schedule=cosin", "'constant', 'linear', 'cosine'"),
        ("--config.optim.rate_multipliers=(1,)", "it takes a tuple such as (('name', 0.5),)"),
        ("--config.optim.momentun=0.5", "did you mean momentum?"),
    ],
)
def test_a_wrong_override_is_refused(override, words):
    with pytest.raises(ConfigError) as raised:
        load(override)
    assert words in str(raised.value)


def test_an_override_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="no value for --config.seed"):
        load("--config.seed")


def test_the_arguments_of_the_program_are_not_for_a_config():
    with pytest.raises(ConfigError, match="model.num_classes is not for the config"):
        configs.build("model", load("--config.model.num_classes=3").model, num_classes=10)


def test_a_missing_argument_is_named():
    with pytest.raises(ConfigError, match="missing a required argument: 'num_classes'"):
        configs.build("model", load().model)


def test_a_refused_argument_names_its_section(tmp_path, monkeypatch):
    add_module(tmp_path, monkeypatch, "picky", PICKY)
    with pytest.raises(ConfigError, match=r"^data: size is 3 - it takes an even one$"):
        configs.build("data", ConfigDict({"name": "picky.data", "size": 3}), seed=0)


PICKY = """
import flax.linen as nn
from cnnrnn.tasks import task

def data(seed, *, size: int = 2):
    if size % 2:
        raise ValueError(f"size is {size} - it takes an even one")

def fails(x):
    raise ValueError("x is wrong")

class Net(nn.Module):
    def __call__(self, x):
        return fails(x)

class Task(task.Task):
    init = metrics = None

    def forward(self, model, x):
        return model(x)

    def loss(self, x):
        return fails(x)
"""


def add_module(tmp_path, monkeypatch, name: str, source: str) -> None:
    """Puts a module on Python's path, as a user's is in the current folder."""
    (tmp_path / f"{name}.py").write_text(source)
    add_path(tmp_path, monkeypatch, name)


def add_path(path, monkeypatch, *modules: str) -> None:
    """Puts a folder on Python's path, and forgets its modules at the end of the test."""
    monkeypatch.syspath_prepend(str(path))
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
        del sys.modules[module]


NET = """
import flax.linen as nn
from cnnrnn.signatures import PositiveInt

class Net(nn.Module):
    num_classes: int
    size: PositiveInt = 3

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.num_classes)(x)
"""


def test_a_constructor_of_the_user_is_found_on_the_path(tmp_path, monkeypatch):
    add_module(tmp_path, monkeypatch, "my_nets", NET)
    config = load("--config.model.name=my_nets.Net", "--config.model.size=7")
    net = configs.build("model", config.model, num_classes=10)
    assert (type(net).__module__, net.size, net.num_classes) == ("my_nets", 7, 10)
    with pytest.raises(
        ConfigError, match=r"unknown config field model.siz, which goes to Net in my_nets.py - did you mean"
    ):
        load("--config.model.name=my_nets.Net", "--config.model.siz=7")
    with pytest.raises(ConfigError, match=r"there is no Nat in my_nets.py - did you mean Net\?"):
        load("--config.model.name=my_nets.Nat")


def test_a_module_of_the_package_comes_first(tmp_path, monkeypatch):
    add_module(tmp_path, monkeypatch, "lenet5", "raise RuntimeError")
    assert load().model.name == "lenet5.LeNet5"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import not_there", "module my_nets needs not_there, which is not installed"),
        ("def Net(:", "module my_nets raised SyntaxError: invalid syntax (my_nets.py, line 1)"),
        ("1 / 0", "module my_nets raised ZeroDivisionError: division by zero"),
        ("import sys; sys.exit(3)", "module my_nets raised SystemExit"),
        ("Net = 3", "there is no Net in my_nets.py"),
        ("def _Net(): ...", "there is no Net in my_nets.py"),
    ],
)
def test_a_broken_module_of_the_user_is_one_line(tmp_path, monkeypatch, source, words):
    add_module(tmp_path, monkeypatch, "my_nets", source)
    with pytest.raises(ConfigError) as raised:
        load("--config.model.name=my_nets.Net")
    assert words in str(raised.value)


def test_an_annotation_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    add_module(tmp_path, monkeypatch, "my_data", "def data(seed, *, x: 'Missing'): ...")
    with pytest.raises(ConfigError, match="the signature of data in my_data.py cannot be read: name 'Missing'"):
        load("--config.data.name=my_data.data")


@pytest.mark.parametrize("name", ["my_package.Net", "my_package.nets.Net"])
def test_a_broken_package_of_the_user_is_one_line(tmp_path, monkeypatch, name):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("import not_there")
    (tmp_path / "my_package" / "nets.py").write_text(NET)
    add_path(tmp_path, monkeypatch, "my_package", "my_package.nets")
    with pytest.raises(ConfigError, match="needs not_there, which is not installed"):
        load(f"--config.model.name={name}")


def test_a_field_says_whether_it_may_change_on_resume(config):
    fields = ["train.num_steps", "train.log_every", "data.eval_batch_size", "data.batch_size", "model.features", "seed"]
    found = {field: configs.is_resumable(config, field) for field in [*fields, "train.missing", "missing.field"]}
    assert [field for field, is_resumable in found.items() if is_resumable] == fields[:3]


def error_of(function, *arguments) -> ValueError:
    with pytest.raises(ValueError) as raised:
        function(*arguments)
    return raised.value


def test_the_section_of_an_error_is_that_of_the_innermost_frame(tmp_path, monkeypatch, config):
    import jax

    from cnnrnn.models.convnet import ConvNet
    from cnnrnn.tasks.classification import Classification

    task = Classification(ConvNet(10, features=(4, 4)))  # one too few: raised in the model, called by the task
    batch = {"image": jax.numpy.zeros((1, 12, 12, 1)), "label": jax.numpy.zeros(1, int), "mask": jax.numpy.ones(1)}
    error = error_of(jax.jit(task.init), jax.random.key(0), batch)
    assert configs.section_of(error) == "model"
    assert configs.section_of(error_of(int, "x")) is None
    cropping = Classification(ConvNet(10), crop=99)
    assert configs.section_of(error_of(jax.jit(cropping.init), jax.random.key(0), batch)) == "task"

    add_module(tmp_path, monkeypatch, "picky", PICKY)
    config.model.name, config.task.name = "picky.Net", "picky.Task"
    import picky

    task, net = picky.Task(None), picky.Net()
    assert configs.section_of(error_of(task.forward, net, 0), config) == "model"
    assert configs.section_of(error_of(task.loss, 0), config) == "task"
    assert configs.section_of(error_of(task.forward, net, 0)) is None  # without the config it is any module
    config.task.name = "classification.Classification"
    assert configs.section_of(error_of(picky.fails, 0), config) == "model"


def test_an_error_of_a_model_becomes_one_of_the_config(tmp_path, monkeypatch, config):
    add_module(tmp_path, monkeypatch, "picky", PICKY)
    import picky

    config.model.name = "picky.Net"
    with pytest.raises(ConfigError, match=r"^model: x is wrong$"), configs.as_config_error(config):
        picky.Net()(0)
    with pytest.raises(ValueError, match="invalid literal"), configs.as_config_error(config):
        int("x")
    with pytest.raises(KeyError), configs.as_config_error(config):
        {}["x"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def get_config():\n    return undefined\n", "line 2, raised NameError"),
        ("def get_config(:\n", "SyntaxError"),
        ("x = 1\n", "AttributeError"),
        ("import not_there\n", "line 1, raised ModuleNotFoundError: No module named 'not_there'"),
        ("import sys\nsys.exit()\n", "line 2, raised SystemExit"),
        ("def get_config():\n    return {}\n", "returned a dict"),
    ],
)
def test_a_broken_config_file_is_refused(tmp_path, source, words):
    file = tmp_path / "broken.py"
    file.write_text(source)
    with pytest.raises(ConfigError) as raised:
        configs.load(str(file))
    assert words in str(raised.value)


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


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("train.name", "a", "unknown config field train.name"),
        ("optim.momentum", float("nan"), "optim.momentum is nan - it takes"),
        ("optim.momentum", {1}, "optim.momentum is {1} - it takes"),
        ("model.name", 3, 'model.name is "3" - write'),
        ("task.max_shift", "2", "task.max_shift is '2' - it takes a whole number"),
    ],
)
def test_a_wrong_field_of_a_config_file_is_named(config, field, value, words):
    section, key = field.split(".")
    with config.ignore_type():
        config[section][key] = value
    with pytest.raises(ConfigError) as raised:
        configs.check(config)
    assert words in str(raised.value)


def test_a_section_without_a_name_is_refused(config):
    del config.model.name
    with pytest.raises(ConfigError, match='config section model has no name - say what to build, model.name="module'):
        configs.check(config)


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


def test_a_config_is_restored_from_json():
    config = load("--config.task.mean=(0.5, 0.25)")
    again = config_file.from_plain(json.loads(config_file.dump(config)))
    assert again.to_dict() == config.to_dict() and again.task.mean == (0.5, 0.25)
    assert configs.differences(config, again) == {}
    again.optim.learning_rate = 3.0
    assert configs.differences(config, again) == {"optim.learning_rate": (config.optim.learning_rate, 3.0)}


@pytest.mark.parametrize("name", ["subprocess.Popen", "shutil.rmtree", "convnet.partial"])
@pytest.mark.parametrize("section", ["model", "task"])
def test_a_config_cannot_call_anything_but_a_model_or_a_task(section, name):
    """A run's config.json is read by `predict`: it must not be able to start a process or delete a folder."""
    with pytest.raises(ConfigError, match=f"{section}.name"):
        configs.build(section, ConfigDict({"name": name, "args": ("touch", "x")}))
