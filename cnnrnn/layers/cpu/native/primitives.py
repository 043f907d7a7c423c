"""The functions of the compiled C as JAX primitives, which become the scan where C cannot be called.

That is under `vmap`, in a program that `jax.export` writes for other machines, and on other devices.
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters import batching, mlir

from cnnrnn.layers.rnn.cells import GRU, LSTM
from cnnrnn.layers.rnn.scan import scan

C_NAMES = {LSTM(): "lstm", GRU(): "gru"}
CONSTANTS = dict.fromkeys(("mask", "lengths", "reversed"))  # operands without a gradient


class Operands(NamedTuple):
    """What the C code reads, in its order. Letters: see recurrence.h.

    Attributes:
      x: [B, T, D] float32, as all others but lengths and reversed.
      h, mask: [B, P, H], the initial carry (h0 in C), and what multiplies h before the recurrent product.
      input_kernel, recurrent_kernel, bias: [P, D, G H], [P, H, G H], [P, G H].
      lengths: [B] int32.
      reversed: [P] int32, 1 for a direction that begins at the end.
      c: the rest of the initial carry, [B, P, H] each: one array for the LSTM, none for the GRU.
    """

    x: jax.Array
    h: jax.Array
    mask: jax.Array
    input_kernel: jax.Array
    recurrent_kernel: jax.Array
    bias: jax.Array
    lengths: jax.Array
    reversed: jax.Array
    c: tuple[jax.Array, ...]


def forward(cell, direction, num_lanes, operands):
    """(the outputs [B, T, P H], h and c after the last step), (the gates and cells that `backward` takes)."""
    results = forward_p.bind(*jax.tree.leaves(operands), cell=cell, direction=direction, num_lanes=num_lanes)
    outputs, gates, h, *rest = results
    return (outputs, h, *rest[:1]), (gates, *rest[1:])


def backward(cell, direction, num_lanes, operands, outputs, saved, d_results):
    """The gradients of the operands, None for constants.

    Args:
      cell, direction, num_lanes, operands: of `forward`.
      outputs, saved: what `forward` returned.
      d_results: the gradients of outputs, h and c.
    """
    (gates, *cells), (d_outputs, dh, *dc) = saved, d_results
    arrays = *jax.tree.leaves(operands), outputs, gates, d_outputs, dh, *cells, *dc
    results = backward_p.bind(*arrays, cell=cell, direction=direction, num_lanes=num_lanes)
    dx, d_input_kernel, d_recurrent_kernel, d_bias, dh, *dc = results
    return Operands(
        x=dx,
        h=dh,
        input_kernel=d_input_kernel,
        recurrent_kernel=d_recurrent_kernel,
        bias=d_bias,
        c=tuple(dc),
        **CONSTANTS,
    )


def by_scan(cell, direction, operands):
    """The outputs and the carry of `forward`, by the scan."""
    both = direction == "both"
    kernels = {name: getattr(operands, name) for name in ("input_kernel", "recurrent_kernel", "bias")}
    weights = {name: kernel if both else kernel[0] for name, kernel in kernels.items()}
    *carry, mask = (part if both else part[:, 0] for part in (operands.h, *operands.c, operands.mask))
    settings = {"lengths": operands.lengths, "direction": direction, "recurrent_mask": mask}
    outputs, carry, _ = scan(cell, weights, operands.x, tuple(carry), **settings)
    return outputs, *(part if both else part[:, None] for part in carry)


# ---- the two primitives: their shapes, and what they are in C and as a scan


def _operands(cell, arrays):
    """The operands, and the arrays after them."""
    count = len(Operands._fields) - 2 + cell.num_carries
    return Operands(*arrays[:8], tuple(arrays[8:count])), arrays[count:]


def _forward_shapes(*arrays, cell, direction, num_lanes):
    x, h = arrays[:2]
    (batch_size, num_steps, _), (_, num_directions, hidden_size) = x.shape, h.shape
    slices, num_gates = -(-hidden_size // num_lanes), len(cell.gate_names)
    outputs = (batch_size, num_steps, num_directions * hidden_size)
    gates = (num_directions, num_steps, slices, batch_size, num_gates, num_lanes)
    cells = (num_directions, num_steps, batch_size, hidden_size)
    return [outputs, gates, h.shape, *[h.shape, cells] * (cell.num_carries - 1)]


def _backward_shapes(*arrays, cell, direction, num_lanes):
    operands, _ = _operands(cell, arrays)
    names = "x", "input_kernel", "recurrent_kernel", "bias", "h"
    return [*(getattr(operands, name).shape for name in names), *(c.shape for c in operands.c)]


def _forward_by_scan(*arrays, cell, direction, num_lanes):
    """The backward pass by the scan needs no gates and no cells, so that they are 0."""
    shapes = _forward_shapes(*arrays, cell=cell, direction=direction, num_lanes=num_lanes)
    outputs, h, *c = by_scan(cell, direction, _operands(cell, arrays)[0])
    gates, *cells = (jnp.zeros(shape, jnp.float32) for shape in (shapes[1], *shapes[4:]))
    return [outputs, gates, h, *c, *cells]


def _backward_by_scan(*arrays, cell, direction, num_lanes):
    operands, (_, _, d_outputs, dh, *rest) = _operands(cell, arrays)
    _, vjp = jax.vjp(partial(by_scan, cell, direction), operands)
    grads = vjp((d_outputs, dh, *rest[1:]))[0]
    return [grads.x, grads.input_kernel, grads.recurrent_kernel, grads.bias, grads.h, *grads.c]


def _by_c(*arrays, name, shapes, cell, direction, num_lanes):
    shapes = shapes(*arrays, cell=cell, direction=direction, num_lanes=num_lanes)
    results = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.ffi.ffi_call(f"cnnrnn_{C_NAMES[cell]}_{name}", results)(*arrays)


def _make_primitive(name, shapes, fallback):
    primitive = core.Primitive(f"native_loop_{name}")
    primitive.multiple_results = True

    def abstract_eval(*arrays, **params):
        return [jax.core.ShapedArray(shape, jnp.float32) for shape in shapes(*arrays, **params)]

    @cache
    def compiled(**params):
        return jax.jit(partial(primitive.bind, **params))

    def batched(arrays, axes, **params):
        results = jax.vmap(partial(fallback, **params), in_axes=axes)(*arrays)
        return results, [0] * len(results)

    def lower(ctx, *arrays, **params):
        is_exported = ctx.module_context.lowering_parameters.for_export
        function = fallback if is_exported else partial(_by_c, name=name, shapes=shapes)
        return mlir.lower_fun(function, multiple_results=True)(ctx, *arrays, **params)

    primitive.def_abstract_eval(abstract_eval)

    def run(*arrays, **params):
        with jax.disable_jit(False):  # else it would call itself
            return compiled(**params)(*arrays)

    primitive.def_impl(run)
    batching.primitive_batchers[primitive] = batched
    mlir.register_lowering(primitive, mlir.lower_fun(fallback, multiple_results=True))
    mlir.register_lowering(primitive, lower, platform="cpu")
    return primitive


forward_p = _make_primitive("forward", _forward_shapes, _forward_by_scan)
backward_p = _make_primitive("backward", _backward_shapes, _backward_by_scan)
