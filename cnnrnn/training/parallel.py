"""Runs steps over the devices. The only file that uses a mesh, a sharding or pmap."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cnnrnn.data.dataset import Batch, pad_batch
from cnnrnn.errors import ConfigError
from cnnrnn.training.state import TrainState

AXIS = "batch"


class Devices(NamedTuple):
    """The functions that run steps over all devices, by `jit` or by `pmap`.

    States, carries and predictions are global: B is the batch size over all devices. Batches on the devices are passed
    on as `shard_batch` and `shard_batches` return them.

    Attributes:
      compile_train: compiles steps (state, batches) -> (state, metrics). The state passed in is donated.
      compile_eval: compiles a step (variables, carry, batch) -> (carry, metrics).
      compile_decode: compiles a function (variables, batch) -> predictions [B, ...].
      compile_gather: compiles a function (replicated arrays, batches of indices [K, B]) -> batches.
      shard_state: moves a state from the host to the devices.
      shard_batch: splits a batch [B, ...] on the host over the devices.
      shard_batches: splits K batches [K, B, ...] on the host over the devices.
      replicate: copies arrays on the host to every device.
      pad: pads a batch on the host to a multiple of the devices, with mask 0.
    """

    compile_train: Callable[[Callable], Callable]
    compile_eval: Callable[[Callable], Callable]
    compile_decode: Callable[[Callable], Callable]
    compile_gather: Callable[[Callable], Callable]
    shard_state: Callable[[TrainState], TrainState]
    shard_batch: Callable[[Batch], Any]
    shard_batches: Callable[[Batch], Any]
    replicate: Callable[[Batch], Any]
    pad: Callable[[Batch], Batch]


def make_devices(name: str) -> Devices:
    """`jit` over sharded global arrays, or `pmap`, by name.

    Raises:
      ConfigError: JAX runs in several processes, which is not supported.
    """
    if jax.process_count() > 1:
        raise ConfigError(
            f"JAX runs in {jax.process_count()} processes - start one process for all devices of one host"
        )
    return {"jit": _jit, "pmap": _pmap}[name](jax.device_count())


def _jit(num_devices: int) -> Devices:
    replicated, batch_sharded, steps_batch_sharded = (
        _sharding(num_devices, *axes) for axes in ((), (AXIS,), (None, AXIS))
    )
    state_sharding = _state_prefix(replicated, batch_sharded)

    def shard_state(state: TrainState) -> TrainState:
        carry = jax.device_put(state.carry, batch_sharded)
        return jax.device_put(state.replace(carry=()), replicated).replace(carry=carry)

    return Devices(
        compile_train=partial(
            jax.jit,
            in_shardings=(state_sharding, steps_batch_sharded),
            out_shardings=(state_sharding, replicated),
            donate_argnums=0,
        ),
        compile_eval=partial(
            jax.jit,
            in_shardings=(replicated, batch_sharded, batch_sharded),
            out_shardings=(batch_sharded, replicated),
        ),
        compile_decode=partial(jax.jit, in_shardings=(replicated, batch_sharded), out_shardings=batch_sharded),
        compile_gather=partial(
            jax.jit, in_shardings=(replicated, steps_batch_sharded), out_shardings=steps_batch_sharded
        ),
        shard_state=shard_state,
        shard_batch=lambda batch: jax.device_put(batch, batch_sharded),
        shard_batches=lambda batches: jax.device_put(batches, steps_batch_sharded),
        replicate=lambda arrays: jax.device_put(arrays, replicated),
        pad=partial(_pad, multiple=num_devices),
    )


def _pmap(num_devices: int) -> Devices:
    state_axes = _state_prefix(None, 0)  # parameters are passed once, not once per device

    def split(tree):
        """[B, ...] -> [devices, B / devices, ...]."""
        return jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), tree)

    def split_steps(tree):
        """[K, B, ...] -> [K, devices, B / devices, ...]."""
        return jax.tree.map(lambda x: x.reshape(len(x), num_devices, -1, *x.shape[2:]), tree)

    def join(tree):
        """[devices, B / devices, ...] -> [B, ...]."""
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

    def compile_decode(decode: Callable) -> Callable:
        mapped = jax.pmap(decode, AXIS, in_axes=(None, 0))
        return lambda variables, batch: join(mapped(variables, batch))

    return Devices(
        compile_train=compile_train,
        compile_eval=compile_eval,
        compile_decode=compile_decode,
        compile_gather=lambda gather: jax.pmap(gather, AXIS, in_axes=(None, 1), out_axes=1),
        shard_state=jax.device_put,
        shard_batch=split,
        shard_batches=split_steps,
        replicate=lambda arrays: jax.device_put(arrays, _sharding(num_devices)),
        pad=partial(_pad, multiple=num_devices),
    )


def _pad(batch: Batch, multiple: int) -> Batch:
    size = len(batch["mask"])
    return pad_batch(batch, size + -size % multiple)


def _sharding(num_devices: int, *axes: str | None) -> NamedSharding:
    mesh = jax.make_mesh((num_devices,), (AXIS,), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec(*axes))


def _state_prefix(replicated: Any, batch_sharded: Any) -> TrainState:
    """A prefix tree of a state: one value for the carry, which is split along the batch, another for all else."""
    return TrainState(
        step=replicated,
        params=replicated,
        opt_state=replicated,
        model_state=replicated,
        carry=batch_sharded,
        key=replicated,
    )
