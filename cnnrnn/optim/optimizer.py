"""From one section of a config to an optax transformation: clipping, decay, a rule with a schedule, averaging."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from cnnrnn.optim import masks
from cnnrnn.optim.nt_asgd import nt_asgd
from cnnrnn.optim.schedules import ScheduleName, make_schedule
from cnnrnn.signatures import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Rate, did_you_mean

MASKS = ("mask", "weight_decay_mask")  # the names in optax of the argument that says what decays


def make_optimizer(
    num_steps: int,
    *,
    name: str,
    learning_rate: NonNegativeFloat,
    schedule: ScheduleName = "constant",
    warmup_steps: NonNegativeInt = 0,
    alpha: Rate = 0.0,
    transition_begin: NonNegativeInt = 0,
    transition_steps: PositiveInt | None = None,
    decay_rate: Rate | None = None,
    clip_norm: PositiveFloat | None = None,
    weight_decay: NonNegativeFloat = 0.0,
    decay_multipliers: tuple[tuple[str, NonNegativeFloat], ...] = (),
    rate_multipliers: tuple[tuple[str, NonNegativeFloat], ...] = (),
    nonmono: PositiveInt | None = None,
    **rule_arguments: Any,
) -> optax.GradientTransformation:
    """The optimizer of a run: gradients are clipped, decayed, and given to a rule with a scheduled learning rate.

    >>> params = {"dense": {"kernel": jnp.ones((1, 2)), "bias": jnp.ones(2)}}
    >>> grads = jax.tree.map(jnp.zeros_like, params)
    >>> tx = make_optimizer(100, name="sgd", learning_rate=0.1, momentum=0.9, schedule="cosine", weight_decay=0.5)
    >>> updates, opt_state = tx.update(grads, tx.init(params), params)
    >>> updates["dense"]["kernel"]  # decays; the bias does not
    Array([[-0.05, -0.05]], dtype=float32)

    Args:
      num_steps: the length of the run, which the schedule spans.
      name: a rule of optax or optax.contrib that takes a learning rate: "sgd", "adam", "adamw", "muon", ...
      learning_rate: the maximum of the schedule.
      schedule: the learning rate after the warm-up: "constant"; "linear" or "cosine", which fall to `alpha` at the end
        of the run; or "step".
      warmup_steps: the number of steps in which the learning rate first rises linearly from 0 to its maximum.
      alpha: the last learning rate of "linear" and "cosine" as a fraction of the maximum.
      transition_begin, transition_steps, decay_rate: of "step". The learning rate is multiplied by `decay_rate` every
        `transition_steps`, for the first time `transition_begin + transition_steps` after the warm-up. The names are
        those of `optax.exponential_decay`.
      clip_norm: the largest global norm of a gradient; None does not clip.
      weight_decay: for rules with a masked decay (adamw, lion) it is theirs. For other rules it is an L2 term: the
        gradient becomes g + weight_decay w. Kernels and embeddings decay, by their names; other parameters do not.
      decay_multipliers: pairs of a pattern and a factor of the weight decay, (("fc*/kernel", 2.0), ("*/bias", 1.0)).
        The pattern is matched with a parameter's path as a shell matches file names, but * matches / too. The first
        match wins. For rules with a masked decay the factors are 0 or 1.
      rate_multipliers: pairs of a pattern and a factor of the learning rate, likewise: (("*/bias", 2.0),).
      nonmono: starts to average the parameters once an evaluation loss exceeds the best of all evaluations but the last
        `nonmono`, see `nt_asgd`; None does not average.
      **rule_arguments: arguments of the rule, by optax's names: momentum, nesterov, b1, ...; None leaves one out. An
        argument with a name from above, as ademamix's alpha, has optax's default.

    Returns:
      An optax transformation whose updates are added to the parameters. Its `init` raises a ValueError if a pattern
      matches no parameter.

    Raises:
      ValueError: there is no such rule, or the rule does not take an argument, its value, or the schedule.
    """
    rule = find_rule(name)
    parameters = inspect.signature(rule).parameters
    arguments = {key: value for key, value in rule_arguments.items() if value is not None}
    for argument in arguments:
        if argument in MASKS:
            raise ValueError(f"{argument} is given to {name} - decay_multipliers say which parameters decay")
        if argument not in parameters:
            known = [parameter for parameter in parameters if parameter not in ("learning_rate", *MASKS)]
            raise ValueError(f"{name} takes no {argument}{did_you_mean(argument, known)}")
        _check_type(argument, arguments[argument], parameters[argument].default)
    mask = next((key for key in MASKS if key in parameters), None)
    if weight_decay and "weight_decay_rate" in parameters:
        raise ValueError(f"{name} takes no weight_decay - set it to 0 and give weight_decay_rate instead")
    if mask and any(factor not in (0, 1) for _, factor in decay_multipliers):
        raise ValueError(f"decay_multipliers is {decay_multipliers} - the factors for {name} are 0 or 1")
    if "weight_decay" in parameters:
        arguments["weight_decay"] = weight_decay if mask else 0.0
    if not (weight_decay or "weight_decay_rate" in arguments):
        mask = None
    rate = make_schedule(
        schedule, learning_rate, num_steps, warmup_steps, alpha, transition_begin, transition_steps, decay_rate
    )
    patterns = (*decay_multipliers, *rate_multipliers)
    is_l2 = weight_decay and not mask
    parts = [
        masks.check_patterns(patterns) if patterns else None,
        optax.clip_by_global_norm(clip_norm) if clip_norm else None,
        masks.add_decayed_weights(weight_decay, decay_multipliers) if is_l2 else None,
        _make_rule(name, rule, rate, arguments, mask, decay_multipliers),
        masks.scale_by_name(rate_multipliers) if rate_multipliers else None,
        nt_asgd(nonmono) if nonmono else None,
    ]
    return optax.chain(*(part for part in parts if part))


def _check_type(argument: str, value: Any, default: Any) -> None:
    """Refuses a value of another type than the default of an argument, which optax would take without a word."""
    is_text, is_bool = isinstance(value, str), isinstance(value, bool)
    has_default = default is not None and default is not inspect.Parameter.empty
    if has_default and isinstance(default, bool) != is_bool:
        raise ValueError(
            f"{argument} is {value!r} - it takes {'true or false' if isinstance(default, bool) else 'a number'}"
        )
    if is_text and not isinstance(default, str) and not argument.endswith("dtype"):
        raise ValueError(f"{argument} is {value!r} - it takes no text")


def find_rule(name: str) -> Callable[..., optax.GradientTransformation]:
    """The rule of that name in optax, or else in optax.contrib.

    Raises:
      ValueError: there is none, or it needs more than gradients, parameters and a learning rate.
    """
    rules = {}
    for module in (optax.contrib, optax):
        for key, value in vars(module).items():
            if inspect.isfunction(value) and not key.startswith(("_", "scale_by_")):  # which are parts of a rule
                parameters = inspect.signature(value).parameters
                if "learning_rate" in parameters and "linesearch" not in parameters:  # it would call the loss itself
                    rules[key] = value
    if name.startswith("schedule_free") and name in rules:
        raise ValueError(f"{name} evaluates other parameters than it trains - choose another rule")
    if name in rules:
        return rules[name]
    otherwise = " - use a name of optax: sgd, adam, adamw, rmsprop"
    if hasattr(optax, name) or hasattr(optax.contrib, name):
        raise ValueError(f"{name} of optax is no rule of gradients, parameters and a learning rate alone{otherwise}")
    raise ValueError(f'no optimizer called "{name}"{did_you_mean(name, [*rules], otherwise)}')


def _make_rule(
    name: str,
    rule: Callable,
    rate: optax.Schedule | float,
    arguments: dict,
    mask: str | None,
    decay_multipliers: masks.Multipliers,
) -> optax.GradientTransformation:
    """Calls a rule, and tries it on an example: what optax refuses in the first step would come too late."""

    def make(rate: optax.Schedule | float, decay_multipliers: masks.Multipliers) -> optax.GradientTransformation:
        decays = {mask: lambda params: masks.decay_mask(params, decay_multipliers)} if mask else {}
        return rule(learning_rate=rate, **arguments, **decays)

    if error := _find_error(partial(make, rate, ()), is_first_rate_0=not (rate(0) if callable(rate) else rate)):
        if callable(rate) and not _find_error(partial(make, 0.1, ())):
            raise ValueError(f"{name} with this schedule: {error} - leave out schedule and warmup_steps")
        raise ValueError(f"{name} with these arguments: {error} - change them, or choose another rule")
    return make(rate, decay_multipliers)


def _find_error(make: Callable[[], optax.GradientTransformation], is_first_rate_0: bool = False) -> str | None:
    """What goes wrong in the first two steps of a rule, in one line; None if nothing does."""
    params = {"layer": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}}

    def two_steps(params):
        tx = make()
        opt_state = tx.init(params)
        first = tx.update(params, opt_state, params)
        return (params, opt_state), first, tx.update(params, first[1], params)

    def shapes(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    try:
        before, first, _ = jax.eval_shape(two_steps, params)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    if shapes(before) != shapes(first):
        return "it changes the shapes of the updates or of its state"
    if any(not leaf.size for leaf in jax.tree.leaves(first)):
        return "its state has empty arrays, which no checkpoint can hold"
    if is_first_rate_0:  # some rules divide by it
        _, _, (updates, _) = jax.jit(two_steps)(params)
        if not all(jnp.isfinite(update).all() for update in jax.tree.leaves(updates)):
            return "its updates are not finite after a learning rate of 0"
    return None
