"""NT-ASGD against plain Python."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization

from cnnrnn.optim.nt_asgd import eval_params, nt_asgd, on_evaluation
from cnnrnn.optim.optimizer import make_optimizer

PARAMS = {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([3.0])}
GRADS = {"kernel": jnp.array([[0.5, 0.5]]), "bias": jnp.array([1.0])}


def test_averaging_starts_when_the_loss_is_no_better_than_long_ago():
    """Algorithm 1 of AWD-LSTM against plain Python: parameters 1, 2, 3, ... averaged from the trigger on."""
    nonmono, losses = 2, [5.0, 4.0, 3.0, 3.5, 3.6, 3.2, 3.1, 3.0, 9.0]
    tx = nt_asgd(nonmono)
    params, past, began, expected = jnp.zeros(1), [], None, []
    state = tx.init(params)
    for number, loss in enumerate(losses):
        updates, state = tx.update(jnp.ones(1), state, params)
        params = params + updates
        if began is not None:
            expected.append(float(params[0]))
        mean = np.mean(expected) if expected else float(params[0])
        np.testing.assert_allclose(eval_params((state,), params), [mean])
        state = on_evaluation((state, "other"), loss)[0]
        if began is None and len(past) > nonmono and loss > min(past[:-nonmono]):
            began = number
        past.append(loss)
        assert bool(state.started) == (began is not None)
    assert began == 5 and float(params[0]) == len(losses) and expected == [7.0, 8.0, 9.0]


def test_the_average_is_found_in_what_a_checkpoint_holds():
    tx = make_optimizer(10, name="sgd", learning_rate=1.0, nonmono=1)
    state = tx.init(PARAMS)
    for loss in (1.0, 2.0, 3.0):
        state = on_evaluation(tx.update(GRADS, state, PARAMS)[1], loss)
    _, state = tx.update(GRADS, state, PARAMS)
    stored = serialization.to_state_dict(state)
    np.testing.assert_allclose(eval_params(stored, PARAMS)["bias"], PARAMS["bias"] - GRADS["bias"])
    np.testing.assert_allclose(eval_params(state, PARAMS)["bias"], PARAMS["bias"] - GRADS["bias"])


def test_other_optimizers_stay_as_they_are():
    state = optax.adam(0.1).init(PARAMS)
    assert on_evaluation(state, 1.0) == state and eval_params(state, PARAMS) is PARAMS
