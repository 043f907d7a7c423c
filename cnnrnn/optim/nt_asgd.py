"""NT-ASGD: averages the parameters once the evaluation loss has stopped falling.

Source: Merity, Keskar, Socher 2017, algorithm 1.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AverageState(NamedTuple):
    """The state of `nt_asgd`.

    Attributes:
      count: the number of steps in the average.
      mean: the average of the parameters after each of these steps.
      started: whether averaging has started.
      best: the least loss of all evaluations but the last `nonmono`.
      recent: the losses of the last `nonmono` evaluations; inf for those that have not happened.
    """

    count: jax.Array
    mean: Any
    started: jax.Array
    best: jax.Array
    recent: jax.Array


def nt_asgd(nonmono: int) -> optax.GradientTransformation:
    """Starts to average the parameters once an evaluation loss exceeds the best of all but the last `nonmono`.

    The average is what is evaluated and saved: `eval_params` returns it. The losses come from `on_evaluation`. The
    updates do not change. This is the last transformation of a chain.

    Args:
      nonmono: the number of latest evaluations that a loss is not compared with.
    """

    def init(params):
        mean = jax.tree.map(jnp.zeros_like, params)
        best, recent = (jnp.full(shape, jnp.inf, jnp.float32) for shape in ((), (nonmono,)))
        return AverageState(jnp.zeros((), jnp.int32), mean, jnp.zeros((), bool), best, recent)

    def update(updates, state, params):
        count = state.count + state.started
        share = state.started / jnp.maximum(count, 1)
        new = optax.apply_updates(params, updates)
        mean = jax.tree.map(lambda m, p: m + share * (p - m), state.mean, new)
        return updates, state._replace(count=count, mean=mean)

    return optax.GradientTransformation(init, update)


def on_evaluation(opt_state: optax.OptState, loss: float) -> optax.OptState:
    """The state of an optimizer after an evaluation with this loss. Only the state of `nt_asgd` changes."""

    def observe(node):
        if not isinstance(node, AverageState):
            return node
        recent = jnp.concatenate([node.recent[1:], jnp.full(1, loss, node.recent.dtype)])
        started = node.started | (loss > node.best)
        return node._replace(started=started, best=jnp.minimum(node.best, node.recent[0]), recent=recent)

    return jax.tree.map(observe, opt_state, is_leaf=_is_average)


def eval_params(opt_state: Any, params: Any) -> Any:
    """The parameters to evaluate and to predict with: the average if it has started, else `params`.

    Args:
      opt_state: the state of an optimizer, or the plain dicts that a checkpoint holds of it.
      params: the parameters after the last step.
    """
    for node in filter(_is_average, jax.tree.leaves(opt_state, is_leaf=_is_average)):
        average = AverageState(**node) if isinstance(node, dict) else node
        params = average.mean if average.count > 0 else params
    return params


def _is_average(node: Any) -> bool:
    return isinstance(node, AverageState) or (isinstance(node, dict) and node.keys() == set(AverageState._fields))
