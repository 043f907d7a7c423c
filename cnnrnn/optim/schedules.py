"""Learning rates as functions of the step."""

from typing import Literal

import jax.numpy as jnp
import optax

ScheduleName = Literal["constant", "linear", "cosine", "step"]


def make_schedule(
    name: ScheduleName,
    learning_rate: float,
    num_steps: int,
    warmup_steps: int = 0,
    alpha: float = 0.0,
    transition_begin: int = 0,
    transition_steps: int | None = None,
    decay_rate: float | None = None,
) -> optax.Schedule | float:
    """The learning rate of a run; the arguments are those of `make_optimizer`.

    Returns:
      A function of the step. A constant learning rate without a warm-up is a number: some rules take no function.

    Raises:
      ValueError: the warm-up is not shorter than the run, or an argument belongs to another schedule.
    """
    if warmup_steps >= num_steps:
        raise ValueError(f"warmup_steps is {warmup_steps} in a run of {num_steps} steps - lower warmup_steps")
    if alpha and name not in ("linear", "cosine"):
        raise ValueError(f"alpha is {alpha} but the schedule is {name} - choose linear or cosine")
    if transition_begin and name != "step":
        raise ValueError(f"transition_begin is {transition_begin} but the schedule is {name} - choose step")
    for field, value in {"transition_steps": transition_steps, "decay_rate": decay_rate}.items():
        if name == "step" and not value:
            raise ValueError(f"{field} is {value} but the schedule is step - give it a value above 0")
        if name != "step" and value is not None:
            raise ValueError(f"{field} is {value} but the schedule is {name} - choose step, or leave it out")
    rest = num_steps - warmup_steps
    if name == "constant":
        schedule = optax.constant_schedule(learning_rate) if warmup_steps else learning_rate
    elif name == "linear":
        schedule = optax.linear_schedule(learning_rate, alpha * learning_rate, rest)
    elif name == "cosine":
        schedule = optax.cosine_decay_schedule(learning_rate, rest, alpha=alpha)
    else:
        # not optax.exponential_decay: it divides in float32, and decays a step late at some of the multiples
        def schedule(step):
            return learning_rate * decay_rate ** jnp.maximum((step - transition_begin) // transition_steps, 0)

    if not warmup_steps:
        return schedule
    warmup = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, schedule], [warmup_steps])
