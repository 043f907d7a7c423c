"""A scan equals the unrolled loop for every cell, direction and length, in values and gradients; so do new cells."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from test_cells import B, D, H, T, close, make_carry, make_inputs, make_weights

from cnnrnn.layers import precision
from cnnrnn.layers.rnn.cells import CELLS, GRU, LSTM, Cell
from cnnrnn.layers.rnn.initializers import identity
from cnnrnn.layers.rnn.loop import make_loop
from cnnrnn.layers.rnn.scan import scan, unroll

LENGTHS = {"all real": None, "padding, one of it empty": [T, 2, 0]}
DIRECTIONS = ("forward", "backward", "both")


@dataclasses.dataclass(frozen=True)
class IRNN(Cell):
    """h' = relu(W x + U h + b), where U begins as the identity. Source: Le, Jaitly, Hinton 2015."""

    gate_names = ("h",)

    def update(self, preactivation, carry, weights):
        (h,) = carry
        (h,) = preactivation(h, "h")
        h = jax.nn.relu(h)
        return (h,), {"h": h}


@dataclasses.dataclass(frozen=True)
class ReorderedGRU(Cell):
    """A GRU with its gates in another order than its products, and with an extra weight."""

    gate_names = ("n", "z", "r")

    def extra_shapes(self, hidden_size):
        return {"gain": (1, hidden_size)}

    def update(self, preactivation, carry, weights):
        (h,), (gain,) = carry, weights["gain"]
        r, z = map(jax.nn.sigmoid, preactivation(h, "r", "z"))
        (n,) = preactivation(gain * r * h, "n")
        n = jnp.tanh(n)
        h = z * h + (1 - z) * n
        return (h,), {"r": r, "z": z, "n": n, "h": h}


ALL_CELLS = CELLS | {"irnn": IRNN(), "reordered_gru": ReorderedGRU()}
NAMES = [*CELLS, "irnn"]


def axes(direction):
    return (2,) if direction == "both" else ()


def weights_of(cell, direction="forward", **kwargs):
    weights = make_weights(cell, directions=axes(direction), **kwargs)
    if cell == IRNN():  # a part of the identity: its carry stays as small as others
        weights["recurrent_kernel"] = np.asarray(identity(0.25)(None, weights["recurrent_kernel"].shape))
    return weights


def make_mask(shape, seed=4):
    return np.random.default_rng(seed).integers(0, 2, shape).astype(np.float32) * 2


def total(results):
    """A number that depends on every output and on the carry after the last step."""
    outputs, after = results[:2]
    return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(c**2) for c in after)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_scan_equals_unrolling(name, direction, lengths):
    cell, x = ALL_CELLS[name], make_inputs()
    weights, carry = weights_of(cell, direction), make_carry(cell, axes(direction))
    lengths = None if lengths is None else np.array(lengths)
    outputs, after, gates = jax.jit(partial(scan, cell, lengths=lengths, direction=direction))(weights, x, carry)
    close((outputs, after), unroll(cell, weights, x, carry, lengths=lengths, direction=direction), 2e-6)
    assert outputs.shape == gates["h"].shape == (B, T, 2 * H if direction == "both" else H)


@pytest.mark.parametrize(
    ("name", "direction", "hoist"),
    [(name, direction, False) for name in NAMES for direction in DIRECTIONS]
    + [(name, "both", True) for name in ALL_CELLS],
)
def test_the_gradient_of_a_scan_is_that_of_the_unrolled_loop(name, direction, hoist):
    """Of every weight, the inputs and the carry before, through outputs and the carry after; padded and masked.

    The input is multiplied within the loop, or before it, as that of large kernels is.
    """
    cell, x, lengths = ALL_CELLS[name], make_inputs(), np.array([T, 0, 3])
    weights, carry = weights_of(cell, direction), make_carry(cell, axes(direction))
    kwargs = dict(lengths=lengths, direction=direction, recurrent_mask=make_mask(carry[0].shape))

    def gradient(function):
        return jax.grad(lambda w, x, c: total(function(cell, w, x, c, **kwargs)), (0, 1, 2))

    ours = jax.jit(gradient(partial(scan, hoist_above=0 if hoist else 10 << 20)))(weights, x, carry)
    close(ours, gradient(unroll)(weights, x, carry), 2e-5)


@pytest.mark.parametrize("name", [*CELLS, "reordered_gru"])
def test_the_gradient_of_a_scan_is_that_of_finite_differences(name):
    """In float64, where a difference quotient is exact enough for 1e-6."""
    cell = ALL_CELLS[name]
    function = jax.jit(lambda w, x, c: scan(cell, w, x, c, lengths=np.array([T, 0, 3]), direction="both")[:2])
    with jax.enable_x64(True):
        arguments = jax.tree.map(np.float64, (weights_of(cell, "both"), make_inputs(), make_carry(cell, (2,))))
        assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(function(*arguments)))
        check_grads(function, arguments, order=1, modes="rev", atol=1e-6, rtol=1e-6, eps=1e-5)


