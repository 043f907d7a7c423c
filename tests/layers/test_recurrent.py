"""A scan equals the unrolled loop for every cell, direction and length; padding changes nothing."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from test_cells import B, H, T, make_inputs, make_weights

import cnnrnn.layers.scan as loop
from cnnrnn.layers import precision
from cnnrnn.layers.cells import CELLS, LSTM
from cnnrnn.layers.recurrent import Recurrent, Stack
from cnnrnn.layers.scan import scan, unroll

LENGTHS = {"all real": None, "padding, one of it empty": [T, 2, 0]}
DIRECTIONS = ("forward", "backward", "both")


def close(one, other, tolerance=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), one, other)


def make_state(cell, direction):
    ways = (2,) if direction == "both" else ()
    rng = np.random.default_rng(3)
    return tuple(rng.normal(0, 1, (B, *ways, H)).astype(np.float32) for _ in range(cell.state_size))


def weights_of(cell, direction):
    return make_weights(cell, ways=(2,) if direction == "both" else ())


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_scan_equals_unrolling(name, direction, lengths):
    cell, x = CELLS[name], make_inputs()
    weights, state = weights_of(cell, direction), make_state(cell, direction)
    lengths = None if lengths is None else np.array(lengths)
    outputs, after, gates = jax.jit(lambda w, x, s: scan(cell, w, x, s, lengths=lengths, direction=direction))(
        weights, x, state
    )
    close((outputs, after), unroll(cell, weights, x, state, lengths=lengths, direction=direction))
    assert outputs.shape == gates["h"].shape == (B, T, 2 * H if direction == "both" else H)


@pytest.mark.parametrize(
    ("name", "direction", "apart"),
    [(name, way, False) for name in CELLS for way in DIRECTIONS] + [(name, "both", True) for name in CELLS],
)
def test_the_gradient_of_a_scan_is_that_of_the_unrolled_loop(name, direction, apart, monkeypatch):
    """Of every weight, the inputs and the state before, through outputs and the state after; padded and masked.

    The input is multiplied within the loop, or apart from it, as that of large kernels is.
    """
    monkeypatch.setattr(loop, "LARGE", 0 if apart else loop.LARGE)
    cell, x = CELLS[name], make_inputs()
    weights, state, lengths = weights_of(cell, direction), make_state(cell, direction), np.array([T, 0, 3])

    keep = np.random.default_rng(4).integers(0, 2, state[0].shape).astype(np.float32) * 2

    def gradient(function, compiled):
        def total(w, x, s):
            outputs, after = function(cell, w, x, s, lengths=lengths, direction=direction, keep=keep)[:2]
            return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(s**2) for s in after)

        return compiled(jax.grad(total, (0, 1, 2)))(weights, x, state)

    close(gradient(scan, jax.jit), gradient(unroll, lambda function: function), 2e-5)


@pytest.mark.parametrize("name", CELLS)
def test_the_gradient_of_a_scan_is_that_of_finite_differences(name):
    cell = CELLS[name]
    function = jax.jit(lambda w, x, s: scan(cell, w, x, s, lengths=np.array([T, 0, 3]), direction="both")[:2])
    arguments = jax.tree.map(jnp.asarray, (weights_of(cell, "both"), make_inputs(), make_state(cell, "both")))
    check_grads(function, arguments, order=1, modes="rev", atol=3e-2, rtol=3e-2, eps=1e-2)


@pytest.mark.parametrize("name", ["lstm_peepholes", "gru"])
def test_the_gradient_for_any_lengths(name):
    """Equal to that of automatic differentiation through the unrolled loop, to 1e-5 of the largest number."""
    cell = CELLS[name]

    def gradient(function):
        def total(w, x, s, lengths):
            outputs, after = function(cell, w, x, s, lengths=lengths)[:2]
            return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(s**2) for s in after)

        return jax.jit(jax.grad(total, (0, 1, 2)))

    ours, expected = gradient(scan), gradient(unroll)
    arguments = weights_of(cell, "forward"), make_inputs(), make_state(cell, "forward")

    @settings(max_examples=20, deadline=None)
    @given(lengths=st.lists(st.integers(0, T), min_size=B, max_size=B))
    def hold(lengths):
        both = (jax.tree.leaves(function(*arguments, np.array(lengths))) for function in (ours, expected))
        for one, other in zip(*both, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max() + 1e-30)

    hold()


def test_bf16_is_near(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_amx", lambda: True)
    cell, x, weights = LSTM(), make_inputs(), weights_of(LSTM(), "forward")

    def gradient(kind):
        total = lambda w: jnp.sum(scan(cell, w, x, precision=kind)[0] ** 2)  # noqa: E731
        return jax.jit(jax.grad(total))(weights)

    ours, expected = gradient("bf16"), gradient("float32")
    for name, array in expected.items():
        assert ours[name].dtype == jnp.float32
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=2e-2 * np.abs(array).max())
    assert np.abs(ours["input"] - expected["input"]).max() > 1e-6  # it was bf16


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_padding_changes_nothing(name, direction):
    """Whatever stands in it, NaN included: outputs, state and gradients are those of the sequence without it."""
    cell, weights, lengths = CELLS[name], weights_of(CELLS[name], direction), np.array([T, 3, 2])

    @jax.jit
    def run(x):
        def total(w):
            outputs, state, _ = scan(cell, w, x, lengths=lengths, direction=direction)
            return jnp.sum(outputs**2) + sum(jnp.sum(s**3) for s in state), (outputs, state)

        return jax.grad(total, has_aux=True)(weights)

    x = make_inputs()
    for filling in (1e3, np.nan):
        other = np.where((np.arange(T) < lengths[:, None])[..., None], x, filling).astype(np.float32)
        close(run(x), run(other), 0)
    _, (outputs, state) = run(x)
    alone, end, _ = scan(cell, weights, x[1:2, : lengths[1]], direction=direction)
    close(outputs[1, : lengths[1]], alone[0], 2e-6)
    close([s[1] for s in state], [s[0] for s in end], 2e-6)
    assert not any(np.asarray(outputs[row, length:]).any() for row, length in enumerate(lengths))


@pytest.mark.parametrize("name", CELLS)
def test_the_past_has_no_gradient_from_the_future(name):
    cell, weights, x = CELLS[name], make_weights(CELLS[name]), make_inputs()
    past = jax.grad(lambda x: scan(cell, weights, x)[0][:, :2].sum())(x)
    assert not np.asarray(past[:, 2:]).any() and np.asarray(past[:, :2]).all()
    future = jax.grad(lambda x: scan(cell, weights, x, direction="backward")[0][:, 2:].sum())(x)
    assert not np.asarray(future[:, :2]).any() and np.asarray(future[:, 2:]).all()


def test_a_stack_is_its_layers_one_after_the_other():
    x, lengths, direction = make_inputs(), np.array([T, 3, 2]), "both"
    stack = Stack((5, 6), partial(Recurrent, cell=CELLS["gru"], direction=direction))
    (outputs, states), variables = stack.init_with_output(jax.random.key(0), x, lengths=lengths)
    expected = x
    for name in ("layer1", "layer2"):
        expected, state = unroll(
            CELLS["gru"], variables["params"][name], expected, lengths=lengths, direction=direction
        )
        close(states[name == "layer2"], state)
    close(outputs, expected)


def test_the_forget_gate_begins_open():
    """The forget bias is added to its own block of the bias, and to nothing else."""
    make = lambda forget_bias: Recurrent(H, LSTM(), forget_bias=forget_bias).init(jax.random.key(0), make_inputs())  # noqa: E731
    bias, plain = (make(value)["params"]["bias"] for value in (1.0, 0.0))
    np.testing.assert_allclose(bias - plain, [0] * H + [1] * H + [0] * 2 * H, atol=1e-6)
    assert np.abs(plain).max() <= H**-0.5


def test_the_gates_are_read_out_of_the_layer_itself():
    layer, x = Recurrent(H), make_inputs()
    variables = layer.init(jax.random.key(0), x)
    assert variables.keys() == {"params"}
    (outputs, (_, c)), sown = layer.apply(variables, x, mutable=["gates"])
    gates = sown["gates"]["gates"][0]
    assert set(gates) == set("ifgoch")
    close(gates["o"] * np.tanh(gates["c"]), outputs)
    close(gates["c"][:, -1], c)


def test_what_dropout_drops():
    """Weight drop: recurrent weights alone. Recurrent dropout: nothing at the first step, whose state is 0."""
    x = make_inputs()
    for field in ("weight_drop_rate", "recurrent_dropout_rate"):
        layer = Recurrent(H, **{field: 0.5})
        variables = layer.init(jax.random.key(0), x)
        runs = [layer.apply(variables, x, train=True, rngs={"dropout": jax.random.key(k)})[0] for k in (1, 2)]
        close(runs[0][:, 0], runs[1][:, 0], 0)
        assert np.abs(runs[0][:, 1:] - runs[1][:, 1:]).max() > 1e-3
        close(layer.apply(variables, x)[0], Recurrent(H).apply(variables, x)[0], 0)


@pytest.mark.parametrize(("same_mask", "masks"), [(True, 1), (False, T)])
def test_between_layers_one_mask_for_all_steps_or_one_for_each(same_mask, masks):
    """Two layers that hand on ones: where the second one's input is dropped shows in its input gate's product."""
    stack = Stack((H, 1), partial(Recurrent, cell=CELLS["vanilla"]), dropout_rate=0.5, same_mask=same_mask)
    x = np.ones((1, T, 1), np.float32)
    params = jax.tree.map(np.zeros_like, stack.init(jax.random.key(0), x)["params"])
    params["layer1"]["bias"] = np.ones_like(params["layer1"]["bias"])  # so layer 1 gives tanh(1) always
    params["layer2"]["input"] = (2.0 ** -np.arange(1, H + 1, dtype=np.float32))[:, None]  # a sum that tells the mask
    outputs, _ = stack.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(0)})
    different = len(np.unique(np.asarray(outputs)))
    assert different == 1 if masks == 1 else different > 2
