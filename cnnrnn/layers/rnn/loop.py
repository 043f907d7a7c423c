"""The compiled loop of `scan`, and its derivative.

Shapes: T time, B batch, D input features, H hidden units, P directions, n gates of the cell, k gates of one product.

Features come before the batch, so that a product is kernel [k H, D + H] @ [x; h] [D + H, B]. On a CPU that is up to
twice as fast as [x, h] [B, D + H] @ kernel. There is no axis P for a single direction: with an axis of 1 XLA:CPU would
compute a part of the gradients twice.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnnrnn.layers.precision import Precision, matmul
from cnnrnn.layers.rnn.cells import Cell, Weights, select_gates


class Loop(NamedTuple):
    """The static arguments of the loop over time, known when it is compiled.

    Attributes:
      cell: the cell.
      products: the names of the gates of each call of `preactivation` in `cell.update`, in the order of the calls.
      hoist_input_projection: whether x is multiplied for all steps at once, before the loop.
      precision: of the products.
    """

    cell: Cell
    products: tuple[tuple[str, ...], ...]
    hoist_input_projection: bool
    precision: Precision

    def multiply(self, kernels, values):
        """The kernel [M, K] of each direction and [P, K, B] -> [P, M, B].

        XLA:CPU runs a batched product at half the speed of separate ones. The kernels are separate arrays because a
        kernel that is sliced from one array would be copied in every step.
        """
        if len(kernels) == 1:
            return matmul(kernels[0], values, self.precision)
        return jnp.stack([matmul(*pair, self.precision) for pair in zip(kernels, values, strict=True)])

    def multiply_steps(self, kernels, values):
        """The kernel [M, K] of each direction and [T, P, K, B] -> [T, P, M, B], all steps in one product."""
        columns = jnp.moveaxis(values, 0, -2)  # [P, K, T, B]
        results = self.multiply(kernels, columns.reshape(*columns.shape[:-2], -1))  # [P, M, T B]
        return jnp.moveaxis(results.reshape(*results.shape[:-1], *columns.shape[-2:]), -2, 0)

    def kernel_grad(self, values, d_results):
        """[T, P, K, B] and [T, P, M, B] -> [P, K, M], the sum of the outer products over steps and examples."""
        if values.ndim == 4:
            return jnp.stack([self.kernel_grad(values[:, p], d_results[:, p]) for p in range(values.shape[1])])
        values, d_results = (a.transpose(0, 2, 1).reshape(-1, a.shape[1]) for a in (values, d_results))  # [T B, K]
        return matmul(values.T, d_results, self.precision)

    def kernels(self, weight):
        """A weight [P, K, n H] -> for each product the columns [K, k H] of its gates, in every direction."""
        selected = {names: select_gates(weight, self.cell.gate_names, names) for names in self.products}
        return {names: list(kernel) if weight.ndim == 3 else [kernel] for names, kernel in selected.items()}

    def joint_kernels(self, weights):
        """The kernels of [x; h], [D + H, k H], or of h alone if the input projection is hoisted, [H, k H]."""
        kernel = weights["recurrent_kernel"]
        if not self.hoist_input_projection:
            kernel = jnp.concatenate([weights["input_kernel"], kernel], -2)
        return self.kernels(kernel)

    def extra(self, weights):
        """The extra weights [P, K, H] as `Cell.update` takes them, [K, P, H, 1]."""
        return {name: jnp.moveaxis(weights[name], -2, 0)[..., None] for name in self.cell.extra_shapes(1)}


def make_loop(cell: Cell, weights: Weights, precision: Precision, hoist_above: int) -> Loop:
    """Finds the products of a cell by tracing its equations once, and decides whether to hoist.

    Args:
      cell: the cell.
      weights: of the cell, for "both" with a leading axis of 2.
      precision: of the products.
      hoist_above: see `scan`.

    Raises:
      ValueError: the cell does not compute each of its gates exactly once.
    """
    products = []

    def preactivation(value, *names):
        products.append(names)
        return [value] * len(names)

    carry = (jnp.zeros(1),) * cell.num_carries
    extra = {name: jnp.zeros(shape) for name, shape in cell.extra_shapes(1).items()}
    jax.eval_shape(lambda: cell.update(preactivation, carry, extra)[0])
    if sorted(sum(products, ())) != sorted(cell.gate_names):
        raise ValueError(f"{type(cell).__name__}.update computes {products} - it takes each of {cell.gate_names} once")
    kernels = weights["input_kernel"], weights["recurrent_kernel"]
    num_directions = len(kernels[0]) if kernels[0].ndim == 3 else 1
    num_bytes = sum(kernel.size * kernel.dtype.itemsize for kernel in kernels) // num_directions
    return Loop(cell, tuple(products), num_bytes > hoist_above, precision)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def run(loop, weights, x, carry, valid, recurrent_mask):
    """Runs the cell over all steps.

    The derivative saves the pre-activations. Its loop, backward in time, computes the gradients of the carry and of the
    pre-activations only. The gradients of the kernels, which automatic differentiation would add up in every step, are
    large products after the loop.

    Args:
      loop: see `Loop`.
      weights: of the cell, [P, ...] each.
      x: [T, P, D, B].
      carry: before the first step, [P, H, B] each.
      valid: [T, P, 1, B], whether a step is real, or None if all are.
      recurrent_mask: [P, H, B] or None.

    Returns:
      h after each step, [T, P, H, B]; the rest of the carry before each step, [T, P, H, B] each; the carry after the
      last step.
    """
    return _forward(loop, weights, x, carry, valid, recurrent_mask)[0]


def _forward(loop, weights, x, carry, valid, recurrent_mask):
    kernels = {names: [kernel.T for kernel in each] for names, each in loop.joint_kernels(weights).items()}
    extra, biases = loop.extra(weights), dict.fromkeys(loop.products, 0.0)
    if "bias" in weights:
        biases = {names: select_gates(weights["bias"], loop.cell.gate_names, names)[..., None] for names in biases}
    inputs = x
    if loop.hoist_input_projection:  # [T, P, k H, B] for each product
        inputs = {
            names: loop.multiply_steps([kernel.T for kernel in each], x)
            for names, each in loop.kernels(weights["input_kernel"]).items()
        }

    def step(carry, xs):
        inputs, valid = xs
        saved = {}

        def preactivation(value, *names):
            value = _mask(value, recurrent_mask)
            if loop.hoist_input_projection:
                pre = inputs[names] + loop.multiply(kernels[names], value)
            else:
                pre = loop.multiply(kernels[names], jnp.concatenate([inputs, value], -2))
            saved[names] = pre + biases[names]  # [P, k H, B]
            return jnp.split(saved[names], len(names), -2)

        after, _ = loop.cell.update(preactivation, carry, extra)
        after = _where(valid, after, carry)
        return after, (after[0], carry[1:], saved)

    last, (outputs, previous, pre) = lax.scan(step, carry, (inputs, valid))
    return (outputs, previous, last), (weights, x, carry[0], valid, recurrent_mask, outputs, previous, pre)


def _backward(loop, residuals, d_results):
    weights, x, h, valid, recurrent_mask, outputs, previous, pre = residuals
    d_outputs, d_previous, d_last = d_results
    previous = (shift(h, outputs), *previous)  # [T, P, H, B] each
    kernels, extra = loop.joint_kernels(weights), loop.extra(weights)

    def step(d_after, xs):
        d_carry, d_extra = d_after
        d_output, d_previous, previous, pre, valid = xs
        d_carry = (d_carry[0] + d_output, *d_carry[1:])

        def update(previous, pre, extra, x):
            def preactivation(value, *names):
                return _replay(loop, kernels[names], x, _mask(value, recurrent_mask), pre[names])

            return loop.cell.update(preactivation, previous, extra)[0]

        # Only the shape of x is needed. It has no rows if its projection is hoisted, and so not part of the loop.
        dummy_x = jnp.zeros((*x.shape[1:-2], 0 if loop.hoist_input_projection else x.shape[-2], x.shape[-1]), x.dtype)
        _, vjp = jax.vjp(update, previous, pre, extra, dummy_x)
        zeros = jax.tree.map(jnp.zeros_like, d_carry)
        d_before, d_pre, d_extra_step, d_x = vjp(_where(valid, d_carry, zeros))
        d_before = _where(valid, d_before, d_carry)  # a step of padding passes the gradient on unchanged
        d_before = (d_before[0], *map(jnp.add, d_before[1:], d_previous))
        return (d_before, jax.tree.map(jnp.add, d_extra, d_extra_step)), (d_x, d_pre)

    zeros = jax.tree.map(jnp.zeros_like, extra)
    xs = d_outputs, d_previous, previous, pre, valid
    (d_carry, d_extra), (d_x, d_pre) = lax.scan(step, (d_last, zeros), xs, reverse=True)
    if loop.hoist_input_projection:
        input_kernels = loop.kernels(weights["input_kernel"])
        d_x = sum(loop.multiply_steps(input_kernels[names], d_pre[names]) for names in loop.products)
    d_weights = _weights_grad(loop, weights, x, previous, recurrent_mask, pre, d_pre)
    d_weights |= {name: jnp.moveaxis(d[..., 0], 0, -2) for name, d in d_extra.items()}
    return d_weights, d_x, d_carry, None, None


def _weights_grad(loop, weights, x, previous, recurrent_mask, pre, d_pre):
    """The gradients of kernels and bias, from all steps at once."""
    values = {}  # what each product multiplies with the recurrent kernel, [T, P, H, B]

    def preactivation(value, *names):
        values[names] = _mask(value, recurrent_mask)
        return jnp.split(pre[names], len(names), -2)

    loop.cell.update(preactivation, previous, loop.extra(weights))
    grads = {
        "input_kernel": [loop.kernel_grad(x, d_pre[names]) for names in loop.products],
        "recurrent_kernel": [loop.kernel_grad(values[names], d_pre[names]) for names in loop.products],
    }
    if "bias" in weights:
        grads["bias"] = [d_pre[names].sum((0, -1)) for names in loop.products]
    present = sum(loop.products, ())
    return {
        name: select_gates(jnp.concatenate(parts, -1), present, loop.cell.gate_names) for name, parts in grads.items()
    }


run.defvjp(_forward, _backward)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _replay(loop, kernels, x, value, pre):
    """The result of a product as the forward loop saved it, `pre` [P, k H, B], divided into gates [P, H, B].

    Nothing is multiplied again. The derivative with respect to x and value is that of the product; the derivative with
    respect to pre is that of the split.
    """
    return _replay_forward(loop, kernels, x, value, pre)[0]


def _replay_forward(loop, kernels, x, value, pre):
    return jnp.split(pre, pre.shape[-2] // value.shape[-2], -2), kernels


def _replay_backward(loop, kernels, d_gates):
    d_pre = _stack_gates(d_gates)  # [P, k H, B]
    d_joint = loop.multiply(kernels, d_pre)  # [P, D + H, B]
    d_x, d_value = jnp.split(d_joint, [d_joint.shape[-2] - d_gates[0].shape[-2]], -2)
    return None, d_x, d_value, d_pre


_replay.defvjp(_replay_forward, _replay_backward)


def _stack_gates(gates):
    """Gates [P, H, B] -> [P, k H, B], written one by one.

    For a concatenation XLA:CPU would compute every gate at every element, and then select.
    """
    if len(gates) == 1:
        return gates[0]
    *directions, size, batch_size = gates[0].shape
    stacked = jnp.zeros((*directions, len(gates) * size, batch_size), gates[0].dtype)
    for number, gate in enumerate(gates):
        stacked = lax.dynamic_update_slice_in_dim(stacked, gate, number * size, -2)
    return stacked


def shift(first: jax.Array, after: jax.Array) -> jax.Array:
    """An array before each step, [T, P, H, B], from the one before the first step and those after each step."""
    return jnp.concatenate([first[None], after[:-1]])


def _mask(value, recurrent_mask):
    """The value as it enters a product with the recurrent kernel."""
    return value if recurrent_mask is None else value * recurrent_mask


def _where(valid, new, old):
    """The new arrays where a step is real, elsewhere the old ones."""
    return new if valid is None else jax.tree.map(lambda n, o: jnp.where(valid, n, o), new, old)
