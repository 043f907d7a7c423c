"""How a step runs over the devices at hand: the only file that knows a mesh, a sharding or pmap."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnnrnn.errors import ConfigError
from cnnrnn.training.state import TrainState

AXIS = "batch"


class Devices(NamedTuple):
    """A way of running steps over all devices.

    Attributes:
      compile: (step, donate) -> the step compiled; it takes and returns what the step does, with global arrays. With
        `donate` the state that goes in is used up.
      put_state: a state on the host -> on every device.
      put_batch: a batch on the host -> cut over the devices, filled up with mask 0 to a multiple of their number.
    """

    compile: Callable[..., Callable]
    put_state: Callable[[TrainState], TrainState]
    put_batch: Callable[[dict[str, np.ndarray]], Any]


def make_devices(name: str) -> Devices:
    """`jit` over sharded global arrays or `pmap`, by name.

    Raises:
      ConfigError: it is neither.
    """
    makers = {"jit": _jit, "pmap": _pmap}
    if name not in makers:
        raise ConfigError(f'train.parallel is "{name}" - it is jit or pmap')
    return makers[name](jax.device_count())


def _jit(count: int) -> Devices:
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,))
    everywhere, cut = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    state_sharding = _state_tree(everywhere, cut)

    def compile(step: Callable, donate: bool) -> Callable:
        return jax.jit(
            step,
            in_shardings=(state_sharding, cut),
            out_shardings=(state_sharding, everywhere),
            donate_argnums=0 if donate else (),
        )

    def put_state(state: TrainState) -> TrainState:
        placed = _state_tree(*(partial(jax.device_put, device=sharding) for sharding in (everywhere, cut)))
        return _map_fields(placed, state)

    return Devices(compile, put_state, lambda batch: jax.device_put(fill_batch(batch, count), cut))


def _pmap(count: int) -> Devices:
    axes = _state_tree(None, 0)  # parameters come and go once, not once a device

    def split(tree):
        """[B, ...] -> [devices, B / devices, ...]."""
        return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), tree)

    def join(tree):
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def compile(step: Callable, donate: bool) -> Callable:
        mapped = jax.pmap(partial(step, axis_name=AXIS), AXIS, in_axes=(axes, 0), out_axes=(axes, None))

        def run(state: TrainState, batch):
            state, metrics = mapped(state.replace(carry=split(state.carry)), batch)
            return state.replace(carry=join(state.carry)), metrics

        return run

    return Devices(compile, jax.device_put, lambda batch: split(fill_batch(batch, count)))


def fill_batch(batch: dict[str, np.ndarray], multiple: int) -> dict[str, np.ndarray]:
    """A batch [B, ...] with zeros of mask 0 behind it, so that `multiple` divides B."""
    missing = -len(batch["mask"]) % multiple
    if not missing:
        return batch
    return {name: np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) for name, x in batch.items()}


def _state_tree(everywhere, cut) -> TrainState:
    """A value for each field of a state: one for what every device holds, another for what is cut along the batch."""
    return TrainState(everywhere, everywhere, everywhere, everywhere, cut, everywhere)


def _map_fields(functions: TrainState, state: TrainState) -> TrainState:
    return TrainState(*(f(x) for f, x in zip(vars(functions).values(), vars(state).values(), strict=True)))