@pytest.mark.parametrize("name", ["lstm_peepholes", "gru"])
def test_the_gradient_for_any_lengths(name):
    """Equal to that of automatic differentiation through the unrolled loop, to 1e-5 of the largest number."""
    cell = CELLS[name]

    def gradient(function):
        return jax.jit(jax.grad(lambda w, x, c, lengths: total(function(cell, w, x, c, lengths=lengths)), (0, 1, 2)))

    ours, expected = gradient(scan), gradient(unroll)
    arguments = weights_of(cell), make_inputs(), make_carry(cell)

    @settings(max_examples=20, deadline=None)
    @given(lengths=st.lists(st.integers(0, T), min_size=B, max_size=B))
    def hold(lengths):
        both = (jax.tree.leaves(function(*arguments, np.array(lengths))) for function in (ours, expected))
        for one, other in zip(*both, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max() + 1e-30)

    hold()


def test_bf16_is_near(monkeypatch):
    monkeypatch.setattr(precision, "_cpu_has_amx", lambda: True)
    cell, x, weights = LSTM(), make_inputs(), weights_of(LSTM())

    def gradient(kind):
        return jax.jit(jax.grad(lambda w: jnp.sum(scan(cell, w, x, precision=kind)[0] ** 2)))(weights)

    ours, expected = gradient("bf16"), gradient("float32")
    for name, array in expected.items():
        assert ours[name].dtype == jnp.float32
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=2e-2 * np.abs(array).max())
    assert np.abs(ours["input_kernel"] - expected["input_kernel"]).max() > 1e-6  # it was bf16


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_padding_changes_nothing(name, direction):
    """Whatever it holds, NaN included: outputs, carry and all gradients are those of the sequence without it."""
    cell, lengths = ALL_CELLS[name], np.array([T, 3, 2])
    weights, carry = weights_of(cell, direction), make_carry(cell, axes(direction))
    valid = (np.arange(T) < lengths[:, None])[..., None]

    @partial(jax.jit, static_argnums=0)
    def run(function, x):
        def results(w, x, c):
            outputs, after = function(cell, w, x, c, lengths=lengths, direction=direction)[:2]
            return jnp.sum(outputs**2) + sum(jnp.sum(a**3) for a in after), (outputs, after)

        return jax.grad(results, (0, 1, 2), has_aux=True)(weights, x, carry)

    zeros = run(scan, np.where(valid, make_inputs(), 0).astype(np.float32))
    for padding in (1e3, np.nan):
        close(run(scan, np.where(valid, make_inputs(), padding).astype(np.float32)), zeros, 0)
    if direction == "forward":
        close(run(unroll, np.where(valid, make_inputs(), np.nan).astype(np.float32)), zeros, 2e-5)
    (_, d_x, _), (outputs, after) = zeros
    alone, end, _ = scan(cell, weights, make_inputs()[1:2, :3], tuple(c[1:2] for c in carry), direction=direction)
    close(outputs[1, :3], alone[0], 2e-6)
    close([c[1] for c in after], [c[0] for c in end], 2e-6)
    assert not np.asarray(outputs)[~valid[..., 0]].any() and not np.asarray(d_x)[~valid[..., 0]].any()


@pytest.mark.parametrize("name", CELLS)
def test_the_past_has_no_gradient_from_the_future(name):
    cell, weights, x = CELLS[name], make_weights(CELLS[name]), make_inputs()
    past = jax.grad(lambda x: scan(cell, weights, x)[0][:, :2].sum())(x)
    assert not np.asarray(past[:, 2:]).any() and np.asarray(past[:, :2]).all()
    future = jax.grad(lambda x: scan(cell, weights, x, direction="backward")[0][:, 2:].sum())(x)
    assert not np.asarray(future[:, :2]).any() and np.asarray(future[:, 2:]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("direction", "share_weights"), [("forward", True), ("both", False)])
