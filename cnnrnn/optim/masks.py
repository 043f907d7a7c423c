"""Weight decay and learning rates by the names of the parameters, "conv1/kernel"."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import optax

DECAYED = ("kernel", "input_kernel", "recurrent_kernel", "embedding")  # not biases, scales and peepholes
Multipliers = Sequence[tuple[str, float]]  # a pattern for the path of a parameter, and its factor; the first match wins


def decay_mask(params: Any, multipliers: Multipliers = ()) -> Any:
    """Which parameters decay, as a mask of optax.

    Raises:
      ValueError: a parameter should decay, but the rule hides it from its decay, as muon hides all but matrices.
    """

    def decays(path: str, leaf: Any) -> bool:
        is_decayed = bool(_factor(path, multipliers, _default_decay(path)))
        if is_decayed and _is_hidden(leaf):
            raise ValueError(f"this rule cannot decay {path} - set weight_decay to 0, or choose another rule")
        return is_decayed

    return _map_with_path(decays, params)


def add_decayed_weights(weight_decay: float, multipliers: Multipliers = ()) -> optax.GradientTransformation:
    """Adds to each gradient its parameter times `weight_decay` times the factor of the parameter.

    By default the factor is 1 for kernels and embeddings and 0 for all other parameters.
    """

    def update(updates, state, params):
        def add(path, grad, param):
            factor = weight_decay * _factor(path, multipliers, _default_decay(path))
            return grad + factor * param if factor else grad

        return _map_with_path(add, updates, params), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def scale_by_name(multipliers: Multipliers) -> optax.GradientTransformation:
    """Multiplies each update by the factor of its parameter, by default 1."""

    def update(updates, state, params=None):
        def scale(path, update):
            factor = _factor(path, multipliers, 1.0)
            return factor * update if factor != 1 else update

        return _map_with_path(scale, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def check_patterns(multipliers: Multipliers) -> optax.GradientTransformation:
    """Leaves the updates as they are; its `init` raises a ValueError if a pattern matches no parameter."""

    def init(params):
        paths = jax.tree.leaves(_map_with_path(lambda path, _: path, params))
        for pattern, _ in multipliers:
            if not any(fnmatchcase(path, pattern) for path in paths):
                raise ValueError(f"the pattern {pattern!r} matches no parameter - there are {', '.join(paths)}")
        return optax.EmptyState()

    return optax.GradientTransformation(init, lambda updates, state, params=None: (updates, state))


def _default_decay(path: str) -> float:
    return 1.0 if path.rpartition("/")[2] in DECAYED else 0.0


def _factor(path: str, multipliers: Multipliers, default: float) -> float:
    return next((factor for pattern, factor in multipliers if fnmatchcase(path, pattern)), default)


def _is_hidden(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _map_with_path(function: Callable, *trees: Any) -> Any:
    """Maps function("layer/kernel", *leaves) over trees; a parameter that optax hides is a leaf too."""

    def call(path, *leaves):
        return function(jax.tree_util.keystr(path, simple=True, separator="/"), *leaves)

    return jax.tree.map_with_path(call, *trees, is_leaf=_is_hidden)
