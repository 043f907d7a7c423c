"""The LSTM as one operation of NVIDIA's cuDNN instead of a loop over steps, and the conditions of that operation.

In a scan a GPU spends most of the time on launching small kernels, step by step; cuDNN runs all steps in one call. The
operation is `jax.experimental.rnn.lstm`. It takes float32, supports neither peepholes nor a recurrent mask, and returns
no gates.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import rnn

from cnnrnn.layers.precision import Precision
from cnnrnn.layers.rnn.cells import LSTM, Carry, Cell, Weights
from cnnrnn.layers.rnn.scan import Direction


def run(
    cell: Cell,
    weights: Weights,
    x: jax.Array,
    carry: Carry | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Literal["forward", "both"] = "forward",
) -> tuple[jax.Array, Carry]:
    """The outputs and the carry of `scan(cell, ...)`, from one call of cuDNN.

    Products have float32 operands. TF32, which cuDNN would use by default on an A100 or a later GPU, has 10 bits of
    mantissa, too few for a difference of 1e-4. So the result equals that of the scan to 1e-4 where the scan computes in
    float32 too: on a CPU, or on such a GPU under `jax.default_matmul_precision("highest")`.

    There are gradients in reverse mode, of weights, x and carry. The operation has no rule for `vmap`.

    Args:
      cell: the LSTM without peepholes.
      weights: of the cell, [D, 4 H], [H, 4 H] and, if there is a bias, [4 H]; for "both" with a leading axis of 2.
      x: [B, T, D] float32, not empty.
      carry: before the first step, [B, H] each, for "both" [B, 2, H]; None is zeros.
      lengths: [B] integers; a sequence's steps from there on are padding, as in `scan`. None is T.
      direction: "forward" or "both".

    Returns:
      The outputs [B, T, H], for "both" [B, T, 2 H], and the carry after the last real step.
    """
    both, (batch_size, num_steps, input_size) = direction == "both", x.shape
    hidden_size = weights["recurrent_kernel"].shape[-2]
    if carry is None:
        carry = cell.init_carry(batch_size, hidden_size)
        carry = tuple(jnp.stack([c, c], 1) for c in carry) if both else carry
    # The operation reads bytes as float32, whatever they are.
    weights, x, carry = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), (weights, x, carry))
    seq_lengths = jnp.full(batch_size, num_steps, jnp.int32)
    if lengths is not None:
        valid = (jnp.arange(num_steps) < lengths[:, None])[..., None]  # [B, T, 1]
        x = jnp.where(valid, x, 0)  # padding may hold anything, and what cuDNN does with it is not documented
        # Without the 1 a single empty sequence makes the gradient fail (https://github.com/jax-ml/jax/issues/17966).
        seq_lengths = jnp.clip(lengths, 1, num_steps).astype(jnp.int32)
    outputs, *after = rnn.lstm(
        x,
        *(jnp.moveaxis(c, 0, 1) if both else c[None] for c in carry),  # [directions, B, H]
        pack_weights([{name: weight[p] for name, weight in weights.items()} for p in (0, 1)] if both else [weights]),
        seq_lengths,
        input_size,
        hidden_size,
        1,  # layers
        0.0,  # dropout
        both,
        lax.Precision.HIGHEST,
    )
    after = tuple(jnp.moveaxis(c, 0, 1) if both else c[0] for c in after)
    if lengths is not None:
        outputs = jnp.where(valid, outputs, 0)
        not_empty = (lengths > 0).reshape(-1, *[1] * (after[0].ndim - 1))
        after = tuple(jnp.where(not_empty, new, old) for new, old in zip(after, carry, strict=True))
    return outputs, after


def unsupported_reason(
    cell: Cell,
    x: jax.Array,
    *,
    direction: Direction = "forward",
    has_recurrent_mask: bool = False,
    precision: Precision = "float32",
    is_auto: bool = False,
) -> str | None:
    """The first condition of `run` that does not hold, as a clause; None if all hold.

    Args:
      cell: one of cnnrnn/layers/rnn/cells.py.
      x: [B, T, D], or anything of its shape and type.
      direction: see `scan`.
      has_recurrent_mask: whether there is recurrent dropout.
      precision: of the products; `run` has float32 operands only.
      is_auto: not used, because no condition is a matter of speed.
    """
    del is_auto
    if not _on_one_nvidia_gpu():
        return f"JAX runs on {jax.device_count()} x {jax.devices()[0].device_kind}, not on one NVIDIA GPU"
    if cell != LSTM():
        return "the cell is not the LSTM without peepholes"
    if direction not in ("forward", "both"):
        return f"the direction is {direction!r}, not 'forward' or 'both'"
    if has_recurrent_mask:
        return "there is recurrent dropout"
    if precision != "float32":
        return f"the precision is {precision!r}, not 'float32'"
    if jnp.result_type(x) != jnp.float32:
        return f"the input is {jnp.result_type(x)}, not float32"
    if 0 in x.shape:
        return f"the input {x.shape} is empty"
    return None


def _on_one_nvidia_gpu() -> bool:
    """Whether JAX has one NVIDIA GPU: each of several would compute the whole batch, and AMD's have another layout."""
    cuda = "cuda" in jax.devices()[0].client.platform_version.lower()
    return jax.default_backend() == "gpu" and cuda and jax.device_count() == 1


def pack_weights(directions: list[Weights]) -> jax.Array:
    """The weights of each direction as the one vector that cuDNN takes: all kernels, then all biases.

    A kernel is stored transposed, [4 H, D], with the gates in the order i, f, g, o, which is that of `LSTM.gate_names`.
    Every gate has two biases, of which the second is 0 here. Source: the docstring of `jax.experimental.rnn`.
    """
    kernels = [weights[name].T.ravel() for weights in directions for name in ("input_kernel", "recurrent_kernel")]
    zeros = jnp.zeros(directions[0]["recurrent_kernel"].shape[1], jnp.float32)
    biases = [bias for weights in directions for bias in (weights.get("bias", zeros), zeros)]
    return jnp.concatenate(kernels + biases)
