"""The LSTM and the GRU over whole sequences in one call of compiled C, and the conditions of that call.

XLA runs a loop over steps as many small operations, each of which starts threads anew. In C the threads stay, the gates
are computed in registers, and the gradients of the kernels are added up while their factors are in the cache.
"""

from functools import partial

import jax
import jax.numpy as jnp

from cnnrnn.layers.cpu.native import build
from cnnrnn.layers.cpu.native.primitives import CONSTANTS, Operands, backward, by_scan, forward
from cnnrnn.layers.precision import Precision, computes_in_bf16
from cnnrnn.layers.rnn.cells import GRU, LSTM, Carry, Cell, Weights
from cnnrnn.layers.rnn.scan import Direction

REVERSED = {"forward": (0,), "backward": (1,), "both": (0, 1)}


def run(
    cell: Cell,
    weights: Weights,
    x: jax.Array,
    carry: Carry | None = None,
    *,
    lengths: jax.Array | None = None,
    direction: Direction = "forward",
    recurrent_mask: jax.Array | None = None,
    library: build.Library | None = None,
) -> tuple[jax.Array, Carry]:
    """The outputs and the carry of `scan(cell, ...)`, from one call of compiled C.

    Gradients of any order exist in reverse mode; those beyond the first are computed by the scan. So is everything
    under `vmap`, and in a program that `jax.export` writes.

    Args:
      cell: the LSTM without peepholes, or the GRU.
      weights, x, carry, lengths, direction, recurrent_mask: see `scan`; float32.
      library: the compiled code; None is `build.load()`.

    Returns:
      The outputs [B, T, H], for "both" [B, T, 2 H], and the carry after the last real step.
    """
    both, batch_size = direction == "both", len(x)
    as_float32 = lambda tree: jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), tree)  # noqa: E731
    weights, x, carry, recurrent_mask = as_float32((weights, x, carry, recurrent_mask))
    num_directions, hidden_size = 1 + both, weights["recurrent_kernel"].shape[-2]
    shape = (batch_size, num_directions, hidden_size)
    if carry is None:
        carry = (jnp.zeros(shape, jnp.float32),) * cell.num_carries
    columns = len(cell.gate_names) * hidden_size
    bias = weights.get("bias", jnp.zeros((num_directions, columns), jnp.float32))
    h, *c = (part.reshape(shape) for part in carry)
    operands = Operands(
        x,
        h,
        jnp.ones(shape, jnp.float32) if recurrent_mask is None else recurrent_mask.reshape(shape),
        weights["input_kernel"].reshape(num_directions, -1, columns),
        weights["recurrent_kernel"].reshape(num_directions, -1, columns),
        bias.reshape(num_directions, columns),
        (jnp.full(batch_size, x.shape[1]) if lengths is None else lengths).astype(jnp.int32),
        jnp.array(REVERSED[direction], jnp.int32),
        tuple(c),
    )
    outputs, *carry = _run(cell, direction, (library or build.load()).num_lanes, operands)
    return outputs, tuple(part if both else part[:, 0] for part in carry)


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
    if cell not in (LSTM(), GRU()):
        return "the cell is neither the LSTM without peepholes nor the GRU"
    if computes_in_bf16(precision):
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


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _run(cell, direction, num_lanes, operands):
    """The outputs [B, T, P H] and the carry [B, P, H] each."""
    return _forward(cell, direction, num_lanes, operands)[0]


def _forward(cell, direction, num_lanes, operands):
    results, saved = _results(cell, direction, num_lanes, operands)
    return results, (operands, results[0], saved)


def _backward(cell, direction, num_lanes, residuals, d_results):
    return (_gradients(cell, direction, num_lanes, *residuals, d_results),)


_run.defvjp(_forward, _backward)


# Second derivatives recompute with the scan from the operands, so that the saved arrays count as constants.


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _results(cell, direction, num_lanes, operands):
    """What `_run` returns, and what `primitives.backward` takes of it."""
    return forward(cell, direction, num_lanes, operands)


def _results_forward(cell, direction, num_lanes, operands):
    return _results(cell, direction, num_lanes, operands), operands


def _results_backward(cell, direction, num_lanes, operands, d_results):
    _, vjp = jax.vjp(partial(by_scan, cell, direction), operands)
    return vjp(d_results[0])


_results.defvjp(_results_forward, _results_backward)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _gradients(cell, direction, num_lanes, operands, outputs, saved, d_results):
    """The gradients of `_run` with respect to its operands."""
    return backward(cell, direction, num_lanes, operands, outputs, saved, d_results)


def _gradients_forward(cell, direction, num_lanes, operands, outputs, saved, d_results):
    grads = _gradients(cell, direction, num_lanes, operands, outputs, saved, d_results)
    return grads, (operands, outputs, saved, d_results)


def _gradients_backward(cell, direction, num_lanes, residuals, d_grads):
    operands, outputs, saved, d_results = residuals

    def gradients(operands, d_results):
        _, vjp = jax.vjp(partial(by_scan, cell, direction), operands)
        return vjp(d_results)[0]._replace(**CONSTANTS)

    _, vjp = jax.vjp(gradients, operands, d_results)
    d_operands, cotangents = vjp(d_grads)
    return d_operands, *jax.tree.map(jnp.zeros_like, (outputs, saved)), cotangents


_gradients.defvjp(_gradients_forward, _gradients_backward)
