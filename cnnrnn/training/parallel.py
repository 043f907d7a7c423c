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
AHEAD = 8  # programs that may wait on the device: each holds its batches there


class Devices(NamedTuple):
    """A way of running steps over all devices; arrays are global, [B, ...] over all of them.

    Attributes:
      compile_train: steps (state, batches) -> (state, metrics), compiled; the state that goes in may be used up.
      compile_eval: a step (variables, carry, batch) -> (carry, metrics), compiled.
      put_state: a state on the host -> on every device.
      fill: a batch on the host -> filled up with mask 0 to a multiple of the devices.
      put_batch: a filled batch on the host -> cut over the devices.
      put_batches: several filled batches on the host, [K, B, ...] -> each cut over the devices.
      put_set: arrays on the host -> whole on every device.
      compile_gather: (whole arrays, batches of places in them) -> batches, compiled.
    """

    compile_train: Callable[[Callable], Callable]
    compile_eval: Callable[[Callable], Callable]
    put_state: Callable[[TrainState], TrainState]
    fill: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
    put_batch: Callable[[dict[str, np.ndarray]], Any]
    put_batches: Callable[[dict[str, np.ndarray]], Any]
    put_set: Callable[[dict[str, np.ndarray]], Any]
    compile_gather: Callable[[Callable], Callable]


def make_devices(name: str) -> Devices:
    """`jit` over sharded global arrays or `pmap`, by name.

    Raises:
      ConfigError: JAX runs in several processes, for which this is not built.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"JAX runs in {jax.process_count()} processes - start one process for all devices of one host"
        )
    return {"jit": _jit, "pmap": _pmap}[name](jax.device_count())


def _jit(count: int) -> Devices:
    whole, cut, each_cut = (_sharding(count, *axes) for axes in ((), (AXIS,), (None, AXIS)))
    state = _by_field(whole, cut)
    return Devices(
        partial(jax.jit, in_shardings=(state, each_cut), out_shardings=(state, whole), donate_argnums=0),
        partial(jax.jit, in_shardings=(whole, cut, cut), out_shardings=(cut, whole)),
        lambda state: jax.device_put(state.replace(carry=()), whole).replace(carry=jax.device_put(state.carry, cut)),
        partial(fill_batch, multiple=count),
        lambda batch: jax.device_put(batch, cut),
        lambda batches: jax.device_put(batches, each_cut),
        lambda arrays: jax.device_put(arrays, whole),
        partial(jax.jit, in_shardings=(whole, each_cut), out_shardings=each_cut),
    )


def _pmap(count: int) -> Devices:
    state_axes = _by_field(None, 0)  # parameters come and go once, not once a device

    def split(tree):
        """[B, ...] -> [devices, B / devices, ...]."""
        return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), tree)

    def split_each(tree):
        """[K, B, ...] -> [K, devices, B / devices, ...]."""
        return jax.tree.map(lambda x: x.reshape(len(x), count, -1, *x.shape[2:]), tree)

    def join(tree):
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)

    def compile_train(step: Callable) -> Callable:
        mapped = jax.pmap(
            partial(step, axis_name=AXIS), AXIS, in_axes=(state_axes, 1), out_axes=(state_axes, None), donate_argnums=0
        )

        def run(state: TrainState, batches):
            state, metrics = mapped(state.replace(carry=split(state.carry)), batches)
            return state.replace(carry=join(state.carry)), metrics

        return run

    def compile_eval(step: Callable) -> Callable:
        mapped = jax.pmap(partial(step, axis_name=AXIS), AXIS, in_axes=(None, 0, 0), out_axes=(0, None))

        def run(variables: dict, carry, batch):
            carry, metrics = mapped(variables, split(carry), batch)
            return join(carry), metrics

        return run

    return Devices(
        compile_train,
        compile_eval,
        jax.device_put,
        partial(fill_batch, multiple=count),
        split,
        split_each,
        lambda arrays: jax.device_put(arrays, _sharding(count)),
        lambda gather: jax.pmap(gather, AXIS, in_axes=(None, 1), out_axes=1),
    )


def fill_batch(batch: dict[str, np.ndarray], multiple: int) -> dict[str, np.ndarray]:
    """A batch [B, ...] with zeros of mask 0 behind it, so that `multiple` divides B."""
    missing = -len(batch["mask"]) % multiple
    if not missing:
        return batch
    return {name: np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) for name, x in batch.items()}


def _sharding(count: int, *axes: str | None) -> NamedSharding:
    mesh = jax.make_mesh((count,), (AXIS,), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(*axes))


def _by_field(whole: Any, cut: Any) -> TrainState:
    """A prefix of a state: one value for what every device holds, another for what is cut along the batch."""
    return TrainState(step=whole, params=whole, opt_state=whole, model_state=whole, carry=cut, key=whole)
