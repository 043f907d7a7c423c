"""Checkpoints: Orbax step directories with checksums, because Orbax restores a flipped bit without an error.

checkpoints/<step>/state contains the arrays, checkpoints/<step>/manifest their checksums and a record (JSON). A step is
committed completely or not at all. A damaged one is detected on restore, and the one before it used.
"""

import json
import shutil
import sys
import zlib
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import serialization, traverse_util

from cnnrnn.command import note
from cnnrnn.errors import CheckpointError, NumericalError, WorkdirError
from cnnrnn.training.damage import find_trouble, first_line

Leaves = dict[str, np.ndarray]  # {"params/C1/kernel": array}


class Saved(NamedTuple):
    """A checkpoint that has been read: its step, its arrays, and the record that was saved with them."""

    step: int
    leaves: Leaves
    record: dict


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: of the checkpoints; it is created if they are to be written.
      max_to_keep: the number of newest steps that are not deleted. None only reads: nothing on disk changes.

    Raises:
      WorkdirError: the directory cannot be created or read.
    """

    def __init__(self, directory: Path, max_to_keep: int | None = None):
        _silence_orbax()
        self.directory = directory
        self._read_only = max_to_keep is None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=max_to_keep,
            enable_async_checkpointing=False,
            create=not self._read_only,
            read_only=self._read_only,
            cleanup_tmp_directories=not self._read_only,
        )
        try:
            self._manager = ocp.CheckpointManager(directory, options=options)
        except OSError as error:
            raise WorkdirError(f"cannot read or write {directory}: {error.strerror} - check the disk") from error

    def save(self, step: int, state: Any, record: dict) -> None:
        """Writes a state and a JSON record; on return they are on disk.

        Raises:
          NumericalError: a number in the state is not finite; nothing is written.
          WorkdirError: it cannot be written; the checkpoints before are untouched.
        """
        leaves = _to_leaves(state)
        _check_finite(leaves, step)
        manifest = {"leaves": {path: _describe(leaf) for path, leaf in leaves.items()}, "record": record}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(traverse_util.unflatten_dict(leaves, sep="/")),
            manifest=ocp.args.JsonSave({**manifest, "crc32": _checksum(manifest)}),
        )
        try:
            self._manager.save(step, args=items, force=True)
            self._manager.wait_until_finished()
        except Exception as error:
            raise WorkdirError(
                f"cannot save step {step} in {self.directory}: {first_line(error)} - make room, then run it again"
            ) from error

    def newest(self) -> Saved | None:
        """The newest good checkpoint, None if there is none. See `latest`."""
        return next(iter(self.latest(1)), None)

    def latest(self, count: int) -> list[Saved]:
        """The newest good checkpoints, at most `count`, the newest first.

        Newer ones that are damaged are renamed to <step>.corrupt. If none is good, nothing is renamed.

        Raises:
          CheckpointError: there are checkpoints and every one is damaged.
          WorkdirError: they cannot be read, but not because they are damaged.
        """
        while True:
            steps = self.steps()
            found, damaged = self._find_good(steps, count)
            if not damaged or self.steps() == steps:  # else another process, which trains, has deleted some of them
                break
        if not found and damaged:
            raise CheckpointError(f"every checkpoint in {self.directory} is damaged - train in another --workdir")
        for bad in damaged:
            self._rename_damaged(bad)
        return found

    def delete(self, step: int) -> None:
        """Deletes the checkpoint of a step, if there is one.

        Raises:
          WorkdirError: it cannot be deleted.
        """
        if step in self.steps():
            try:
                self._manager.delete(step)
            except OSError as error:
                raise WorkdirError(f"cannot delete {self.directory / str(step)}: {error.strerror}") from error

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def steps(self) -> list[int]:
        """The steps that are saved, the newest first."""
        try:
            self._manager.reload()
            return sorted(self._manager.all_steps(), reverse=True)
        except OSError as error:
            raise WorkdirError(f"cannot read {self.directory}: {error.strerror} - check the disk") from error

    def _find_good(self, steps: list[int], count: int) -> tuple[list[Saved], list[int]]:
        """The first `count` checkpoints that can be restored, and the steps between them, which are damaged."""
        found, damaged = [], []
        for step in steps:
            if len(found) == count:
                break
            try:
                found.append(Saved(step, *self._read(step)))
            except Exception as error:
                if trouble := find_trouble(error):
                    path = self.directory / str(step)
                    raise WorkdirError(
                        f"cannot read {path}: {first_line(trouble)} - check the disk, then run it again"
                    ) from error
                damaged.append(step)
        return found, damaged

    def _rename_damaged(self, step: int) -> None:
        path = self.directory / str(step)
        note(f"checkpoint {path} is damaged - an older one is used instead")
        if self._read_only:
            return
        corrupt = path.with_suffix(".corrupt")
        try:
            shutil.rmtree(corrupt, ignore_errors=True)
            path.rename(corrupt)
            self._manager.reload()
        except OSError as error:
            raise WorkdirError(f"cannot rename {path}: {error.strerror} - check the disk") from error

    def _read(self, step: int) -> tuple[Leaves, dict]:
        items = ocp.args.Composite(state=ocp.args.StandardRestore(), manifest=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=items)
        manifest = dict(restored["manifest"])
        if manifest.pop("crc32") != _checksum(manifest):
            raise ValueError("its manifest is not what was saved")
        leaves = {
            path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(restored["state"], sep="/").items()
        }
        if {path: _describe(leaf) for path, leaf in leaves.items()} != manifest["leaves"]:
            raise ValueError("its arrays are not what was saved")
        return leaves, manifest["record"]


def _silence_orbax() -> None:
    """Orbax logs every stage, and after damage its threads print tracebacks of what we report in one line."""
    logging.set_verbosity(logging.FATAL)
    getLogger("asyncio").setLevel("CRITICAL")
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = lambda event: (
            None if "Event loop is closed" in str(event.exc_value) else sys.__unraisablehook__(event)
        )


def _check_finite(leaves: Leaves, step: int) -> None:
    for path, leaf in leaves.items():
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            continue
        bad = np.isnan(leaf) if path.startswith("opt_state/") else ~np.isfinite(leaf)  # a best loss starts at inf
        if bad.any():
            raise NumericalError(
                f"{path} is not finite after step {step} - lower optim.learning_rate or set optim.clip_norm"
            )


def _to_leaves(state: Any) -> Leaves:
    tree = serialization.to_state_dict(jax.device_get(jax.tree.map(raw_leaf, state)))
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()}


def raw_leaf(leaf: Any) -> Any:
    """The data of a random key; any other leaf unchanged."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: np.ndarray) -> list:
    return [shape_of(leaf), zlib.crc32(np.ascontiguousarray(leaf))]


def shape_of(leaf: Any) -> str:
    return "absent" if leaf is None else f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"


def _checksum(manifest: dict) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())