def test_vmap(name, direction, share_weights):
    """Over inputs, lengths, carries and weights, and of gradients: the same as one after the other."""
    cell, lengths = ALL_CELLS[name], np.array([[T, 2, 0], [1, T, 3]])
    x = np.stack([make_inputs(5), make_inputs(6)])
    weights = [weights_of(cell, direction, seed=seed) for seed in (0, 0 if share_weights else 1)]
    carry = [make_carry(cell, axes(direction), seed) for seed in (7, 8)]
    stack = lambda *both: np.stack(both)  # noqa: E731

    @partial(jax.value_and_grad, argnums=(0, 1, 2))
    def function(w, x, c, lengths):
        return total(scan(cell, w, x, c, lengths=lengths, direction=direction))

    batched_weights = weights[0] if share_weights else jax.tree.map(stack, *weights)
    batched = jax.jit(jax.vmap(function, (None if share_weights else 0, 0, 0, 0)))
    ours = batched(batched_weights, x, jax.tree.map(stack, *carry), lengths)
    one_by_one = [jax.jit(function)(weights[k], x[k], carry[k], lengths[k]) for k in (0, 1)]
    close(ours, jax.tree.map(stack, *one_by_one), 2e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", ["forward", "both"])
def test_jacrev(name, direction):
    """A cotangent times the Jacobian is the gradient for this cotangent, of the weights and the inputs."""
    cell, x = ALL_CELLS[name], make_inputs()
    weights, mask = weights_of(cell, direction), make_mask((B, *axes(direction), H))

    def outputs(weights, x):
        return scan(cell, weights, x, lengths=np.array([T, 2, 3]), direction=direction, recurrent_mask=mask)[0]

    jacobian = jax.jit(jax.jacrev(outputs, (0, 1)))(weights, x)
    cotangent = np.random.default_rng(5).normal(size=(B, T, H * (2 if direction == "both" else 1))).astype(np.float32)
    expected = jax.jit(jax.grad(lambda w, x: jnp.sum(outputs(w, x) * cotangent), (0, 1)))(weights, x)
    close(jax.tree.map(lambda j: np.tensordot(cotangent, j, 3), jacobian), expected, 1e-5)


@pytest.mark.parametrize(("name", "direction"), [("lstm_peepholes", "forward"), ("gru", "both")])
def test_the_second_derivative(name, direction):
    cell, x, weights = ALL_CELLS[name], make_inputs()[:2, :3], weights_of(ALL_CELLS[name], direction)

    def squared_gradient(function, w, x):
        run = lambda w, x: jnp.sum(jnp.sin(function(cell, w, x, lengths=np.array([3, 2]), direction=direction)[0]))  # noqa: E731
        return sum(jnp.sum(d**2) for d in jax.tree.leaves(jax.grad(run, (0, 1))(w, x)))

    second = jax.jit(jax.grad(squared_gradient, (1, 2)), static_argnums=0)
    for ours, expected in zip(*(jax.tree.leaves(second(f, weights, x)) for f in (scan, unroll)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "direction"), [(name, "forward") for name in NAMES] + [("lstm_peepholes", "both"), ("gru", "both")]
)
def test_a_scan_within_a_scan(name, direction):
    """Two windows by an outer `lax.scan` that hands the carry on, and its gradient."""
    cell = ALL_CELLS[name]
    x = np.stack([make_inputs(5), make_inputs(6)])
    weights, carry = weights_of(cell, direction), make_carry(cell, axes(direction))

    def run(w, x, c, loop):
        def window(c, x):
            outputs, c, _ = scan(cell, w, x, c, direction=direction)
            return c, outputs

        c, outputs = loop(window, c, x)
        return total((outputs, c))

    def python_loop(function, c, xs):
        outputs = []
        for x in xs:
            c, y = function(c, x)
            outputs.append(y)
        return c, jnp.stack(outputs)

    ours, expected = (
        jax.jit(jax.grad(partial(run, loop=loop), (0, 1, 2)))(weights, x, carry) for loop in (jax.lax.scan, python_loop)
    )
    close(ours, expected, 2e-5)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("lstm_peepholes", "both"), ("reordered_gru", "both"), ("gru", "forward"), ("gru", "backward")],
)
def test_the_gates_and_their_gradient(name, direction):
    """The gates of every step are those that the steps return one after the other."""
    cell, x = ALL_CELLS[name], make_inputs()
    weights, mask = weights_of(cell, direction), make_mask((B, *axes(direction), H))

    def steps(weights, mask, order):
        carry, gates = cell.init_carry(B, H), [None] * T
        for t in order:
            carry, gates[t] = cell.step(weights, carry, x[:, t], mask)
        return jax.tree.map(lambda *times: jnp.stack(times, 1), *gates)

    def expected(weights):
        if direction != "both":
            return steps(weights, mask, range(T) if direction == "forward" else range(T)[::-1])
        halves = [
            steps({key: weight[p] for key, weight in weights.items()}, mask[:, p], order)
            for p, order in enumerate((range(T), range(T)[::-1]))
        ]
        return jax.tree.map(lambda *both: jnp.concatenate(both, -1), *halves)

    ours = lambda weights: scan(cell, weights, x, direction=direction, recurrent_mask=mask)[2]  # noqa: E731

    def sines(weights, function):
        gates = function(weights)
        return sum(jnp.sum(jnp.sin(gate)) for gate in gates.values()), gates

    results = [jax.jit(jax.grad(partial(sines, function=f), has_aux=True))(weights) for f in (ours, expected)]
    close(results[0], results[1], 2e-5)


