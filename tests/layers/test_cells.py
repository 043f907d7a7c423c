"""Every cell equals a loop in NumPy that is written from its equations."""

import jax
import numpy as np
import pytest

from cnnrnn.layers.cells import CELLS
from cnnrnn.layers.scan import scan

B, T, D, H = 3, 4, 4, 5


def make_weights(cell, seed=0, ways=(), bias=True):
    """Weights of a cell in float32."""
    rng, columns = np.random.default_rng(seed), len(cell.blocks) * H
    shapes = {"input": (D, columns), "recurrent": (H, columns), "bias": (columns,), "peephole": (3 * H,)}
    weights = {name: rng.normal(0, 0.5, (*ways, *shape)).astype(np.float32) for name, shape in shapes.items()}
    there = {"bias": bias, "peephole": getattr(cell, "peepholes", False)}
    return {name: weight for name, weight in weights.items() if there.get(name, True)}


def make_inputs(seed=1):
    return np.random.default_rng(seed).normal(0, 1, (B, T, D)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(name, w, h, c, x):
    """One step for one example, all in float64: (h, c, gates)."""
    W, U = np.split(w["input"], w["input"].shape[1] // H, 1), np.split(w["recurrent"], w["input"].shape[1] // H, 1)
    b = np.split(w["bias"], len(W)) if "bias" in w else [0.0] * len(W)
    z = [x @ W[k] + h @ U[k] + b[k] for k in range(len(W))]
    if name == "vanilla":
        h = np.tanh(z[0])
        return h, c, {"h": h}
    if name == "gru":
        r, u = sigmoid(z[0]), sigmoid(z[1])
        n = np.tanh(x @ W[2] + (r * h) @ U[2] + b[2])
        h = u * h + (1 - u) * n
        return h, c, {"r": r, "z": u, "n": n, "h": h}
    if name == "lstm_1997":
        i, g = sigmoid(z[0]), np.tanh(z[1])
        c = c + i * g
        o = sigmoid(z[2])
        h = o * np.tanh(c)
        return h, c, {"i": i, "g": g, "o": o, "c": c, "h": h}
    p = np.split(w["peephole"], 3) if "peephole" in w else [0.0] * 3
    i, f, g = sigmoid(z[0] + p[0] * c), sigmoid(z[1] + p[1] * c), np.tanh(z[2])
    c = f * c + i * g
    o = sigmoid(z[3] + p[2] * c)
    h = o * np.tanh(c)
    return h, c, {"i": i, "f": f, "g": g, "o": o, "c": c, "h": h}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_cell_equals_a_numpy_loop(name, bias):
    cell, x = CELLS[name], make_inputs()
    weights = make_weights(cell, bias=bias)
    rng = np.random.default_rng(2)
    state = tuple(rng.normal(0, 1, (B, H)).astype(np.float32) for _ in range(cell.state_size))
    outputs, after, gates = jax.jit(lambda w, x, s: scan(cell, w, x, s))(weights, x, state)
    w64 = {key: weight.astype(np.float64) for key, weight in weights.items()}
    for row in range(B):
        h, c = state[0][row].astype(np.float64), state[-1][row].astype(np.float64)
        for t in range(T):
            h, c, expected = numpy_step(name, w64, h, c, x[row, t].astype(np.float64))
            np.testing.assert_allclose(outputs[row, t], h, rtol=0, atol=1e-6)
            assert gates.keys() == expected.keys()
            for gate, value in expected.items():
                np.testing.assert_allclose(gates[gate][row, t], value, rtol=0, atol=1e-6 * (1 + np.abs(value).max()))
        np.testing.assert_allclose(after[0][row], h, rtol=0, atol=1e-6)
        if len(after) > 1:
            np.testing.assert_allclose(after[1][row], c, rtol=0, atol=1e-6 * (1 + np.abs(c).max()))


def test_the_slides_cell_by_hand():
    """S_t = f(U x_t + W S_{t-1}) by hand: x = 1, 2 with U = 0.5, W = -1 from S = 0."""
    weights = {"input": np.array([[0.5]]), "recurrent": np.array([[-1.0]])}
    outputs, _, _ = scan(CELLS["vanilla"], weights, np.array([[[1.0], [2.0]]]))
    first = np.tanh(0.5)
    np.testing.assert_allclose(outputs[0, :, 0], [first, np.tanh(1.0 - first)], atol=1e-6)
