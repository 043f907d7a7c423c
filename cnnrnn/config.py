"""From a config file and the command line to objects: load, check, build.

A config has the sections task, model, data, optim and train, and a seed. Every section is the keyword arguments of one
constructor, so its fields, their types and their ranges are read from that constructor's signature: from its source,
because a misspelt flag must be answered without importing JAX.
"""

import importlib
import importlib.util
import inspect
import json
from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from cnnrnn import signatures
from cnnrnn.errors import ConfigError

# Where the constructor of each section lives. A folder: the section's `name` says which, "lenet5.LeNet5".
SECTIONS = {
    "task": "tasks",
    "model": "models",
    "data": "data",
    "optim": "optim.make_optimizer",
    "train": "training.loop.fit",
}
SEED = {"seed": signatures.Parameter("Seed")}


def load(path: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """The config that a file's `get_config` returns, with overrides, checked.

    Args:
      path: a Python file, with `:argument` behind it if its `get_config` takes one. The file is executed.
      overrides: pairs of a field, "optim.learning_rate", and its value as text.

    Raises:
      ConfigError: the file or an override is wrong, or the config does not fit the constructors that it names.
    """
    config = _call_get_config(path)
    for field, text in sorted(overrides, key=lambda override: not override[0].endswith(".name")):
        _override(config, field, text)  # names first: they decide which other fields there are
    check(config)
    return config


def split_overrides(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Separates `--config.field=value` and `--config.field value` from the other arguments, in their order."""
    overrides, others, words = [], [], list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith(("--config.", "-config.")):
            others.append(word)
            continue
        field, equals, text = word.lstrip("-").removeprefix("config.").partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"no value for --config.{field} - write --config.{field}=VALUE")
            text = words.pop(0)
        overrides.append((field, text))
    return overrides, others


def check(config: ConfigDict) -> None:
    """Holds every field of a config against the signature of the constructor that will take it.

    Raises:
      ConfigError: a section or field is unknown or missing, or a value is of the wrong type or out of its range.
    """
    for key in config:
        if key not in SECTIONS and key not in SEED:
            raise ConfigError(f"unknown config field {key}{signatures.did_you_mean(key, [*SECTIONS, *SEED])}")
    for section in [*SECTIONS, *SEED]:
        if section not in config:
            raise ConfigError(f"the config has no {section} - its sections are {', '.join([*SECTIONS, *SEED])}")
    config.seed = SEED["seed"].validate("seed", config.seed)
    for section in SECTIONS:
        where, parameters = _signature(config, section)
        for key, parameter in parameters.items():
            if parameter.required and key not in config[section]:
                raise ConfigError(f"the config has no {section}.{key}, {where} - give it a value")
        for key, value in config[section].items():
            if key in parameters:
                with config.ignore_type():
                    config[section][key] = parameters[key].validate(f"{section}.{key}", value)
            elif "**" not in parameters and key != "name":
                known = [name for name in parameters if name != "**"]
                raise ConfigError(f"unknown config field {section}.{key}, {where}{signatures.did_you_mean(key, known)}")


def build(section: str, settings: ConfigDict, **given):
    """Calls the constructor that a section names.

    Args:
      section: a key of `SECTIONS`, which says where to look for the name.
      settings: the section; `name` is "module.Constructor" and the rest its keyword arguments.
      **given: what the program knows and no config says.

    Raises:
      ConfigError: the constructor does not take these arguments.
    """
    module, attribute = _locate(section, settings)
    constructor = getattr(importlib.import_module(f"cnnrnn.{module}"), attribute)
    is_folder = "." not in SECTIONS[section]
    arguments = {key: value for key, value in settings.items() if not (is_folder and key == "name")}
    if twice := sorted(arguments.keys() & given.keys()):
        raise ConfigError(
            f"config field {section}.{twice[0]} is not for the config: the program sets it - delete the field"
        )
    try:
        inspect.signature(constructor).bind(**arguments, **given)
    except TypeError as error:
        raise ConfigError(f"{error}, config section {section} for {attribute} - see its signature") from error
    return constructor(**arguments, **given)


def dump(config: ConfigDict) -> str:
    """The config as JSON text."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_plain(tree: dict) -> ConfigDict:
    """The config that `dump` wrote, from its parsed JSON; lists become the tuples they were."""

    def freeze(value):
        if isinstance(value, dict):
            return {key: freeze(child) for key, child in value.items()}
        return tuple(freeze(child) for child in value) if isinstance(value, list) else value

    return ConfigDict(freeze(tree))


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
    """The fields in which two configs differ: {"optim.learning_rate": (old, new)}; None where a side has none."""
    one, other = _flatten(old.to_dict()), _flatten(new.to_dict())
    return {
        key: (one.get(key), other.get(key))
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    }


def _call_get_config(path: str) -> ConfigDict:
    file, _, argument = path.partition(":")
    if not Path(file).is_file():
        found = sorted(str(other) for other in Path(file).parent.glob("*.py")) or sorted(
            map(str, Path("configs").glob("*.py"))
        )
        there = f"the configs there are {', '.join(found)}" if found else "name a Python file"
        raise ConfigError(f"no config file {file}{signatures.did_you_mean(file, found, otherwise=f' - {there}')}")
    spec = importlib.util.spec_from_file_location("the_config", file)
    if spec is None:
        raise ConfigError(f"{file} is no config - name a Python file with a function get_config")
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        config = module.get_config(argument) if argument else module.get_config()
    except (Exception, SystemExit) as error:
        line = _line_in(error, file)
        raise ConfigError(f"{file}{line} raised {type(error).__name__}: {error} - mend the config") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"get_config() of {file} returned a {type(config).__name__} - return an ml_collections.ConfigDict"
        )
    return config


def _line_in(error: Exception, file: str) -> str:
    traceback, line = error.__traceback__, ""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(Path(file)):
            line = f", line {traceback.tb_lineno},"
        traceback = traceback.tb_next
    return line


def _override(config: ConfigDict, field: str, text: str) -> None:
    section, dot, key = field.partition(".")
    if section in SEED and not dot:
        config.seed = SEED["seed"].parse("seed", text)
        return
    if section not in SECTIONS:
        raise ConfigError(f"unknown config field {field}{signatures.did_you_mean(section, [*SECTIONS, *SEED])}")
    where, parameters = _signature(config, section)
    known = [*dict.fromkeys([*config[section], *(name for name in parameters if name != "**")])]
    if not dot:
        raise ConfigError(f"{section} is a section, --config.{section} - set one of its fields: {', '.join(known)}")
    if key not in known and ("**" not in parameters or signatures.is_near(key, known)):
        raise ConfigError(f"unknown config field {field}, {where}{signatures.did_you_mean(key, known)}")
    parameter = parameters.get(key, signatures.Parameter("None | bool | int | float | str"))
    with config.unlocked(), config.ignore_type():
        config[section][key] = parameter.parse(field, text)


def _signature(config: ConfigDict, section: str) -> tuple[str, dict[str, signatures.Parameter]]:
    module, attribute = _locate(section, config[section])
    return f"which goes to {attribute} in cnnrnn/{module.replace('.', '/')}.py", signatures.read(module, attribute)


def _locate(section: str, settings: ConfigDict) -> tuple[str, str]:
    """The module below cnnrnn and the attribute in it that a section is built by."""
    home = SECTIONS[section]
    if not isinstance(settings, ConfigDict):
        raise ConfigError(f"config section {section} is {settings!r} - make it a dict of fields")
    if "." in home:
        module, _, attribute = home.rpartition(".")
        return module, attribute
    if "name" not in settings:
        raise ConfigError(
            f'config section {section} has no name - say what to build, {section}.name="module.Constructor"'
        )
    module, _, attribute = str(settings.name).rpartition(".")
    if not module.isidentifier():
        raise ConfigError(
            f'{section}.name is "{settings.name}" - write "module.Constructor", as in cnnrnn/{home}/module.py'
        )
    return f"{home}.{module}", attribute


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
