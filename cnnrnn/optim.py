"""From one config section to an optax transformation: a rule by its name in optax, schedule, decay, clipping."""

import difflib
import inspect
from typing import Literal

import jax
import optax

from cnnrnn.errors import ConfigError
from cnnrnn.signatures import Fraction, Natural, NonNegative, Positive


def make_optimizer(
    num_steps: int,
    *,
    name: str,
    learning_rate: NonNegative,
    schedule: Literal["constant", "linear", "cosine"] = "constant",
    warmup_steps: Natural = 0,
    end_factor: Fraction = 0.0,
    clip_norm: Positive | None = None,
    weight_decay: NonNegative = 0.0,
    **rule_arguments,
) -> optax.GradientTransformation:
    """The optimiser of a run: gradients are clipped, decayed, and given to an optax rule with a scheduled rate.

    Args:
      num_steps: the length of the run, which the schedule spans.
      name: a rule of optax that takes a learning rate: "sgd", "adam", "adamw", "rmsprop", ...
      learning_rate: the peak of the schedule.
      schedule: how it goes on after the warm-up: "constant", or "linear" or "cosine" down to `end_factor` when the run
        ends.
      warmup_steps: steps in which the learning rate climbs linearly from 0 to its peak.
      end_factor: the learning rate at the end as a fraction of the peak; not for a constant one.
      clip_norm: the largest global norm of a gradient; None clips nothing.
      weight_decay: of rules that have a masked decay of their own (adamw, lion) theirs; for the others an L2 term
        added to the gradient, g + decay w. Only kernels decay: biases and scales, of one dimension, do not.
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
    parts = [
        optax.clip_by_global_norm(clip_norm) if clip_norm else None,
        optax.add_decayed_weights(weight_decay, _is_kernel) if weight_decay and not mask else None,
        rule(make_schedule(schedule, learning_rate, num_steps, warmup_steps, end_factor), **rule_arguments),
    ]
    return optax.chain(*(part for part in parts if part))


def make_schedule(
    name: str, learning_rate: float, num_steps: int, warmup_steps: int = 0, end_factor: float = 0.0
) -> optax.Schedule:
    """The learning rate as a function of the step; see `make_optimizer`.

    Raises:
      ConfigError: the warm-up is no shorter than the run, or a constant rate is to end elsewhere.
    """
    if warmup_steps >= num_steps:
        raise ConfigError(f"optim.warmup_steps is {warmup_steps} in a run of {num_steps} steps - warm up for fewer")
    if name == "constant" and end_factor:
        raise ConfigError(f"optim.end_factor is {end_factor} but the schedule is constant - choose linear or cosine")
    rest = num_steps - warmup_steps
    shapes = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "linear": lambda: optax.linear_schedule(learning_rate, end_factor * learning_rate, rest),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest, alpha=end_factor),
    }
    if not warmup_steps:
        return shapes[name]()
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, shapes[name]()], [warmup_steps])


def _is_kernel(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
