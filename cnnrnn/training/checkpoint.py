"""Checkpoints: Orbax step directories with checksums inside, because Orbax restores a flipped bit without a word.

checkpoints/<step>/state holds the arrays, checkpoints/<step>/manifest their checksums and a record (JSON). A step is
committed whole or not at all; a damaged one is found out on restore and the one before it used.
"""

import errno
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

from cnnrnn.errors import CheckpointError, NumericalError, WorkdirError
from cnnrnn.optim import averaged

NOT_DAMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.ESTALE)
Leaves = dict[str, np.ndarray]  # {"params/C1/kernel": array}


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: where they lie; made if need be.
      keep: how many of the newest stay; None only reads, and changes nothing on disk.
    """

    def __init__(self, directory: Path, keep: int | None = None):
        _hush_orbax()
        self.directory = directory
        self._read_only = keep is None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            create=not self._read_only,
            read_only=self._read_only,
            cleanup_tmp_directories=not self._read_only,
        )
        self._manager = ocp.CheckpointManager(directory, options=options)

    def save(self, step: int, state: Any, record: dict) -> None:
        """Writes a state and a JSON record; on return they are on disk.

        Raises:
          NumericalError: a number in the state is not finite; nothing is written.
          WorkdirError: it cannot be written; the checkpoints before are untouched.
        """
        leaves = _to_leaves(state)
        for path, leaf in leaves.items():
            bad = np.isnan if path.startswith("opt_state/") else lambda x: ~np.isfinite(x)  # a best value begins at inf
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and bad(leaf).any():
                raise NumericalError(
                    f"{path} is not finite after step {step} - lower optim.learning_rate or set optim.clip_norm"
                )
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
                f"cannot save step {step} in {self.directory}: {_first_line(error)} - make room, then run it again"
            ) from error

    def newest(self) -> tuple[int, Leaves, dict] | None:
        """The newest good checkpoint: step, arrays, record; None if there is none.

        Damaged ones newer than it are set aside as <step>.corrupt; as long as none is good, nothing is touched.

        Raises:
          CheckpointError: there are checkpoints and every one is damaged.
          WorkdirError: they cannot be read, for a reason that is not theirs.
        """
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                found = step, *self._read(step)
            except Exception as error:
                if isinstance(error, MemoryError) or getattr(error, "errno", None) in NOT_DAMAGE:
                    raise WorkdirError(f"cannot read {self.directory / str(step)}: {_first_line(error)}") from error
                damaged.append(step)
                continue
            for bad in damaged:
                self._set_aside(bad, step)
            return found
        if damaged:
            raise CheckpointError(f"every checkpoint in {self.directory} is damaged - train in another --workdir")
        return None

    def _set_aside(self, step: int, instead: int) -> None:
        place = self.directory / str(step)
        print(f"checkpoint {place} is damaged: that of step {instead} is used", file=sys.stderr, flush=True)
        if not self._read_only:
            shutil.rmtree(place.with_name(f"{step}.corrupt"), ignore_errors=True)
            place.rename(place.with_name(f"{step}.corrupt"))
            self._manager.reload()

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.close()

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


def _hush_orbax() -> None:
    """Orbax logs every stage, and on damage leaves threads whose tracebacks tell what we tell in a line."""
    logging.set_verbosity(logging.FATAL)
    getLogger("asyncio").setLevel("CRITICAL")
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = lambda event: (
            None if "Event loop is closed" in str(event.exc_value) else sys.__unraisablehook__(event)
        )


def to_state(leaves: Leaves, template: Any) -> Any:
    """Puts restored arrays into a state like the template, on the host.

    Args:
      leaves: from `Checkpoints.newest`.
      template: a state with the shapes and dtypes to expect, from `jax.eval_shape`.

    Raises:
      CheckpointError: they do not fit, so the checkpoint is of another model or optimiser.
    """
    raw = jax.eval_shape(lambda state: jax.tree.map(_raw, state), template)
    tree = serialization.to_state_dict(raw)
    expected = traverse_util.flatten_dict(tree, sep="/", keep_empty_nodes=True)
    paths = leaves.keys() | {path for path, leaf in expected.items() if hasattr(leaf, "shape")}
    for path in sorted(paths, key=lambda path: (not path.startswith("params/"), path)):  # params tell the most
        saved, wanted = (_shape(arrays.get(path)) for arrays in (leaves, expected))
        if saved != wanted:
            same = "as many devices as before" if path.startswith("carry/") else "its own config"
            raise CheckpointError(
                f"{path} is {saved} in the checkpoint and {wanted} here - give {same}, or another --workdir"
            )
    filled = traverse_util.unflatten_dict(expected | leaves, sep="/")
    state = serialization.from_state_dict(raw, filled)
    return jax.tree.map(lambda want, leaf: jax.random.wrap_key_data(leaf) if _is_key(want) else leaf, template, state)


def load_variables(directory: Path) -> dict:
    """The newest good variables of a model, {"params": ..., and its other collections}, as host arrays.

    Raises:
      CheckpointError: there is no good checkpoint.
    """
    found = Checkpoints(directory).newest() if directory.is_dir() else None
    if found is None:
        raise CheckpointError(f"no checkpoint in {directory} - train first, with the same --workdir")
    tree = traverse_util.unflatten_dict(found[1], sep="/")
    return {"params": averaged(tree.get("opt_state", {}), tree["params"]), **tree.get("model_state", {})}


def _to_leaves(state: Any) -> Leaves:
    tree = serialization.to_state_dict(jax.device_get(jax.tree.map(_raw, state)))
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()}


def _raw(leaf: Any) -> Any:
    """A random key as its numbers; anything else as it is."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _describe(leaf: np.ndarray) -> list:
    return [_shape(leaf), zlib.crc32(np.ascontiguousarray(leaf))]


def _shape(leaf: Any) -> str:
    return "absent" if leaf is None else f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"


def _checksum(manifest: dict) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
