"""Checkpoints: Orbax step directories with checksums, because Orbax restores a flipped bit without an error.

checkpoints/<step>/state contains the arrays, checkpoints/<step>/manifest their checksums and a record (JSON). A step is
committed completely or not at all. A damaged one is detected on restore, and the one before it used.
"""

import contextlib
import json
import shutil
import sys
import zlib
from logging import getLogger
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from flax import serialization, traverse_util

from cnnrnn.command import note
from cnnrnn.errors import CheckpointError, NumericalError, WorkdirError
from cnnrnn.optim.nt_asgd import eval_params
from cnnrnn.training.damage import find_trouble, first_line

Leaves = dict[str, np.ndarray]  # {"params/C1/kernel": array}


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

    def newest(self) -> tuple[int, Leaves, dict] | None:
        """The newest good checkpoint: step, arrays, record; None if there is none.

        Newer ones that are damaged are renamed to <step>.corrupt. If none is good, nothing is renamed.

        Raises:
          CheckpointError: there are checkpoints and every one is damaged.
          WorkdirError: they cannot be read, but not because they are damaged.
        """
        while True:
            steps = self._steps()
            found, damaged = self._first_good(steps)
            if not damaged or self._steps() == steps:  # else another process, which trains, has deleted some of them
                break
        if found is None and damaged:
            raise CheckpointError(f"every checkpoint in {self.directory} is damaged - train in another --workdir")
        for bad in damaged:
            self._rename_damaged(bad, used=found[0])
        return found

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

    def _steps(self) -> list[int]:
        """The steps that are saved, the newest first."""
        try:
            self._manager.reload()
            return sorted(self._manager.all_steps(), reverse=True)
        except OSError as error:
            raise WorkdirError(f"cannot read {self.directory}: {error.strerror} - check the disk") from error

    def _first_good(self, steps: list[int]) -> tuple[tuple[int, Leaves, dict] | None, list[int]]:
        """The first checkpoint that can be restored, and the steps before it, which are damaged."""
        damaged = []
        for step in steps:
            try:
                return (step, *self._read(step)), damaged
            except Exception as error:
                if trouble := find_trouble(error):
                    path = self.directory / str(step)
                    raise WorkdirError(
                        f"cannot read {path}: {first_line(trouble)} - check the disk, then run it again"
                    ) from error
                damaged.append(step)
        return None, damaged

    def _rename_damaged(self, step: int, used: int) -> None:
        path = self.directory / str(step)
        note(f"checkpoint {path} is damaged - that of step {used} is used instead")
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


def to_state(leaves: Leaves, template: Any) -> Any:
    """Puts restored arrays into the structure of a template, on the host.

    Args:
      leaves: from `Checkpoints.newest`.
      template: a state with the shapes and dtypes to expect, from `jax.eval_shape`.

    Raises:
      CheckpointError: they do not fit: the checkpoint is of another model or optimizer.
    """
    raw = jax.eval_shape(lambda state: jax.tree.map(_raw, state), template)
    tree = serialization.to_state_dict(raw)
    expected = traverse_util.flatten_dict(tree, sep="/", keep_empty_nodes=True)
    paths = leaves.keys() | {path for path, leaf in expected.items() if hasattr(leaf, "shape")}
    for path in sorted(paths, key=lambda path: (not path.startswith("params/"), path)):  # params tell the most
        saved, wanted = (_shape(arrays.get(path)) for arrays in (leaves, expected))
        if saved != wanted:
            hint = "use as many devices as before" if path.startswith("carry/") else "use the config of the run"
            raise CheckpointError(
                f"{path} is {saved} in the checkpoint and {wanted} here - {hint}, or choose another --workdir"
            )
    filled = traverse_util.unflatten_dict(expected | leaves, sep="/")
    state = serialization.from_state_dict(raw, filled)
    return jax.tree.map(lambda want, leaf: jax.random.wrap_key_data(leaf) if _is_key(want) else leaf, template, state)


def load_variables(directory: Path) -> dict:
    """The newest good variables of a model, {"params": ..., and its other collections}, as arrays on the host.

    Args:
      directory: of the checkpoints.

    Raises:
      CheckpointError: there is no good checkpoint.
      WorkdirError: it cannot be read.
    """
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        found = checkpoints.newest()
    if found is None:
        raise CheckpointError(f"no checkpoint in {directory} - train first, with the same --workdir")
    tree = traverse_util.unflatten_dict(found[1], sep="/")
    return {"params": eval_params(tree.get("opt_state", {}), tree["params"]), **tree.get("model_state", {})}


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
    tree = serialization.to_state_dict(jax.device_get(jax.tree.map(_raw, state)))
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()}


def _raw(leaf: Any) -> Any:
    """The data of a random key; any other leaf unchanged."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: np.ndarray) -> list:
    return [_shape(leaf), zlib.crc32(np.ascontiguousarray(leaf))]


def _shape(leaf: Any) -> str:
    return "absent" if leaf is None else f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"


def _checksum(manifest: dict) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())
