"""From one config section to an optax transformation: a rule of optax, schedule, decay, clipping, averaging."""

import difflib
import inspect
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cnnrnn.errors import ConfigError
from cnnrnn.signatures import Count, Fraction, Natural, NonNegative, Positive


def make_optimizer(
    num_steps: int,
    *,
    name: str,
    learning_rate: NonNegative,
    schedule: Literal["constant", "linear", "cosine", "staircase"] = "constant",
    warmup_steps: Natural = 0,
    end_factor: Fraction = 0.0,
    flat_steps: Natural = 0,
    decay_every: Count | None = None,
    decay_factor: Fraction = 0.5,
    clip_norm: Positive | None = None,
    weight_decay: NonNegative = 0.0,
    average_patience: Count | None = None,
    **rule_arguments,
) -> optax.GradientTransformation:
    """The optimiser of a run: gradients are clipped, decayed, and given to an optax rule with a scheduled rate.

    Args:
      num_steps: the length of the run, which the schedule spans.
      name: a rule of optax that takes a learning rate: "sgd", "adam", "adamw", "rmsprop", ...
      learning_rate: the peak of the schedule.
      schedule: how it goes on after the warm-up: "constant"; "linear" or "cosine" down to `end_factor` when the run
        ends; or "staircase".
      warmup_steps: steps in which the learning rate climbs linearly from 0 to its peak.
      end_factor: the learning rate at the end as a fraction of the peak, for linear and cosine.
      flat_steps, decay_every, decay_factor: of a staircase: `flat_steps` after the warm-up the learning rate is
        multiplied by `decay_factor`, and again every `decay_every` steps (Zaremba, Sutskever, Vinyals 2014).
      clip_norm: the largest global norm of a gradient; None clips nothing.
      weight_decay: of rules that have a masked decay of their own (adamw, lion) theirs; for the others an L2 term
        added to the gradient, g + decay w. Only kernels decay: biases and scales, of one dimension, do not.
      average_patience: the parameters that are tested and kept become the average of those of all steps behind the
        first evaluation (train.eval_every) that is worse than the best of all before it but the last so many (NT-ASGD,
        see `nonmonotone_average`); None averages nothing.
      **rule_arguments: what the rule takes besides, by optax's names: momentum, nesterov, b1, ...; None leaves it out.

    Returns:
      An optax transformation whose updates are to be added to the parameters.

    Raises:
      ConfigError: there is no such rule or schedule, or the rule does not take an argument.
    """
    rule = getattr(optax, name, None)
    parameters = inspect.signature(rule).parameters if inspect.isfunction(rule) else {}
    if "learning_rate" not in parameters or "linesearch" in parameters:  # a line search must call the loss itself
        raise ConfigError(f'no optimiser called "{name}", optim.name - use a name of optax: sgd, adam, adamw, rmsprop')
    rule_arguments = {argument: value for argument, value in rule_arguments.items() if value is not None}
    for argument in rule_arguments:
        if argument not in parameters:
            near = difflib.get_close_matches(argument, parameters, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(parameters)}"
            raise ConfigError(f"optax.{name} takes no {argument}, config field optim.{argument} - {hint}")
    mask = next((name for name in ("mask", "weight_decay_mask") if name in parameters), None)
    if weight_decay and mask:
        rule_arguments |= {"weight_decay": weight_decay, mask: _is_kernel}
    elif "weight_decay" in parameters:
        rule_arguments["weight_decay"] = 0.0
    rate = make_schedule(
        schedule, learning_rate, num_steps, warmup_steps, end_factor, flat_steps, decay_every, decay_factor
    )
    parts = [
        optax.clip_by_global_norm(clip_norm) if clip_norm else None,
        optax.add_decayed_weights(weight_decay, _is_kernel) if weight_decay and not mask else None,
        rule(rate, **rule_arguments),
        nonmonotone_average(average_patience) if average_patience else None,
    ]
    return optax.chain(*(part for part in parts if part))


