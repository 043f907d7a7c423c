"""Mixed precision: products of bf16 operands, summed in float32; parameters, carries and losses stay float32."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Precision = Literal["float32", "bf16"]


def computes_in_bf16(precision: Precision) -> bool:
    """Whether products have bf16 operands: they are asked for, and the device has units for them.

    GPUs, TPUs and CPUs with AMX have them. On any other CPU "bf16" computes in float32, which is faster there.

    Raises:
      ValueError: there is no such precision.
    """
    if precision not in ("float32", "bf16"):
        raise ValueError(f"precision is {precision!r} - it takes float32 or bf16")
    return precision == "bf16" and (jax.default_backend() != "cpu" or _cpu_has_amx())


def matmul(x: jax.Array, kernel: jax.Array, precision: Precision = "float32") -> jax.Array:
    """x @ kernel for [..., D] and [D, K], with a float32 result and, for "bf16", bf16 operands in its gradients too."""
    return _bf16_matmul(x, kernel) if computes_in_bf16(precision) else x @ kernel


def dot_general(precision: Precision) -> Callable:
    """`matmul` as the argument of `nn.Dense(dot_general=...)`, for inputs [..., D] and kernels [D, K]."""
    return lambda x, kernel, dimensions, **_: matmul(x, kernel, precision)


def bf16_dot(a: jax.Array, b: jax.Array, dimensions: tuple[tuple[int, ...], tuple[int, ...]]) -> jax.Array:
    """`lax.dot_general` of two arrays converted to bf16, with a float32 result.

    XLA:CPU has no batched product of this kind. There `jax.vmap` over both operands makes a loop of products.

    Args:
      a, b: of any float type.
      dimensions: the contracted axes of a and of b, none of them negative.
    """
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)

    def dot(a, b):
        return lax.dot_general(a, b, (dimensions, ((), ())), preferred_element_type=jnp.float32)

    if jax.default_backend() != "cpu":
        return dot(a, b)
    dot = jax.custom_batching.custom_vmap(dot)

    @dot.def_vmap
    def batched_dot(axis_size, batched, a, b):
        if all(batched):
            return lax.map(lambda pair: bf16_dot(*pair, dimensions), (a, b)), True
        # The batch axis, the first one of a or b, is one more axis that is not contracted.
        axes_a, axes_b = (
            tuple(axis + has_batch for axis in axes) for axes, has_batch in zip(dimensions, batched, strict=True)
        )
        (left, free_a), (right, free_b) = _as_matrix(a, axes_a), _as_matrix(b, axes_b)
        result = bf16_dot(left, right, ((1,), (1,))).reshape(*free_a, *free_b)
        return jnp.moveaxis(result, 0 if batched[0] else len(free_a), 0), True

    return dot(a, b)


def _as_matrix(array, axes):
    """An array with its other axes in rows and these axes in columns, and the sizes of the other axes."""
    others = [axis for axis in range(array.ndim) if axis not in axes]
    sizes = [array.shape[axis] for axis in others]
    return array.transpose(*others, *axes).reshape(math.prod(sizes), -1), sizes


@jax.custom_vjp
def _bf16_matmul(x, kernel):
    return bf16_dot(x, kernel, ((x.ndim - 1,), (0,)))


def _bf16_forward(x, kernel):
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _bf16_matmul(x, kernel), (x, kernel)


def _bf16_backward(residuals, dy):
    x, kernel = residuals
    batch_axes = tuple(range(dy.ndim - 1))
    return bf16_dot(dy, kernel, ((dy.ndim - 1,), (1,))), bf16_dot(x, dy, (batch_axes, batch_axes))


_bf16_matmul.defvjp(_bf16_forward, _bf16_backward)


@functools.cache
def _cpu_has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: no such units
        return False
