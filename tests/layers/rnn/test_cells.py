"""Every cell equals a loop in NumPy that is written from its equations, and its step survives JAX's transformations."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cnnrnn.layers.rnn import initializers
from cnnrnn.layers.rnn.cells import CELLS, GRU, LSTM
from cnnrnn.layers.rnn.scan import scan

B, T, D, H = 3, 4, 4, 5


def make_weights(cell, seed=0, directions=(), bias=True):
    """Weights of a cell in float32."""
    rng, shapes = np.random.default_rng(seed), cell.weight_shapes(D, H, bias)
    return {name: rng.normal(0, 0.5, (*directions, *shape)).astype(np.float32) for name, shape in shapes.items()}


def make_inputs(seed=1):
    return np.random.default_rng(seed).normal(0, 1, (B, T, D)).astype(np.float32)


def make_carry(cell, directions=(), seed=3):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(0, 1, (B, *directions, H)).astype(np.float32) for _ in range(cell.num_carries))


def close(one, other, tolerance=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), one, other)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(name, w, h, c, x):
    """One step for one example, all in float64: (h, c, gates)."""
    n = w["input_kernel"].shape[1] // H
    W, U = np.split(w["input_kernel"], n, 1), np.split(w["recurrent_kernel"], n, 1)
    b = np.split(w["bias"], n) if "bias" in w else [0.0] * n
    pre = [x @ W[k] + h @ U[k] + b[k] for k in range(n)]
    if name == "vanilla":
        h = np.tanh(pre[0])
        return h, c, {"h": h}
    if name == "gru":
        r, z = sigmoid(pre[0]), sigmoid(pre[1])
        n = np.tanh(x @ W[2] + (r * h) @ U[2] + b[2])
        h = z * h + (1 - z) * n
        return h, c, {"r": r, "z": z, "n": n, "h": h}
    if name == "lstm_1997":
        i, g = sigmoid(pre[0]), np.tanh(pre[1])
        c = c + i * g
        o = sigmoid(pre[2])
        h = o * np.tanh(c)
        return h, c, {"i": i, "g": g, "o": o, "c": c, "h": h}
    p = w.get("peephole", np.zeros((3, H)))
    i, f, g = sigmoid(pre[0] + p[0] * c), sigmoid(pre[1] + p[1] * c), np.tanh(pre[2])
    c = f * c + i * g
    o = sigmoid(pre[3] + p[2] * c)
    h = o * np.tanh(c)
    return h, c, {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_equals_a_numpy_loop(name, bias):
    cell, x = CELLS[name], make_inputs()
    weights, carry = make_weights(cell, bias=bias), make_carry(cell)
    outputs, after, gates = jax.jit(partial(scan, cell))(weights, x, carry)
    w64 = {key: weight.astype(np.float64) for key, weight in weights.items()}
    for row in range(B):
        h, c = carry[0][row].astype(np.float64), carry[-1][row].astype(np.float64)
        for t in range(T):
            h, c, expected = numpy_step(name, w64, h, c, x[row, t].astype(np.float64))
            np.testing.assert_allclose(outputs[row, t], h, rtol=0, atol=1e-6)
            assert gates.keys() == expected.keys()
            for gate, value in expected.items():
                np.testing.assert_allclose(gates[gate][row, t], value, rtol=0, atol=1e-6 * (1 + np.abs(value).max()))
        np.testing.assert_allclose(after[0][row], h, rtol=0, atol=1e-6)
        if len(after) > 1:
            np.testing.assert_allclose(after[1][row], c, rtol=0, atol=1e-6 * (1 + np.abs(c).max()))


@pytest.mark.parametrize("name", CELLS)
def test_one_step_equals_numpy(name):
    cell, x = CELLS[name], make_inputs()[:, 0]
    weights, carry = make_weights(cell), make_carry(cell)
    after, gates = cell.step(weights, carry, x)
    w64 = {key: weight.astype(np.float64) for key, weight in weights.items()}
    for row in range(B):
        h, c, expected = numpy_step(name, w64, carry[0][row].astype(np.float64), carry[-1][row], x[row])
        close([a[row] for a in after], [h, c][: len(after)], 2e-6)
        close({key: gate[row] for key, gate in gates.items()}, expected, 2e-6)


def test_the_slides_cell_by_hand():
    """S_t = f(U x_t + W S_{t-1}) by hand: x = 1, 2 with U = 0.5, W = -1 from S = 0."""
    weights = {"input_kernel": np.array([[0.5]]), "recurrent_kernel": np.array([[-1.0]])}
    outputs, _, _ = scan(CELLS["vanilla"], weights, np.array([[[1.0], [2.0]]]))
    first = np.tanh(0.5)
    np.testing.assert_allclose(outputs[0, :, 0], [first, np.tanh(1.0 - first)], atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_a_step_under_every_transformation(name):
    """vmap over examples is the batch, reverse mode is forward mode and finite differences, a scan is a Python loop."""
    cell, x = CELLS[name], make_inputs()
    weights, carry = make_weights(cell), make_carry(cell)
    step = jax.jit(cell.step)
    batch = step(weights, carry, x[:, 0])
    close(jax.jit(jax.vmap(cell.step, (None, 0, 0)))(weights, carry, x[:, 0]), batch)
    one = jax.tree.map(lambda c: c[0], carry)
    reverse = jax.jit(jax.jacrev(lambda *arguments: cell.step(*arguments)[0], (0, 1, 2)))(weights, one, x[0, 0])
    forward = jax.jit(jax.jacfwd(lambda *arguments: cell.step(*arguments)[0], (0, 1, 2)))(weights, one, x[0, 0])
    close(reverse, forward)
    arguments = jax.tree.map(jnp.asarray, (weights, one, x[0, 0]))
    check_grads(step, arguments, order=1, modes="rev", atol=3e-2, rtol=3e-2, eps=1e-2)
    scanned, _ = jax.lax.scan(lambda carry, x: cell.step(weights, carry, x), carry, jnp.moveaxis(x, 1, 0))
    looped = carry
    for t in range(T):
        looped, _ = step(weights, looped, x[:, t])
    close(scanned, looped)


@pytest.mark.parametrize("name", CELLS)
def test_the_recurrent_mask_is_seen_by_the_products_alone(name):
    """A mask of zeros is a recurrent kernel of zeros: the carry itself is not masked."""
    cell, x = CELLS[name], make_inputs()[:, 0]
    weights, carry = make_weights(cell), make_carry(cell)
    without = weights | {"recurrent_kernel": np.zeros_like(weights["recurrent_kernel"])}
    masked = cell.step(weights, carry, x, np.zeros((B, H), np.float32))
    close(masked, cell.step(without, carry, x), 0)
    assert np.abs(masked[0][0] - cell.step(weights, carry, x)[0][0]).max() > 1e-3


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("use_bias", [True, False])
def test_initial_weights(name, use_bias):
    cell = CELLS[name]
    weights = cell.init(jax.random.key(0), 30, 20, use_bias=use_bias)
    n = len(cell.gate_names)
    expected = {"input_kernel": (30, n * 20), "recurrent_kernel": (20, n * 20)}
    expected |= {"bias": (n * 20,)} if use_bias else {}
    expected |= {"peephole": (3, 20)} if name == "lstm_peepholes" else {}
    assert {key: weight.shape for key, weight in weights.items()} == expected
    for weight in weights.values():
        assert 0.8 * 20**-0.5 < np.abs(weight).max() <= 20**-0.5
    assert len({float(weight.ravel()[0]) for weight in weights.values()}) == len(weights)  # a key for each
    assert all(c.shape == (2, 20) and not c.any() for c in cell.init_carry(2, 20))
    assert len(cell.init_carry(2, 20)) == cell.num_carries


def test_initialisers_by_the_name_of_a_weight():
    cell = LSTM(peepholes=True)
    ones = jax.nn.initializers.ones
    weights = cell.init(jax.random.key(0), D, H, recurrent_kernel=initializers.identity(), peephole=ones)
    close(weights["recurrent_kernel"], np.tile(np.eye(H), (1, 4)), 0)
    close(weights["peephole"], np.ones((3, H)), 0)
    with pytest.raises(ValueError, match="^GRU has no peephole - it has input_kernel, recurrent_kernel, bias$"):
        GRU().init(jax.random.key(0), D, H, peephole=ones)
