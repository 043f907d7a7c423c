"""Files of configs: Python with a function `get_config`, written by hand, and the JSON that a run stores."""

import importlib.util
import inspect
import json
from pathlib import Path

from ml_collections import ConfigDict

from cnnrnn.errors import ConfigError
from cnnrnn.signatures import did_you_mean


def read(path: str) -> ConfigDict:
    """The config that a file's `get_config` returns.

    Args:
      path: a Python file, followed by `:argument` if its `get_config` takes one. The file is executed.

    Raises:
      ConfigError: there is no such file, it raises an error, or it returns no ConfigDict.
    """
    file, _, argument = path.partition(":")
    if not Path(file).is_file():
        found = [*map(str, sorted(Path(file).parent.glob("*.py")) or sorted(Path("configs").glob("*.py")))]
        existing = f"the configs there are {', '.join(found)}" if found else "name a Python file"
        raise ConfigError(f"no config file {file}{did_you_mean(file, found, otherwise=f' - {existing}')}")
    spec = importlib.util.spec_from_file_location("the_config", file)
    if spec is None:
        raise ConfigError(f"{file} is no config - name a Python file with a function get_config")
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if argument and not inspect.signature(module.get_config).parameters:
            raise ConfigError(f"{file} has no variants, and so no {argument!r} - leave out :{argument}")
        config = module.get_config(argument) if argument else module.get_config()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        line = _line_in(error, file)
        raise ConfigError(f"{file}{line} raised {type(error).__name__}: {error} - fix the config") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"get_config() of {file} returned a {type(config).__name__} - return an ml_collections.ConfigDict"
        )
    return config


def dump(config: ConfigDict) -> str:
    """The config as JSON text."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def from_plain(tree: dict) -> ConfigDict:
    """The config that `dump` wrote, from its parsed JSON. Lists become tuples again."""

    def freeze(value):
        if isinstance(value, dict):
            return {key: freeze(child) for key, child in value.items()}
        return tuple(freeze(child) for child in value) if isinstance(value, list) else value

    return ConfigDict(freeze(tree))


def _line_in(error: BaseException, file: str) -> str:
    """ ", line 3," for the line of the file in which an error was raised; "" if it was raised elsewhere."""
    traceback, line = error.__traceback__, ""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(Path(file)):
            line = f", line {traceback.tb_lineno},"
        traceback = traceback.tb_next
    return line
