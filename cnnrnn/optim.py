"""From one config section to an optax transformation: a rule by its name in optax, schedule, decay, clipping."""

import difflib
import inspect

import jax
import optax

from cnnrnn.errors import ConfigError
from cnnrnn.signatures import Count, Fraction, Natural, NonNegative, Positive


def make_optimizer(
    name: str,
    *,
    num_steps: Count,
    learning_rate: NonNegative,
    schedule: str = "constant",
    warmup_steps: Natural = 0,
    end_factor: Fraction = 0.0,
    clip_norm: Positive | None = None,
    weight_decay: NonNegative = 0.0,
    **rule_arguments,
) -> optax.GradientTransformation:
    """The optimiser of a run: gradients are clipped, decayed, and given to an optax rule with a scheduled rate.

    Args:
      name: a rule of optax that takes a learning rate: "sgd", "adam", "adamw", "rmsprop", ...
      num_steps: the length of the run; the program gives it.
      learning_rate: the peak of the schedule.
      schedule: how it goes on after the warm-up: "constant", "linear" or "cosine" down to `end_factor` at the last
        step.
      warmup_steps: steps in which the learning rate climbs linearly from 0 to its peak.
      end_factor: the last learning rate as a fraction of the peak.
      clip_norm: the largest global norm of a gradient; None clips nothing.
      weight_decay: for rules with their own decay (adamw) theirs, for the others an L2 term added to the gradient, as
        in v <- m v - lr (g + decay w). Only kernels decay: biases and scales, the parameters of one dimension, do not.
      **rule_arguments: what the rule takes besides, by optax's names: momentum, nesterov, b1, ...; None leaves it out.

    Returns:
      An optax transformation whose updates are to be added to the parameters.

    Raises:
      ConfigError: there is no such rule or schedule, or the rule does not take an argument.
    """
    rule = getattr(optax, name, None)
    parameters = inspect.signature(rule).parameters if inspect.isfunction(rule) else {}
    if "learning_rate" not in parameters:
        raise ConfigError(f'no optimiser called "{name}", optim.name - use a name of optax: sgd, adam, adamw, rmsprop')
    rule_arguments = {argument: value for argument, value in rule_arguments.items() if value is not None}
    for argument in rule_arguments:
        if argument not in parameters:
            near = difflib.get_close_matches(argument, parameters, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(parameters)}"
            raise ConfigError(f"optax.{name} takes no {argument}, config field optim.{argument} - {hint}")
    decay_in_rule = "weight_decay" in parameters
    if decay_in_rule:
        rule_arguments |= {"weight_decay": weight_decay}
        if "mask" in parameters:
            rule_arguments["mask"] = _is_kernel
    parts = [
        optax.clip_by_global_norm(clip_norm) if clip_norm else None,
        optax.add_decayed_weights(weight_decay, _is_kernel) if weight_decay and not decay_in_rule else None,
        rule(make_schedule(schedule, learning_rate, num_steps, warmup_steps, end_factor), **rule_arguments),
    ]
    return optax.chain(*(part for part in parts if part))


def make_schedule(
    name: str, learning_rate: float, num_steps: int, warmup_steps: int = 0, end_factor: float = 0.0
) -> optax.Schedule:
    """The learning rate as a function of the step; see `make_optimizer`.

    Raises:
      ConfigError: there is no schedule of that name, or the warm-up is no shorter than the run.
    """
    if warmup_steps >= num_steps:
        raise ConfigError(f"optim.warmup_steps is {warmup_steps} in a run of {num_steps} steps - warm up for fewer")
    rest = num_steps - warmup_steps
    shapes = {
        "constant": lambda: optax.constant_schedule(learning_rate),
        "linear": lambda: optax.linear_schedule(learning_rate, end_factor * learning_rate, rest),
        "cosine": lambda: optax.cosine_decay_schedule(learning_rate, rest, alpha=end_factor),
    }
    if name not in shapes:
        raise ConfigError(f'no schedule called "{name}", optim.schedule - there are {", ".join(shapes)}')
    if not warmup_steps:
        return shapes[name]()
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, shapes[name]()], [warmup_steps])


def _is_kernel(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
