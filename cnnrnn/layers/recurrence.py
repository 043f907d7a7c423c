"""What a loop over time needs of a recurrent cell, and the kind of cell that sees its state through one product.

Every cell has the weights
  input [D, n H], recurrent [H, n H], bias [n H] (may be left out), and those that it names itself,
where the columns of the kernels are n blocks of H, one for each name in `blocks`. A state is a tuple of arrays [..., H]
of which the first is the output h. A step also returns all that it computed, by name. `step` is the definition; a loop
runs `advance`, the same with the units first, and its derivative `retreat` (cnnrnn/layers/scan.py).
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

Weights = dict[str, jax.Array]
State = tuple[jax.Array, ...]
Gates = dict[str, jax.Array]


class Cell(Protocol):
    """What a scan needs of a cell.

    Attributes:
      blocks: the names of the blocks of columns in the kernels.
      state_size: how many arrays a state has.
    """

    blocks: tuple[str, ...]
    state_size: int

    def step(self, weights: Weights, state: State, z: jax.Array, keep: jax.Array | None = None) -> tuple[State, Gates]:
        """One step.

        Args:
          weights: see above; of them `input` and `bias` are in z already.
          state: before the step, [..., H] each.
          z: the input times its kernel, and the bias, [..., n H].
          keep: multiplies what goes from h into the products, [..., H], but not h itself: the mask of recurrent
            dropout (Gal, Ghahramani 2016, equation 7).

        Returns:
          The state after the step, and every gate by name, [..., H] each.
        """
        ...

    def advance(
        self, weights: Weights, state: State, x: jax.Array, keep: jax.Array | None, dot: Callable
    ) -> tuple[State, Gates]:
        """`step` as the loop takes it, of the input itself and with the units first.

        So a kernel is the left factor of its product and its blocks are rows, which a CPU runs up to twice as fast.

        Args:
          weights: all, and `kernel`, that of the input beside the recurrent one, [n H, D + H], in a tuple: of every
            direction that the loop runs in.
          state: [H, B] each.
          x: [D, B]; or, if `kernel` is [n H, H], the recurrent one alone, all that the input adds to z, [n H, B].
          dot: makes the product of kernels and a matrix.
        """
        ...

    def retreat(
        self,
        weights: Weights,
        before: State,
        gates: Gates,
        after: State,
        d_after: State,
        keep: jax.Array | None,
        dot: Callable,
    ) -> tuple[State, jax.Array, jax.Array]:
        """The derivative of `advance`: of the state before a step, its input [D, B], and its z [n H, B].

        Shapes are those of `advance`, but `kernel` is [D + H, n H] or [H, n H], and then the gradient of the input has
        no rows; d_after is the gradient of the state after.
        """
        ...

    def recurrent_gradient(
        self, before: State, gates: Gates, d_z: jax.Array, keep: jax.Array | None, dot: Callable
    ) -> jax.Array:
        """The gradient of the recurrent kernel, [H, n H], from all steps at once.

        Args:
          before: the states before each step, [T, H, B].
          gates: of each step; d_z: the gradient of each z, [T, n H, B].
          dot: sums over the first and the last axis of two arrays, [T, H, B] and [T, K, B] -> [H, K].
        """
        ...


@dataclasses.dataclass(frozen=True)
class Additive(abc.ABC):
    """A cell that sees the state only through one product that joins the input's, z + h U, and then unit by unit.

    What is unit by unit is written for arrays of any one shape, `[..., H]` or `[H, B]`, and so is its derivative.
    """

    @abc.abstractmethod
    def activate(self, state: State, z: State, peephole: State | None) -> tuple[State, Gates]:
        """The state after and the gates from the blocks of z, which hold the product with the state already."""

    @abc.abstractmethod
    def derivative(self, before: State, gates: Gates, after: State, d_after: State, peephole: State | None):
        """The gradients of the state before, as far as it comes unit by unit, and of each block of z.

        Args:
          before, after: the state; gates: as `activate` returned them; d_after: the gradient of the state after.
        """

    def step(self, weights, state, z, keep=None):
        """See `Cell`."""
        z = jnp.split(z + kept(state[0], keep) @ weights["recurrent"], len(self.blocks), axis=-1)
        return self.activate(state, z, _peephole(weights, axis=-1))

    def advance(self, weights, state, x, keep, dot):
        """See `Cell`."""
        z = multiplied(weights["kernel"], x, kept(state[0], keep), dot)
        z = z + weights["bias"][:, None] if "bias" in weights else z
        return self.activate(state, jnp.split(z, len(self.blocks)), _peephole(weights, axis=0))

    def retreat(self, weights, before, gates, after, d_after, keep, dot):
        """See `Cell`."""
        (d_h, *rest), d_z = self.derivative(before, gates, after, d_after, _peephole(weights, axis=0))
        d_z = stacked(d_z)  # [n H, B]
        d_xh = dot(weights["kernel"], d_z)  # [D + H, B]
        d_x, d_kept = d_xh[: -len(d_h)], d_xh[-len(d_h) :]
        return (d_h + kept(d_kept, keep), *rest), d_x, d_z

    def recurrent_gradient(self, before, gates, d_z, keep, dot):
        """See `Cell`."""
        return dot(kept(before[0], keep), d_z)


def project(weights: Weights, x: jax.Array) -> jax.Array:
    """The input's part of every gate, [..., D] -> [..., n H]: it waits for no state, so one product does all steps."""
    z = x @ weights["input"]
    return z + weights["bias"] if "bias" in weights else z


def init_state(cell: Cell, batch_size: int, hidden_size: int, dtype=jnp.float32) -> State:
    """Zeros, [B, H] each."""
    return tuple(jnp.zeros((batch_size, hidden_size), dtype) for _ in range(cell.state_size))


def _peephole(weights: Weights, axis: int) -> State | None:
    """The peepholes of i, f and o, shaped for states whose units lie along an axis."""
    if "peephole" not in weights:
        return None
    parts = jnp.split(weights["peephole"], 3, axis=-1)
    return tuple(parts) if axis == -1 else tuple(part[:, None] for part in parts)


def multiplied(kernels: tuple[jax.Array, ...], x: jax.Array, h: jax.Array, dot: Callable) -> jax.Array:
    """What input and state add to z: in one product, unless x has been multiplied before, see `Cell.advance`."""
    return x + dot(kernels, h) if kernels[0].shape[1] == len(h) else dot(kernels, jnp.concatenate([x, h]))


def split(kernels: tuple[jax.Array, ...], at: int, axis: int) -> Iterator[tuple[jax.Array, ...]]:
    """Both parts of every kernel."""
    return zip(*(jnp.split(kernel, [at], axis) for kernel in kernels), strict=True)


def stacked(blocks: tuple[jax.Array, ...]) -> jax.Array:
    """Blocks [H, B] under each other, written one by one: of a concatenation XLA makes a choice for every element."""
    whole = jnp.zeros((len(blocks) * len(blocks[0]), blocks[0].shape[1]), blocks[0].dtype)
    for number, block in enumerate(blocks):
        whole = lax.dynamic_update_slice(whole, block, (number * len(block), 0))
    return whole


def kept(h: jax.Array, keep: jax.Array | None) -> jax.Array:
    """What goes from h into the products: all of it, or what a mask keeps."""
    return h if keep is None else h * keep
