"""Initialisers of recurrent weights have the properties that their papers ask for."""

import jax
import numpy as np
import pytest

from cnnrnn.layers.rnn import initializers
from cnnrnn.layers.rnn.cells import CELLS

H = 6
KEY = jax.random.key(0)


def test_uniform_fills_its_range():
    values = initializers.uniform(0.3)(KEY, (50, 40))
    assert 0.29 < values.max() <= 0.3 and -0.3 <= values.min() < -0.29 and abs(values.mean()) < 0.02


@pytest.mark.parametrize("directions", [(), (2,)])
def test_orthogonal_for_each_gate_and_direction(directions):
    kernel = np.asarray(initializers.orthogonal(2.0)(KEY, (*directions, H, 4 * H)))
    matrices = np.concatenate(np.split(kernel.reshape(-1, H, 4 * H), 4, axis=-1))
    assert len(matrices) == 4 * (2 if directions else 1)
    for matrix in matrices:
        np.testing.assert_allclose(matrix.T @ matrix, 4 * np.eye(H), atol=1e-5)
    assert len({round(float(matrix[0, 0]), 5) for matrix in matrices}) == len(matrices)


@pytest.mark.parametrize("directions", [(), (2,)])
def test_identity_for_each_gate(directions):
    kernel = initializers.identity(0.5)(KEY, (*directions, H, 3 * H))
    np.testing.assert_array_equal(kernel, np.broadcast_to(np.tile(0.5 * np.eye(H), 3), (*directions, H, 3 * H)))


@pytest.mark.parametrize("directions", [(), (2,)])
def test_the_forget_bias_is_added_to_the_forget_gate_alone(directions):
    shape = (*directions, 4 * H)
    base = initializers.uniform(0.1)
    bias = initializers.forget_bias(("i", "f", "g", "o"), 1.5, base)(KEY, shape)
    expected = np.array([0] * H + [1.5] * H + [0] * 2 * H)
    np.testing.assert_allclose(bias - base(KEY, shape), np.broadcast_to(expected, shape), atol=1e-6)
    np.testing.assert_array_equal(initializers.forget_bias(("i", "f", "g", "o"), 1.5)(KEY, shape), bias * 0 + expected)
    assert not initializers.forget_bias(("r", "z", "n"), 1.5)(KEY, (3 * H,)).any()


def test_chrono_covers_the_lengths():
    """b_f = log u with u uniform from 1 to T_max - 1, b_i = -b_f, and nothing else."""
    size, gate_names = 4000, CELLS["lstm"].gate_names
    bias = np.asarray(initializers.chrono(gate_names, max_length=101)(KEY, (2, 4 * size)), np.float64)
    b_i, b_f, b_g, b_o = np.split(bias, 4, axis=-1)
    np.testing.assert_array_equal(b_i, -b_f)
    assert not b_g.any() and not b_o.any()
    u = np.exp(b_f)
    assert 1 - 1e-5 <= u.min() < 2 and 99 < u.max() <= 100 + 1e-3
    np.testing.assert_allclose(np.quantile(u, [0.25, 0.5, 0.75]), [25.75, 50.5, 75.25], atol=2)
    assert np.abs(u[0] - u[1]).max() > 1  # each direction has its own


def test_chrono_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="it takes a cell with the gates i and f"):
        initializers.chrono(CELLS["lstm_1997"].gate_names, 100)
    with pytest.raises(ValueError, match="max_length is 2 - it takes more than 2"):
        initializers.chrono(CELLS["lstm"].gate_names, 2)
