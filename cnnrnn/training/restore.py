"""From the arrays of a checkpoint to what a program uses: the state of a training, or the variables of a model."""

import contextlib
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization, traverse_util

from cnnrnn.errors import CheckpointError, ConfigError
from cnnrnn.optim.nt_asgd import eval_params
from cnnrnn.training.checkpoint import Checkpoints, Leaves, is_key, raw_leaf, shape_of

Which = Literal["newest", "best"]
DIRECTORIES: dict[Which, str] = {"newest": "checkpoints", "best": "best"}  # of a run


def to_state(leaves: Leaves, template: Any) -> Any:
    """Puts restored arrays into the structure of a template, on the host.

    Args:
      leaves: from `Checkpoints.newest`.
      template: a state with the shapes and dtypes to expect, from `jax.eval_shape`.

    Raises:
      CheckpointError: they do not fit: the checkpoint is of another model or optimizer.
    """
    raw = jax.eval_shape(lambda state: jax.tree.map(raw_leaf, state), template)
    tree = serialization.to_state_dict(raw)
    expected = traverse_util.flatten_dict(tree, sep="/", keep_empty_nodes=True)
    paths = leaves.keys() | {path for path, leaf in expected.items() if hasattr(leaf, "shape")}
    for path in sorted(paths, key=lambda path: (not path.startswith("params/"), path)):  # params tell the most
        saved, wanted = (shape_of(arrays.get(path)) for arrays in (leaves, expected))
        if saved != wanted:
            hint = "use as many devices as before" if path.startswith("carry/") else "use the config of the run"
            raise CheckpointError(
                f"{path} is {saved} in the checkpoint and {wanted} here - {hint}, or choose another --workdir"
            )
    filled = traverse_util.unflatten_dict(expected | leaves, sep="/")
    state = serialization.from_state_dict(raw, filled)
    return jax.tree.map(lambda want, leaf: jax.random.wrap_key_data(leaf) if is_key(want) else leaf, template, state)


def load_variables(workdir: Path, which: Which = "newest", average: int = 1) -> dict:
    """The variables of the model of a run, {"params": ..., and its other collections}, as arrays on the host.

    Args:
      workdir: of the run.
      which: "newest"; or "best", see `fit`, whose `best_metric` chooses it.
      average: the number of newest checkpoints whose mean is returned. Running statistics are averaged too.

    Raises:
      CheckpointError: there are fewer good checkpoints.
      ConfigError: an average is asked of the best checkpoint, which is one.
      WorkdirError: they cannot be read.
    """
    directory = workdir / DIRECTORIES[which]
    if which == "best" and average > 1:
        raise ConfigError("--average is of the newest checkpoints - leave out --checkpoint=best")
    if which == "best" and not directory.is_dir():
        raise CheckpointError(f"the run in {workdir} keeps no best checkpoint - train with a train.best_metric")
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        found = checkpoints.latest(average)
    if not found:
        raise CheckpointError(f"no checkpoint in {directory} - train first, with the same --workdir")
    if len(found) < average:
        raise CheckpointError(
            f"{directory} has {len(found)} checkpoints, fewer than --average, {average} - lower it, or train with "
            "a larger train.max_to_keep"
        )
    return jax.tree.map(_mean, *(_to_variables(saved.leaves) for saved in found))


def _mean(newest: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The mean of real numbers in float64; of other arrays the newest."""
    if not others or not jnp.issubdtype(newest.dtype, jnp.floating):
        return newest
    return np.mean([newest, *others], 0, np.float64).astype(newest.dtype)


def _to_variables(leaves: Leaves) -> dict:
    tree = traverse_util.unflatten_dict(leaves, sep="/")
    return {"params": eval_params(tree.get("opt_state", {}), tree["params"]), **tree.get("model_state", {})}
