"""The LSTM as one operation of NVIDIA's cuDNN in the place of a loop over steps, and the conditions that this has.

A GPU spends most of a scan on starting small kernels step by step; cuDNN runs all steps in one call. The operation is
`jax.experimental.rnn.lstm`: float32, the cell without peepholes, no mask on the state, its gates not to be had.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import rnn

from cnnrnn.layers.cells import LSTM
from cnnrnn.layers.precision import Precision
from cnnrnn.layers.recurrence import Cell, State, Weights, init_state
from cnnrnn.layers.scan import Direction

Implementation = Literal["auto", "scan", "cudnn"]


def lstm(
    weights: Weights,
    x: jax.Array,
    state: State | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Literal["forward", "both"] = "forward",
) -> tuple[jax.Array, State]:
    """What `scan` makes of the cell `LSTM()`, outputs and state, from one call of cuDNN; for its gates take `scan`.

    Products are of float32 operands: TF32, which cuDNN would take by itself on an A100 or a later GPU, keeps 10 bits of
    each, too few for 1e-4. So this equals the scan to 1e-4 where the scan computes in float32 too: on a CPU, or on such
    a GPU under `jax.default_matmul_precision("highest")`, without which JAX makes the scan's products in TF32 there.

    There are gradients in reverse mode, of weights, x and state. The operation has no rule for `vmap`.

    Args:
      weights: of the cell, [D, 4 H], [H, 4 H] and, if there is a bias, [4 H]; for "both" with a leading axis of 2.
      x: [B, T, D] float32, no axis of 0.
      state: before the first step, each [B, H], for "both" [B, 2, H]; None is zeros.
      lengths: [B]; from there on a sequence is padding, as in `scan`. None is T.
      direction: "forward" or "both".

    Returns:
      The outputs [B, T, H], for "both" [B, T, 2 H], and the state after the last real step.
    """
    both, (batch_size, num_steps, input_size) = direction == "both", x.shape
    hidden_size = weights["recurrent"].shape[-2]
    if state is None:
        state = init_state(LSTM(), batch_size, hidden_size)
        state = tuple(jnp.stack([s, s], 1) for s in state) if both else state
    # The operation reads bytes as float32, whatever they are.
    weights, x, state = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), (weights, x, state))
    seen = jnp.full(batch_size, num_steps, jnp.int32)
    if lengths is not None:
        real = (jnp.arange(num_steps) < lengths[:, None])[..., None]  # [B, T, 1]
        x = jnp.where(real, x, 0)  # padding may hold anything, and what cuDNN does with it is not ours to know
        # Without the 1 a single empty sequence makes the gradient fail (https://github.com/jax-ml/jax/issues/17966).
        seen = jnp.clip(lengths, 1, num_steps).astype(jnp.int32)
    outputs, *after = rnn.lstm(
        x,
        *(jnp.moveaxis(s, 0, 1) if both else s[None] for s in state),  # [ways, B, H]
        _flat([{name: weight[way] for name, weight in weights.items()} for way in (0, 1)] if both else [weights]),
        seen,
        input_size,
        hidden_size,
        1,  # layers
        0.0,  # dropout
        both,
        lax.Precision.HIGHEST,
    )
    after = tuple(jnp.moveaxis(s, 0, 1) if both else s[0] for s in after)
    if lengths is not None:
        outputs = jnp.where(real, outputs, 0)
        full = (lengths > 0).reshape(-1, *[1] * (after[0].ndim - 1))
        after = tuple(jnp.where(full, new, old) for new, old in zip(after, state, strict=True))
    return outputs, after


def is_chosen(
    implementation: Implementation,
    cell: Cell,
    x: jax.Array,
    *,
    direction: Direction = "forward",
    masked: bool = False,
    precision: Precision = "float32",
) -> bool:
    """Whether a layer runs `lstm`: "auto" where `obstacle` finds none, "cudnn" always, "scan" never.

    Raises:
      ValueError: there is no such implementation, or it is "cudnn" and there is an obstacle.
    """
    if implementation not in ("auto", "scan", "cudnn"):
        raise ValueError(f"implementation is {implementation!r} - it takes auto, scan or cudnn")
    if implementation == "scan":
        return False
    found = obstacle(cell, x, direction=direction, masked=masked, precision=precision)
    if found and implementation == "cudnn":
        raise ValueError(f"implementation is 'cudnn', but {found} - set it to 'auto'")
    return not found


def obstacle(cell: Cell, x: jax.Array, *, direction: Direction, masked: bool, precision: Precision) -> str | None:
    """The first condition of `lstm` that does not hold, as half a sentence; None if all do.

    "bf16" is one: it asks for products that cuDNN's operation does not make, and the scan does.

    Args:
      cell: one of cnnrnn/layers/cells.py.
      x: [B, T, D], or anything of its shape and type.
      direction, precision: see `scan`.
      masked: whether there is recurrent dropout.
    """
    if not _on_one_nvidia_gpu():
        return f"JAX runs on {jax.device_count()} x {jax.devices()[0].device_kind}, not on one NVIDIA GPU"
    if cell != LSTM():
        return "the cell is not the LSTM without peepholes"
    if direction not in ("forward", "both"):
        return f"the direction is {direction!r}, not 'forward' or 'both'"
    if masked:
        return "there is recurrent dropout"
    if precision != "float32":
        return f"the precision is {precision!r}, not 'float32'"
    if jnp.result_type(x) != jnp.float32:
        return f"the input is {jnp.result_type(x)}, not float32"
    if 0 in x.shape:
        return f"the input {x.shape} is empty"
    return None


def _on_one_nvidia_gpu() -> bool:
    """Whether JAX has one GPU of NVIDIA's: of several each would compute the whole batch, AMD's take other weights."""
    cuda = "cuda" in jax.devices()[0].client.platform_version.lower()
    return jax.default_backend() == "gpu" and cuda and jax.device_count() == 1


def _flat(ways: list[Weights]) -> jax.Array:
    """The weights of each way as the one vector that cuDNN takes: all kernels, then all biases.

    A kernel lies there transposed, [4 H, D], with the gates in the order i, f, g, o, which is that of `LSTM.blocks`.
    Every gate has two biases, of which the second is 0 here. Source: the docstring of `jax.experimental.rnn`.
    """
    kernels = [weights[name].T.ravel() for weights in ways for name in ("input", "recurrent")]
    none = jnp.zeros(ways[0]["recurrent"].shape[1], jnp.float32)
    biases = [bias for weights in ways for bias in (weights.get("bias", none), none)]
    return jnp.concatenate(kernels + biases)
