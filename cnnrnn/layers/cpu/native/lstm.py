"""The LSTM over whole sequences in one call of compiled C, and the conditions of that call.

XLA runs a loop over steps as many small operations, each of which starts threads anew. In C the threads stay, the gates
are computed in registers, and the gradients of the kernels are added up while their factors are in the cache.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cnnrnn.layers.cpu.native import build
from cnnrnn.layers.precision import Precision
from cnnrnn.layers.rnn.cells import LSTM, Carry, Cell, Weights
from cnnrnn.layers.rnn.scan import Direction, scan

REVERSED = {"forward": (0,), "backward": (1,), "both": (0, 1)}


class Operands(NamedTuple):
    """What the C code reads, float32 but for the last. P is the number of directions.

    Attributes:
      x: [B, T, D].
      h, c, mask: [B, P, H], the first carry, and what multiplies h before the recurrent product.
      input_kernel, recurrent_kernel, bias: [P, D, 4 H], [P, H, 4 H], [P, 4 H].
      lengths: [B] int32.
    """

    x: jax.Array
    h: jax.Array
    c: jax.Array
    mask: jax.Array
    input_kernel: jax.Array
    recurrent_kernel: jax.Array
    bias: jax.Array
    lengths: jax.Array


def lstm(
    weights: Weights,
    x: jax.Array,
    carry: Carry | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Direction = "forward",
    recurrent_mask: jax.Array | None = None,
    library: build.Library | None = None,
) -> tuple[jax.Array, Carry]:
    """The outputs and the carry of `scan(LSTM(), ...)`, from one call of compiled C.

    Gradients of any order exist in reverse mode; those beyond the first are computed by the scan.

    Args:
      weights, x, carry, lengths, direction, recurrent_mask: see `scan`; float32.
      library: the compiled code; None is `build.load()`.

    Returns:
      The outputs [B, T, H], for "both" [B, T, 2 H], and the carry after the last real step.
    """
    both, batch_size = direction == "both", len(x)
    as_float32 = lambda tree: jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), tree)  # noqa: E731
    weights, x, carry, recurrent_mask = as_float32((weights, x, carry, recurrent_mask))
    hidden_size = weights["recurrent_kernel"].shape[-2]
    shape = (batch_size, 1 + both, hidden_size)
    h, c = (jnp.zeros(shape, jnp.float32),) * 2 if carry is None else (part.reshape(shape) for part in carry)
    kernels = [weights[name].reshape(1 + both, -1, 4 * hidden_size) for name in ("input_kernel", "recurrent_kernel")]
    bias = jnp.reshape(
        weights.get("bias", jnp.zeros((1 + both, 4 * hidden_size), jnp.float32)), (1 + both, 4 * hidden_size)
    )
    mask = jnp.ones(shape, jnp.float32) if recurrent_mask is None else recurrent_mask.reshape(shape)
    lengths = jnp.full(batch_size, x.shape[1]) if lengths is None else lengths
    num_lanes = (library or build.load()).num_lanes
    outputs, h, c = _run(direction, num_lanes, Operands(x, h, c, mask, *kernels, bias, lengths.astype(jnp.int32)))
    return outputs, (h, c) if both else (h[:, 0], c[:, 0])


def unsupported_reason(
    cell: Cell,
    x: jax.Array,
    *,
    direction: Direction = "forward",
    has_recurrent_mask: bool = False,
    precision: Precision = "float32",
    is_auto: bool = False,
) -> str | None:
    """The first condition of `lstm` that does not hold, as a clause; None if all hold.

    The code is compiled here if it is not there.

    Args:
      cell, x, direction, has_recurrent_mask, precision: see `implementation.choose`.
      is_auto: whether "auto" asks. Then several devices are refused, because XLA does not shard the call.
    """
    del direction, has_recurrent_mask  # all are supported
    if jax.default_backend() != "cpu":
        return f"JAX runs on {jax.devices()[0].device_kind}, not on a CPU"
    if is_auto and jax.device_count() > 1:
        return f"JAX has {jax.device_count()} devices, not one"
    if cell != LSTM():
        return "the cell is not the LSTM without peepholes"
    if precision != "float32":
        return f"the precision is {precision!r}, not 'float32'"
    if jnp.result_type(x) != jnp.float32:
        return f"the input is {jnp.result_type(x)}, not float32"
    if 0 in x.shape:
        return f"the input {x.shape} is empty"
    try:
        build.load()
    except build.NativeUnavailable as error:
        return str(error)
    return None


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _run(direction, num_lanes, operands):
    """The outputs [B, T, P H] and the carry [B, P, H] each."""
    return _forward(direction, num_lanes, operands)[0]


def _forward(direction, num_lanes, operands):
    *results, cells, gates = _results(direction, num_lanes, operands)
    return tuple(results), (operands, (results[0], cells, gates))


def _backward(direction, num_lanes, residuals, d_results):
    del num_lanes
    operands, saved = residuals
    return (_gradients(direction, operands, saved, d_results),)


_run.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(direction, operands, saved, d_results):
    """The gradients of `_run` with respect to its operands; mask and lengths are constants."""
    names = "x", "h", "c", "input_kernel", "recurrent_kernel", "bias"
    shapes = [getattr(operands, name).shape for name in names]
    grads = _call("cnnrnn_lstm_backward", direction, operands, shapes, *saved, *d_results)
    return Operands(mask=None, lengths=None, **dict(zip(names, grads, strict=True)))


def _gradients_forward(direction, operands, saved, d_results):
    return _gradients(direction, operands, saved, d_results), (operands, saved, d_results)


def _gradients_backward(direction, residuals, d_grads):
    """The derivative of the gradients, through the scan. What was saved is a function of the operands there."""
    operands, saved, d_results = residuals

    def gradients(operands, d_results):
        _, vjp = jax.vjp(partial(_scan, direction), operands)
        return vjp(d_results)[0]._replace(mask=None, lengths=None)

    _, vjp = jax.vjp(gradients, operands, d_results)
    d_operands, d_d_results = vjp(d_grads)
    return d_operands, jax.tree.map(jnp.zeros_like, saved), d_d_results


_gradients.defvjp(_gradients_forward, _gradients_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _results(direction, num_lanes, operands):
    """What `_run` returns; then the cells [P, T, B, H] and the gates [P, T, panels, B, 4 lanes] after each step."""
    batch_size, num_steps, _ = operands.x.shape
    _, num_directions, hidden_size = carry_shape = operands.h.shape
    panels = -(-hidden_size // num_lanes)
    shapes = [
        (batch_size, num_steps, num_directions * hidden_size),
        carry_shape,
        carry_shape,
        (num_directions, num_steps, batch_size, hidden_size),
        (num_directions, num_steps, panels, batch_size, 4 * num_lanes),
    ]
    return _call("cnnrnn_lstm_forward", direction, operands, shapes)


def _results_forward(direction, num_lanes, operands):
    return _results(direction, num_lanes, operands), operands


def _results_backward(direction, num_lanes, operands, d_results):
    """Through the scan, for derivatives of second order. No gradient enters cells and gates: see `_gradients`."""
    del num_lanes
    _, vjp = jax.vjp(partial(_scan, direction), operands)
    return vjp(tuple(d_results[:3]))


_results.defvjp(_results_forward, _results_backward)


def _scan(direction, operands):
    """What `_run` computes, by the scan."""
    both = direction == "both"
    kernels = {name: getattr(operands, name) for name in ("input_kernel", "recurrent_kernel", "bias")}
    weights = {name: kernel if both else kernel[0] for name, kernel in kernels.items()}
    h, c, mask = (part if both else part[:, 0] for part in (operands.h, operands.c, operands.mask))
    settings = {"lengths": operands.lengths, "direction": direction, "recurrent_mask": mask}
    outputs, (h, c), _ = scan(LSTM(), weights, operands.x, (h, c), **settings)
    return outputs, *((h, c) if both else (h[:, None], c[:, None]))


def _call(name, direction, operands, shapes, *others):
    """Calls a function of the C code. Under `vmap` it runs once for each element."""
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    reversed_directions = jnp.array(REVERSED[direction], jnp.int32)
    call = jax.ffi.ffi_call(name, results, vmap_method="sequential")
    return call(*operands, reversed_directions, *others)
