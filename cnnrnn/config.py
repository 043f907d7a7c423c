"""From a config file and the command line to objects: load, check, build.

A config has the sections task, model, data, optim and train, and a seed. A section is the keyword arguments of one
constructor, so the fields, their types and their ranges are those of the constructor's signature.
"""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ml_collections import ConfigDict

from cnnrnn import config_file, lookup, signatures
from cnnrnn.errors import ConfigError
from cnnrnn.signatures import Parameter

# The constructor of each section, or the package of the constructors among which the section's `name` chooses.
SECTIONS = {
    "task": "tasks",
    "model": "models",
    "data": "data",
    "optim": "optim.optimizer.make_optimizer",
    "train": "training.loop.fit",
}
PACKAGES = ("tasks", "models", "data")
SEED = Parameter(signatures.Seed)
FIELDS = (*SECTIONS, "seed")  # of a config


def load(path: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """The config of a file's `get_config`, with overrides, checked.

    Args:
      path: a Python file, followed by `:argument` if its `get_config` takes one. The file is executed.
      overrides: pairs of a field, "optim.learning_rate", and its value as text.

    Raises:
      ConfigError: the file or an override is wrong, or the config does not fit its constructors.
    """
    config = config_file.read(path)
    _check_sections(config)
    override(config, overrides)
    return config


def override(config: ConfigDict, overrides: Sequence[tuple[str, str]]) -> None:
    """Sets fields of a config, and checks it. See `load`."""
    for field, _ in overrides:
        _check_section_name(field)  # before a constructor is imported, which takes a second
    for field, text in sorted(overrides, key=lambda override: not override[0].endswith(".name")):
        _override(config, field, text)  # names first: they decide which other fields there are
    check(config)


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
    """Checks every field against the signature of the constructor that takes it.

    Raises:
      ConfigError: a section or field is unknown or missing, or a value has the wrong type or is out of range.
    """
    _check_sections(config)
    config.seed = SEED.validate("seed", config.seed)
    for section in SECTIONS:
        where, parameters = _parameters(config, section)
        for key, parameter in parameters.items():
            if parameter.required and key not in config[section]:
                raise ConfigError(f"the config has no {section}.{key}, {where} - give it a value")
        for key, value in config[section].items():
            field = f"{section}.{key}"
            if key in parameters:
                with config.ignore_type():
                    config[section][key] = parameters[key].validate(field, value)
            elif "**" in parameters:
                parameters["**"].validate(field, value)
            else:
                known = [name for name, parameter in parameters.items() if parameter.is_settable]
                raise ConfigError(f"unknown config field {field}, {where}{signatures.did_you_mean(key, known)}")


def is_resumable(config: ConfigDict, field: str) -> bool:
    """Whether a field, "train.num_steps", may change when a run is resumed: its annotation says so."""
    section, _, key = field.partition(".")
    if section not in SECTIONS:
        return False
    parameter = _parameters(config, section)[1].get(key)
    return parameter is not None and parameter.resumable


def build(section: str, settings: ConfigDict, **given: Any) -> Any:
    """Calls the constructor of a section.

    >>> build("model", ConfigDict({"name": "lenet5.LeNet5"}), num_classes=10).num_classes
    10

    Args:
      section: a key of `SECTIONS`.
      settings: the section. Its `name` is "module.Constructor", in the package of the section or else in any module
        that Python can import. The other fields are keyword arguments.
      **given: further arguments, which the program knows and no config gives.

    Raises:
      ConfigError: the constructor does not take these arguments, or refuses a value of them.
    """
    constructor = _constructor(section, settings)
    arguments = {key: value for key, value in settings.items() if not _chooses(section, key)}
    if twice := sorted(arguments.keys() & given.keys()):
        raise ConfigError(f"config field {section}.{twice[0]} is not for the config: the program gives it - delete it")
    try:
        inspect.signature(constructor).bind(**arguments, **given)
    except TypeError as error:
        raise ConfigError(
            f"{error}, config section {section} for {constructor.__name__} - see its signature"
        ) from error
    try:
        return constructor(**arguments, **given)
    except ValueError as error:
        raise ConfigError(f"{section}: {error}") from error


@contextmanager
def as_config_error(config: ConfigDict) -> Iterator[None]:
    """Turns a ValueError of a model, a task or an optimizer, which may come late, into a ConfigError with its section.

    Any other error passes.
    """
    try:
        yield
    except ValueError as error:
        if section := section_of(error, config):
            raise ConfigError(f"{section}: {error}") from error
        raise


def section_of(error: BaseException, config: ConfigDict | None = None) -> str | None:
    """The section of the config that an error is about.

    It is that of the innermost frame of the traceback in a model, a task or an optimizer. Layers belong to the model
    that calls them.

    Args:
      error: with its traceback.
      config: tells a model and a task outside of the package; None if there are none.

    Returns:
      "model", "task", "optim", or None if the error was raised in none of them.
    """
    named = {section: _constructor(section, config[section]) for section in ("model", "task")} if config else {}
    found, traceback = None, error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        module, qualname = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
        found = "optim" if module.startswith("cnnrnn.optim.") else found
        for section in ("model", "task"):
            constructor = named.get(section)
            if module.startswith(f"cnnrnn.{SECTIONS[section]}.") or _is_of(constructor, module, qualname, named):
                found = section
        traceback = traceback.tb_next
    return found


def differences(old: ConfigDict, new: ConfigDict) -> dict[str, tuple]:
    """The fields in which two configs differ: {"optim.learning_rate": (old, new)}; None where one has none."""
    first, second = _flatten(old.to_dict()), _flatten(new.to_dict())
    return {
        key: (first.get(key), second.get(key))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    }


def _check_sections(config: ConfigDict) -> None:
    for key in config:
        if key not in FIELDS:
            raise ConfigError(f"unknown config field {key}{signatures.did_you_mean(key, FIELDS)}")
    for section in FIELDS:
        if section not in config:
            raise ConfigError(f"the config has no {section} - its sections are {', '.join(FIELDS)}")


def _check_section_name(field: str) -> None:
    section, dot, _ = field.partition(".")
    if section not in FIELDS or (section == "seed" and dot):
        raise ConfigError(f"unknown config field {field}{signatures.did_you_mean(section, FIELDS)}")


def _override(config: ConfigDict, field: str, text: str) -> None:
    section, _, key = field.partition(".")
    if section == "seed":
        config.seed = SEED.parse("seed", text)
        return
    where, parameters = _parameters(config, section)
    settable = [name for name, parameter in parameters.items() if parameter.is_settable and name != "**"]
    known = [*dict.fromkeys([*config[section], *settable])]
    if not key:
        raise ConfigError(f"{section} is a section, --config.{section} - set one of its fields: {', '.join(known)}")
    if key not in known and ("**" not in parameters or signatures.is_near(key, known)):
        raise ConfigError(f"unknown config field {field}, {where}{signatures.did_you_mean(key, known)}")
    parameter = parameters.get(key, Parameter(signatures.Plain))
    with config.unlocked(), config.ignore_type():
        config[section][key] = parameter.parse(field, text)


def _parameters(config: ConfigDict, section: str) -> tuple[str, dict[str, Parameter]]:
    """The constructor of a section, in words for an error, and what it takes."""
    constructor = _constructor(section, config[section])
    where = f"{constructor.__name__} in {lookup.file_of(sys.modules[constructor.__module__])}"
    try:
        parameters = signatures.read(constructor)
    except (NameError, ValueError) as error:  # a name in an annotation that exists for type checkers only
        raise ConfigError(f"the signature of {where} cannot be read: {error} - fix its annotations") from error
    if SECTIONS[section] in PACKAGES:
        parameters["name"] = Parameter(str)
    return f"which goes to {where}", parameters


def _constructor(section: str, settings: ConfigDict) -> Callable:
    package = SECTIONS[section]
    if not isinstance(settings, ConfigDict):
        raise ConfigError(f"config section {section} is {settings!r} - make it a dict of fields")
    if package not in PACKAGES:
        return lookup.find(f"cnnrnn.{package}")
    if "name" not in settings:
        raise ConfigError(
            f'config section {section} has no name - say what to build, {section}.name="module.Constructor"'
        )
    return lookup.find_named(section, package, str(settings.name))


def _chooses(section: str, key: str) -> bool:
    """Whether a field is the name that chooses the constructor, and no argument of it."""
    return SECTIONS[section] in PACKAGES and key == "name"


def _is_of(constructor: Callable | None, module: str, qualname: str, named: dict[str, Callable]) -> bool:
    """Whether code belongs to a constructor: to its module, or to its class if the other one is in the same module."""
    if constructor is None or constructor.__module__ != module:
        return False
    is_shared = all(other.__module__ == module for other in named.values())
    return not is_shared or qualname.split(".")[0] == constructor.__name__


def _flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