def make_schedule(
    name: str,
    learning_rate: float,
    num_steps: int,
    warmup_steps: int = 0,
    end_factor: float = 0.0,
    flat_steps: int = 0,
    decay_every: int | None = None,
    decay_factor: float = 0.5,
) -> optax.Schedule:
    """The learning rate as a function of the step; see `make_optimizer`.

    Raises:
      ConfigError: the warm-up is no shorter than the run, or a schedule is given what it does not take.
    """
    if warmup_steps >= num_steps:
        raise ConfigError(f"optim.warmup_steps is {warmup_steps} in a run of {num_steps} steps - warm up for fewer")
    if end_factor and name not in ("linear", "cosine"):
        raise ConfigError(f"optim.end_factor is {end_factor} but the schedule is {name} - choose linear or cosine")
    if flat_steps and name != "staircase":
        raise ConfigError(f"optim.flat_steps is {flat_steps} but the schedule is {name} - choose staircase")
    if (name == "staircase") != (decay_every is not None):
        raise ConfigError(
            f"optim.decay_every is {decay_every} and the schedule {name} - a staircase, and only it, has one"
        )
    rest = num_steps - warmup_steps
    shapes = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "linear": lambda: optax.linear_schedule(learning_rate, end_factor * learning_rate, rest),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest, alpha=end_factor),
        "staircase": lambda: (
            lambda step: learning_rate * decay_factor ** jnp.maximum((step - flat_steps) // decay_every + 1, 0)
        ),
    }
    if not warmup_steps:
        return shapes[name]()
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, shapes[name]()], [warmup_steps])


class AverageState(NamedTuple):
    """What `nonmonotone_average` remembers.

    Attributes:
      count: how many steps have been averaged, 0 before it begins.
      mean: of the parameters after each of them.
      started: whether it has begun.
      best: the least loss of all evaluations but the last few.
      recent: the losses of the last few, inf for those that have not been.
    """

    count: jax.Array
    mean: Any
    started: jax.Array
    best: jax.Array
    recent: jax.Array


def nonmonotone_average(patience: int) -> optax.GradientTransformation:
    """Averages the parameters, and leaves the updates as they are; it begins when `observe` is told a loss worse than
    the best of all but the last `patience`. The last part of a chain.

    Source: Merity, Keskar, Socher 2017, algorithm 1.
    """

    def init(params):
        mean = jax.tree.map(jnp.zeros_like, params)
        best, recent = (jnp.full(shape, jnp.inf, jnp.float32) for shape in ((), (patience,)))
        return AverageState(jnp.zeros((), jnp.int32), mean, jnp.zeros((), bool), best, recent)

    def update(updates, state, params):
        count = state.count + state.started
        share = state.started / jnp.maximum(count, 1)
        new = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda m, p: m + share * (p - m), state.mean, new)
        return updates, state._replace(count=count, mean=mean)

    return optax.GradientTransformation(init, update)


def observe(opt_state: optax.OptState, loss: float) -> optax.OptState:
    """Tells an optimiser the loss of an evaluation; those that do not listen stay as they are."""

    def hear(node):
        if not isinstance(node, AverageState):
            return node
        recent = jnp.concatenate([node.recent[1:], jnp.full(1, loss, node.recent.dtype)])
        started = node.started | (loss > node.best)
        return node._replace(started=started, best=jnp.minimum(node.best, node.recent[0]), recent=recent)

    return jax.tree.map(hear, opt_state, is_leaf=_is_average)


def averaged(opt_state: Any, params: Any) -> Any:
    """The parameters to test and to keep: the average if one has begun, else those given.

    Args:
      opt_state: an optimiser's state, or the plain dicts that a checkpoint holds of it.
      params: the parameters of the last step.
    """
    for node in filter(_is_average, jax.tree.leaves(opt_state, is_leaf=_is_average)):
        average = AverageState(**node) if isinstance(node, dict) else node
        params = average.mean if average.count > 0 else params
    return params


def _is_average(node: Any) -> bool:
    return isinstance(node, AverageState) or (isinstance(node, dict) and node.keys() == set(AverageState._fields))


def _is_kernel(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