def test_a_new_cell_equals_numpy_in_values_and_gradients():
    """IRNN, in float64 by central differences."""
    weights, x = weights_of(IRNN()), make_inputs()
    rng = np.random.default_rng(9)
    cotangent = rng.normal(size=(B, T, H))

    def loss(w, x):
        h, result = np.zeros((B, H)), 0.0
        for t in range(T):
            h = np.maximum(x[:, t] @ w["input_kernel"] + h @ w["recurrent_kernel"] + w["bias"], 0)
            result += np.sum(h * cotangent[:, t])
        return result

    arguments = jax.tree.map(lambda a: a.astype(np.float64), (weights, x))
    value, gradient = jax.jit(
        jax.value_and_grad(lambda w, x: jnp.sum(scan(IRNN(), w, x)[0] * cotangent.astype(np.float32)), (0, 1))
    )(weights, x)
    np.testing.assert_allclose(value, loss(*arguments), rtol=1e-5)
    leaves, tree = jax.tree.flatten(arguments)
    for leaf, ours in zip(leaves, jax.tree.leaves(gradient), strict=True):
        for index in np.ndindex(leaf.shape):
            saved, ends = leaf[index], []
            for change in (1e-6, -1e-6):
                leaf[index] = saved + change
                ends.append(loss(*jax.tree.unflatten(tree, leaves)))
            leaf[index] = saved
            np.testing.assert_allclose(ours[index], (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-4)


def test_gates_in_another_order_are_the_same_cell():
    reordered = weights_of(ReorderedGRU())
    reordered["gain"] = np.ones_like(reordered["gain"])
    plain = {key: reordered[key] for key in ("input_kernel", "recurrent_kernel", "bias")}
    plain = {key: np.concatenate(np.split(weight, 3, -1)[::-1], -1) for key, weight in plain.items()}
    x = make_inputs()
    ours = jax.grad(lambda w: total(scan(ReorderedGRU(), w, x)))(reordered)
    expected = jax.grad(lambda w: total(scan(GRU(), w, x)))(plain)
    close({key: np.concatenate(np.split(ours[key], 3, -1)[::-1], -1) for key in plain}, expected, 1e-5)


def test_a_cell_computes_each_gate_once():
    @dataclasses.dataclass(frozen=True)
    class Forgetful(Cell):
        gate_names = ("a", "b")
        computed: tuple[str, ...] = ()

        def update(self, preactivation, carry, weights):
            return (sum(preactivation(carry[0], *self.computed)),), {}

    for computed in (("a",), ("a", "b", "a")):
        with pytest.raises(ValueError, match=r"^Forgetful.update computes .* - it takes each of \('a', 'b'\) once$"):
            scan(Forgetful(computed), weights_of(Forgetful()), make_inputs())


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_large_kernels_multiply_the_input_before_the_loop(direction):
    """The threshold is the bytes of both kernels of one direction; it changes no result."""
    cell, x = LSTM(), make_inputs()
    weights = weights_of(cell, direction)
    num_bytes = (D + H) * 4 * H * 4
    assert not make_loop(cell, weights, "float32", hoist_above=num_bytes).hoist_input_projection
    assert make_loop(cell, weights, "float32", hoist_above=num_bytes - 1).hoist_input_projection
    results = []
    for hoist_above in (0, 10 << 20):
        function = partial(scan, cell, direction=direction, hoist_above=hoist_above)
        results.append(jax.jit(jax.value_and_grad(lambda w, x, f=function: total(f(w, x)), (0, 1)))(weights, x))
    close(*results, 1e-5)


def test_weights_that_a_cell_does_not_have_are_not_read():
    weights = weights_of(LSTM(peepholes=True))
    gradient = jax.grad(lambda w: total(scan(LSTM(), w, make_inputs())))(weights)
    assert not np.asarray(gradient["peephole"]).any() and np.asarray(gradient["bias"]).any()


def test_inputs_of_half_precision():
    """They are converted to the type of the weights, and their gradient back."""
    x = jnp.asarray(make_inputs(), jnp.bfloat16)
    for lengths in (None, np.array([T, 2, 0])):
        run = jax.value_and_grad(lambda x, lengths=lengths: total(scan(GRU(), weights_of(GRU()), x, lengths=lengths)))
        (value, gradient), (expected, exact) = run(x), run(x.astype(jnp.float32))
        assert gradient.dtype == jnp.bfloat16 and value == expected
        close(gradient.astype(jnp.float32), exact, 1e-2)
