"""Finds the constructor that a config names: in the package, or in any other module that Python can import."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from cnnrnn.errors import ConfigError
from cnnrnn.signatures import did_you_mean

# What a constructor must derive from. A run names its model and its task in JSON, and what is read must not execute
# anything else, say a function that deletes files.
BASES = {"model": "flax.linen.module.Module", "task": "cnnrnn.tasks.task.Task"}


class MissingModule(ConfigError):
    """A config names a module that is not there."""


def find(path: str) -> Callable:
    """The attribute of a module: "cnnrnn.optim.optimizer.make_optimizer"."""
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def find_named(section: str, package: str, name: str) -> Callable:
    """The constructor that a section names.

    Args:
      section: of the config, for errors.
      package: of cnnrnn, "models".
      name: "module.Constructor" below the package, "lenet5.LeNet5"; or of any other module, "my_nets.Net".

    Raises:
      ConfigError: there is no such module or constructor, or the module cannot be imported.
    """
    path, _, attribute = name.rpartition(".")
    if not path or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f'{section}.name is "{name}" - write "module.Constructor", as in cnnrnn/{package}/module.py')
    module = _import(section, f"cnnrnn.{package}.{path}") or _import(section, path)
    if module is None:
        where = f"cnnrnn/{package}, nor on Python's path{did_you_mean(path, _list_modules(package))}"
        raise MissingModule(f'{section}.name is "{name}", but there is no module {path} in {where}')
    found = getattr(module, attribute, None)
    if attribute.startswith("_") or not (inspect.isclass(found) or inspect.isfunction(found)):
        where = f"{file_of(module)}{did_you_mean(attribute, _list_constructors(module))}"
        raise ConfigError(f'{section}.name is "{name}", but there is no {attribute} in {where}')
    base = BASES.get(section)
    if base and base not in [f"{c.__module__}.{c.__qualname__}" for c in getattr(found, "__mro__", ())]:
        raise ConfigError(f'{section}.name is "{name}", which is no {section} - name a class derived from {base}')
    return found


def file_of(module: ModuleType) -> str:
    """The file of a module, for an error: "cnnrnn/models/lenet5.py"."""
    name = Path(module.__file__ or module.__name__)
    depth = len(module.__name__.split(".")) + (name.stem == "__init__")
    return "/".join(name.parts[-depth:])


def _import(section: str, path: str) -> ModuleType | None:
    """The module, or None if it is not there."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if f"{path}.".startswith(f"{error.name}."):
            return None
        raise ConfigError(f"module {path} needs {error.name}, which is not installed - install it") from error
    except (Exception, SystemExit) as error:  # a user's module may fail in any way
        what = f"{type(error).__name__}: {error}"
        raise ConfigError(f"module {path} raised {what} - fix it, or {section}.name") from error


def _list_modules(package: str) -> list[str]:
    """All modules below a package of cnnrnn, by their names in it."""
    root = Path(__file__).parent / package
    return sorted(".".join(file.relative_to(root).with_suffix("").parts) for file in root.rglob("[!_]*.py"))


def _list_constructors(module: ModuleType) -> list[str]:
    """The public classes and functions that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]
