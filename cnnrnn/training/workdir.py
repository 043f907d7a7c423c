"""The directory of a run: one run at a time, one config, and what the model needs to be used without its data."""

import contextlib
import fcntl
import json
import os
import socket
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cnnrnn import config as configs
from cnnrnn import config_file
from cnnrnn.command import is_utf8
from cnnrnn.data.files import is_run
from cnnrnn.errors import ConfigError, Interrupted, UserError, WorkdirError
from cnnrnn.lookup import MissingModule

SUMMARY = "summary"  # the part of dataset.json that is for people


class Run(NamedTuple):
    """A run on disk.

    Attributes:
      config: of the run.
      info: of its training split.
    """

    config: ConfigDict
    info: dict


class Workdir:
    """Opens the directory of a run for training and locks it: `with Workdir(path, config) as workdir`.

    Raises:
      WorkdirError: it cannot be written, its path is not UTF-8, it is a folder of the data, or another process trains
        in it.
      ConfigError: it contains a run with another config.
    """

    def __init__(self, path: str, config: ConfigDict):
        _check_path(path)
        _check_data(path, config)
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a+", encoding="utf-8", errors="replace")
            with contextlib.ExitStack() as on_error:
                on_error.callback(self._lock.close)
                self._acquire()
                self._has_checkpoint = any(path.name.isdigit() for path in (self.path / "checkpoints").glob("*"))
                self._verify_config(config)
                (self.path / "FAILED").unlink(missing_ok=True)
                on_error.pop_all()
        except OSError as error:
            raise WorkdirError(f"cannot write in {path}: {error.strerror} - choose another --workdir") from error

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is not None and not isinstance(error, (Interrupted, KeyboardInterrupt)):
            is_users = isinstance(error, UserError)
            lines = [f"{kind.__name__}: {error}\n"] if is_users else traceback.format_exception(error)
            with contextlib.suppress(WorkdirError):  # on a full disk the error itself matters more
                atomic_write(self.path / "FAILED", "".join(lines))
        self._lock.close()

    def verify_dataset_info(self, infos: dict[str, dict], summaries: dict[str, dict] | None = None) -> None:
        """Writes what is known of the data. Once there is a checkpoint, checks that it is the same.

        Args:
          infos: of each split. Of the splits other than "train" only what differs from it is written.
          summaries: of each split, for people; they may change.

        Raises:
          WorkdirError: the data are not those of the run.
        """
        file = self.path / "dataset.json"
        info = _merge_infos(infos)
        if self._has_checkpoint and file.exists():
            check_dataset_info(self.path, infos)
        atomic_write(file, json.dumps(info | {SUMMARY: summaries or {}}, indent=2) + "\n")

    def _acquire(self) -> None:
        """Locks the directory, and writes into the lock who has it."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            raise WorkdirError(f"{self.path} is in use by {holder} - wait or choose another --workdir") from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()

    def _verify_config(self, config: ConfigDict) -> None:
        """Writes the config. Once there is a checkpoint, checks that only resumable fields have changed."""
        file = self.path / "config.json"
        if self._has_checkpoint and not file.exists():
            raise WorkdirError(f"{self.path} contains checkpoints but no config.json - choose another --workdir")
        if self._has_checkpoint:
            check_config(self.path, _read_config(file), config)
        atomic_write(file, config_file.dump(config))


def check_dataset_info(path: Path, infos: dict[str, dict]) -> None:
    """Checks that the data are those of the run in a directory, see `Workdir.verify_dataset_info`."""
    old = {key: value for key, value in _read_json(path / "dataset.json").items() if key != SUMMARY}
    info = _merge_infos(infos)
    if changed := [key for key in sorted(old.keys() | info.keys()) if old.get(key) != info.get(key)]:
        raise WorkdirError(
            f"the data of the run in {path} had another {changed[0]} - give the same, or choose another --workdir"
        )


def check_config(path: Path, old: ConfigDict, new: ConfigDict) -> None:
    """Checks that only resumable fields of the config of the run in a directory have changed.

    Raises:
      ConfigError: another field has.
    """
    for field, (before, after) in configs.differences(old, new).items():
        if not configs.is_resumable(new, field):
            raise ConfigError(
                f"{field} is {_or_default(after)} but the run in {path} has {_or_default(before)} - "
                "choose another --workdir"
            )


def read_run(path: str) -> Run:
    """The run in a directory.

    Raises:
      WorkdirError: there is none, or it is damaged or of another version of the package.
    """
    _check_path(path)
    for name in ("config.json", "dataset.json"):
        if not (Path(path) / name).is_file():
            raise WorkdirError(f"no trained run in {path} (no {name}) - give the --workdir of a training")
    return Run(_read_config(Path(path) / "config.json"), _read_json(Path(path) / "dataset.json"))


def atomic_write(file: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new text, never a part of it. The file is always UTF-8.

    Raises:
      WorkdirError: it cannot be written.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        # a traceback may have the name of a file that is not UTF-8
        with open(part, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise WorkdirError(f"cannot write {file}: {error.strerror} - make room, then run it again") from error


def _merge_infos(infos: dict[str, dict]) -> dict:
    """The info of a run, as it is read from JSON: that of the training split, and where the others differ from it."""
    train = infos["train"]
    others = {split: info for split, info in infos.items() if split != "train"}
    differing = {
        split: {key: value for key, value in info.items() if train.get(key) != value} for split, info in others.items()
    }
    return json.loads(json.dumps(train | differing))


def _check_path(path: str) -> None:
    if not is_utf8(os.path.abspath(path)):
        raise WorkdirError(f"the path {path} is not UTF-8, and Orbax takes no other - choose another --workdir")


def _check_data(path: str, config: ConfigDict) -> None:
    """Refuses a folder of the data: a run in it would hide it from every later run."""
    source, path = config.data.get("source"), os.path.realpath(path)
    if not isinstance(source, str) or not os.path.isdir(source := os.path.realpath(os.path.expanduser(source))):
        return
    is_inside = f"{path}/".startswith(f"{source}/")
    if is_inside and os.path.isdir(path) and os.listdir(path) and not is_run(path):
        raise WorkdirError(f"{path} is a folder of the data, data.source - choose another --workdir")


def _or_default(value: Any) -> str:
    return "its default" if value is None else repr(value)


def _read_config(file: Path) -> ConfigDict:
    config = config_file.from_plain(_read_json(file))
    if missing := [name for name in configs.FIELDS if not isinstance(getattr(config, name, None), (ConfigDict, int))]:
        raise WorkdirError(f"{file} is damaged: it has no {missing[0]} - choose another --workdir")
    try:
        configs.check(config)
    except MissingModule as error:
        hint = "start where Python can import it, use the version of cnnrnn that wrote the file"
        raise WorkdirError(f"{file}: {_problem(error)} - {hint}, or choose another --workdir") from error
    except ConfigError as error:
        hint = "use that version, or choose another --workdir"
        raise WorkdirError(f"{file} was written by another version of cnnrnn: {_problem(error)} - {hint}") from error
    return config


def _problem(error: ConfigError) -> str:
    """The error without its hint, which is for whoever writes a config."""
    return str(error).partition(" - ")[0]


def _read_json(file: Path) -> dict:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("it contains no JSON object")
        return tree
    except OSError as error:
        raise WorkdirError(f"cannot read {file}: {error.strerror} - check the disk and the file's rights") from error
    except ValueError as error:
        raise WorkdirError(f"{file} is damaged: {error} - choose another --workdir") from error
