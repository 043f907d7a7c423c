"""Mixed precision: products of bf16 operands, summed in float32; parameters, states and losses stay float32."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Precision = Literal["float32", "bf16"]


def computes_in_bf16(precision: Precision) -> bool:
    """Whether products are made of bf16 operands: asked for, and the device has units for them.

    GPUs and TPUs have; a CPU if it has AMX. On any other CPU "bf16" computes in float32, which is faster there and no
    less exact.

    Raises:
      ValueError: there is no such precision.
    """
    if precision not in ("float32", "bf16"):
        raise ValueError(f"precision is {precision!r} - it takes float32 or bf16")
    return precision == "bf16" and (jax.default_backend() != "cpu" or _cpu_has_amx())


def product(x: jax.Array, kernel: jax.Array, precision: Precision = "float32") -> jax.Array:
    """[..., D] times [D, K] -> [..., K] float32; with bf16 both products of its gradient are of bf16 operands too."""
    return _bf16_product(x, kernel) if computes_in_bf16(precision) else x @ kernel


def dot_general(precision: Precision) -> Callable:
    """What `nn.Dense(dot_general=...)` takes, for inputs [..., D] and kernels [D, K]: `product`."""
    return lambda x, kernel, dimensions, **_: product(x, kernel, precision)


def bf16_dot(a: jax.Array, b: jax.Array, dimensions: tuple) -> jax.Array:
    """`lax.dot_general` of what two arrays are in bf16, with a float32 result.

    Args:
      a, b: of any float type.
      dimensions: the contracted axes of both, ((of a), (of b)); XLA:CPU has no batched product of this kind.
    """
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return lax.dot_general(a, b, (dimensions, ((), ())), preferred_element_type=jnp.float32)


@jax.custom_vjp
def _bf16_product(x, kernel):
    return bf16_dot(x, kernel, ((x.ndim - 1,), (0,)))


def _bf16_forward(x, kernel):
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return _bf16_product(x, kernel), (x, kernel)


def _bf16_backward(saved, dy):
    x, kernel = saved
    others = tuple(range(dy.ndim - 1))
    return bf16_dot(dy, kernel, ((dy.ndim - 1,), (1,))), bf16_dot(x, dy, (others, others))


_bf16_product.defvjp(_bf16_forward, _bf16_backward)


@functools.cache
def _cpu_has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux: no such units
        return False
