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
from cnnrnn.errors import ConfigError, Interrupted, Refusal, WorkdirError

# What may be changed from one start of a run to the next: its length, what it writes, what computes it, where the same
# data lie.
CHANGEABLE = (
    "train.num_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "train.keep",
    "model.implementation",  # the same function; a run that a GPU began may go on without one
    "data.source",  # what lies there, tokens or names of pictures, is held fast by dataset.json
    "data.workers",
    "data.data_dir",
    "data.manual_dir",
    "data.eval_batch_size",
)


class Run(NamedTuple):
    """A run as it lies on disk: its config, and the info of its training split."""

    config: ConfigDict
    info: dict


class Workdir:
    """Opens the directory of a run for training and holds it: `with Workdir(path, config) as workdir`.

    Raises:
      WorkdirError: it cannot be written, or another process trains in it.
      ConfigError: it holds a run of another config.
    """

    def __init__(self, path: str, config: ConfigDict):
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "a+", encoding="utf-8")
        except OSError as error:
            raise WorkdirError(f"cannot write in {path}: {error.strerror} - choose another --workdir") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "another process"
            raise WorkdirError(f"{path} is in use by {holder} - wait for it or choose another --workdir") from None
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._lock.flush()
        saved = (self.path / "checkpoints").glob("[0-9]*")
        self._has_state = any(saved)  # before that there is nothing to be held to, and a mistake may be mended
        self._keep_config(config)
        (self.path / "FAILED").unlink(missing_ok=True)

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is not None and not isinstance(error, (Interrupted, KeyboardInterrupt)):
            lines = [f"{kind.__name__}: {error}\n"] if isinstance(error, Refusal) else traceback.format_exception(error)
            with contextlib.suppress(WorkdirError):  # on a full disk the error itself matters more
                write_whole(self.path / "FAILED", "".join(lines))
        self._lock.close()

    def keep_info(self, infos: dict[str, dict]) -> None:
        """Writes down what the data are; once there is a checkpoint, holds them to it.

        Args:
          infos: of each split; of the others than "train" only what differs from it is kept.

        Raises:
          WorkdirError: the data are not those that the run was started with.
        """
        file = self.path / "dataset.json"
        info = dict(infos["train"])
        for split in infos.keys() - {"train"}:
            info[split] = {key: value for key, value in infos[split].items() if infos["train"].get(key) != value}
        info = json.loads(json.dumps(info))
        if self._has_state and file.exists() and (old := _read_json(file)) != info:
            changed = next(key for key in sorted(old.keys() | info.keys()) if old.get(key) != info.get(key))
            raise WorkdirError(
                f"the data of the run in {self.path} had another {changed} - give the same, or choose another --workdir"
            )
        write_whole(file, json.dumps(info, indent=2) + "\n")

    def _keep_config(self, config: ConfigDict) -> None:
        file = self.path / "config.json"
        if self._has_state and not file.exists():
            raise WorkdirError(f"{self.path} holds checkpoints but no config.json - choose another --workdir")
        if self._has_state:
            for field, (old, new) in configs.differences(_read_config(file), config).items():
                if field not in CHANGEABLE:
                    raise ConfigError(
                        f"{field} is {_or_nothing(new)} but the run in {self.path} has {_or_nothing(old)} - "
                        "choose another --workdir"
                    )
        write_whole(file, configs.dump(config))


def read_run(path: str) -> Run:
    """The run that a directory holds.

    Raises:
      WorkdirError: there is none.
    """
    for name in ("config.json", "dataset.json"):
        if not (Path(path) / name).is_file():
            raise WorkdirError(f"no trained run in {path} (no {name}) - give the --workdir of a training")
    return Run(_read_config(Path(path) / "config.json"), _read_json(Path(path) / "dataset.json"))


def write_whole(file: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new one, never half of it.

    Raises:
      WorkdirError: it cannot be written.
    """
    part = file.with_name(f".{file.name}.part")
    try:
        with open(part, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    except OSError as error:
        raise WorkdirError(f"cannot write {file}: {error.strerror} - make room, then run it again") from error


def _or_nothing(value: Any) -> str:
    return "not given" if value is None else repr(value)


def _read_config(file: Path) -> ConfigDict:
    config = configs.from_plain(_read_json(file))
    try:
        configs.check(config)
    except ConfigError as error:
        raise WorkdirError(f"{file} is damaged: {error}") from error
    return config


def _read_json(file: Path) -> dict:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("it holds no JSON object")
        return tree
    except (OSError, ValueError) as error:
        raise WorkdirError(f"{file} is damaged: {error} - choose another --workdir") from error
