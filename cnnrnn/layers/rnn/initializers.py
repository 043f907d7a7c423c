"""Initialisers of a cell's weights: functions (key, shape, dtype) -> array, as in `jax.nn.initializers`.

A kernel is [..., D, n H] and a bias [..., n H], where gate number j of n has the columns j H to (j + 1) H. The leading
axes, such as that of two directions, hold independent weights.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


def uniform(scale: float) -> Initializer:
    """Uniform from -scale to scale."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -scale, scale)


def orthogonal(scale: float = 1.0) -> Initializer:
    """A recurrent kernel [..., H, n H] whose block of each gate is `scale` times a random orthogonal matrix.

    Source: Saxe, McClelland, Ganguli 2014.
    """

    def init(key, shape, dtype=jnp.float32):
        *leading, hidden_size, columns = shape
        num_gates = columns // hidden_size
        blocks = (*leading, num_gates, hidden_size, hidden_size)
        square = jax.nn.initializers.orthogonal(scale)
        keys = jax.random.split(key, math.prod(blocks[:-2]))
        matrices = jax.vmap(lambda key: square(key, blocks[-2:], dtype))(keys).reshape(blocks)
        return jnp.moveaxis(matrices, -3, -2).reshape(shape)  # [..., H, n H]

    return init


def identity(scale: float = 1.0) -> Initializer:
    """A recurrent kernel [..., H, n H] whose block of each gate is `scale` times the identity matrix.

    Source: Le, Jaitly, Hinton 2015.
    """

    def init(key, shape, dtype=jnp.float32):
        *_, hidden_size, columns = shape
        block = scale * jnp.eye(hidden_size, dtype=dtype)
        return jnp.broadcast_to(jnp.tile(block, (1, columns // hidden_size)), shape)

    return init


def forget_bias(gate_names: tuple[str, ...], value: float = 1.0, base: Initializer | None = None) -> Initializer:
    """A bias [..., n H]: `base`, plus `value` for the forget gate "f", so that the cell remembers from the start.

    Sources: Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015 for 1.

    Args:
      gate_names: of the cell; without "f" nothing is added.
      value: what is added.
      base: initialiser of the bias before that; None is zeros.
    """

    def init(key, shape, dtype=jnp.float32):
        bias = (base or jax.nn.initializers.zeros)(key, shape, dtype)
        return _gate_slice(bias, gate_names, "f").add(value) if "f" in gate_names else bias

    return init


def chrono(gate_names: tuple[str, ...], max_length: int) -> Initializer:
    """A bias [..., n H] for dependencies of up to `max_length` steps: b_f = log u, b_i = -b_f, and 0 for other gates.

    Each unit has its own u, uniform from 1 to max_length - 1.

    Source: Tallec, Ollivier 2018, chrono initialisation of the LSTM.

    Args:
      gate_names: of the cell, with "i" and "f".
      max_length: of a dependency, in steps; more than 2.

    Raises:
      ValueError: the cell has no input or no forget gate, or max_length is too small.
    """
    if not {"i", "f"} <= set(gate_names):
        raise ValueError(f"gate_names is {gate_names} - it takes a cell with the gates i and f")
    if max_length <= 2:
        raise ValueError(f"max_length is {max_length} - it takes more than 2")

    def init(key, shape, dtype=jnp.float32):
        hidden_size = shape[-1] // len(gate_names)
        b_f = jnp.log(jax.random.uniform(key, (*shape[:-1], hidden_size), dtype, 1, max_length - 1))
        bias = _gate_slice(jnp.zeros(shape, dtype), gate_names, "f").set(b_f)
        return _gate_slice(bias, gate_names, "i").set(-b_f)

    return init


def _gate_slice(bias: jax.Array, gate_names: tuple[str, ...], name: str):
    """The columns of one gate, to be set or added to, as `bias.at[...]`."""
    hidden_size = bias.shape[-1] // len(gate_names)
    start = gate_names.index(name) * hidden_size
    return bias.at[..., start : start + hidden_size]
