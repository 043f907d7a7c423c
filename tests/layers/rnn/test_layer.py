"""Recurrent layers: parameters, dropout, gates and stacks; steps one by one equal the call on all of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_cells import B, D, H, T, close, make_inputs

from cnnrnn.layers.rnn import initializers
from cnnrnn.layers.rnn.cells import CELLS, LSTM
from cnnrnn.layers.rnn.layer import Recurrent, Stack
from cnnrnn.layers.rnn.scan import unroll


def test_a_stack_is_its_layers_one_after_the_other():
    x, lengths, direction = make_inputs(), np.array([T, 3, 2]), "both"
    stack = Stack((5, 6), partial(Recurrent, cell=CELLS["gru"], direction=direction))
    (outputs, carries), variables = stack.init_with_output(jax.random.key(0), x, lengths=lengths)
    expected = x
    for name in ("layer1", "layer2"):
        expected, carry = unroll(
            CELLS["gru"], variables["params"][name], expected, lengths=lengths, direction=direction
        )
        close(carries[name == "layer2"], carry)
    close(outputs, expected)


@pytest.mark.parametrize("name", CELLS)
def test_steps_equal_the_call(name):
    """For a layer and a stack, from the same parameters, which `step` initialises as the call does."""
    x = make_inputs()
    layer = Recurrent(H, CELLS[name])
    for module in (layer, Stack((H, 3), partial(Recurrent, cell=CELLS[name]), dropout_rate=0.5)):
        variables = module.init(jax.random.key(0), x)
        close(module.init(jax.random.key(0), x[:, 0], method="step"), variables, 0)
        outputs, carry = module.apply(variables, x)
        step = jax.jit(partial(module.apply, method="step"))
        after = None
        for t in range(T):
            output, after = step(variables, x[:, t], after)
            close(output, outputs[:, t])
        close(after, carry)


def test_a_step_with_a_recurrent_mask_and_in_bf16():
    x, layer = make_inputs()[:, 0], Recurrent(H)
    variables = layer.init(jax.random.key(0), x[:, None])
    carry, mask = (np.ones((B, H), np.float32),) * 2, np.zeros((B, H), np.float32)
    after, _ = layer.cell.step(variables["params"], carry, x, mask)
    close(layer.apply(variables, x, carry, mask, method="step"), (after[0], after), 0)
    with pytest.raises(ValueError, match="precision is 'fp8'"):
        Recurrent(H, precision="fp8").apply(variables, x, method="step")


def test_both_directions_have_no_step():
    with pytest.raises(ValueError, match="^direction is 'both' - a step takes one direction"):
        Recurrent(H, direction="both").init(jax.random.key(0), make_inputs()[:, 0], method="step")


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_the_parameters_and_their_initialisers(direction):
    """Each initialiser sets one parameter. Kernels, bias and peephole have different names, for decay by name."""
    directions = (2,) if direction == "both" else ()
    cell = LSTM(peepholes=True)
    make = lambda **kwargs: Recurrent(H, cell, direction, **kwargs).init(jax.random.key(0), make_inputs())["params"]  # noqa: E731
    params = make()
    shapes = dict(input_kernel=(D, 4 * H), recurrent_kernel=(H, 4 * H), bias=(4 * H,), peephole=(3, H))
    assert jax.tree.map(jnp.shape, params) == {name: (*directions, *shape) for name, shape in shapes.items()}
    given = make(
        kernel_init=jax.nn.initializers.ones,
        recurrent_init=initializers.identity(),
        bias_init=initializers.chrono(cell.gate_names, 50),
        init_scale=0.01,
    )
    assert (given["input_kernel"] == 1).all()
    np.testing.assert_array_equal(given["recurrent_kernel"][..., :H], np.broadcast_to(np.eye(H), (*directions, H, H)))
    np.testing.assert_array_equal(given["bias"][..., :H], -given["bias"][..., H : 2 * H])
    assert 0.005 < np.abs(given["peephole"]).max() <= 0.01
    assert "bias" not in make(use_bias=False)


def test_the_forget_gate_begins_open():
    """The forget bias is added to its own columns of the bias, and to nothing else."""
    make = lambda forget_bias: Recurrent(H, LSTM(), forget_bias=forget_bias).init(jax.random.key(0), make_inputs())  # noqa: E731
    bias, plain = (make(value)["params"]["bias"] for value in (1.0, 0.0))
    np.testing.assert_allclose(bias - plain, [0] * H + [1] * H + [0] * 2 * H, atol=1e-6)
    assert np.abs(plain).max() <= H**-0.5


def test_the_layer_sows_its_gates():
    layer, x = Recurrent(H), make_inputs()
    variables = layer.init(jax.random.key(0), x)
    assert variables.keys() == {"params"}
    (outputs, (_, c)), sown = layer.apply(variables, x, mutable=["gates"])
    gates = sown["gates"]["gates"][0]
    assert set(gates) == set("ifgoch")
    close(gates["o"] * np.tanh(gates["c"]), outputs)
    close(gates["c"][:, -1], c)


def test_what_dropout_drops():
    """Weight dropout: recurrent weights alone. Recurrent dropout: nothing at the first step, whose carry is 0."""
    x = make_inputs()
    for field in ("weight_dropout_rate", "recurrent_dropout_rate"):
        layer = Recurrent(H, **{field: 0.5})
        variables = layer.init(jax.random.key(0), x)
        runs = [layer.apply(variables, x, train=True, rngs={"dropout": jax.random.key(k)})[0] for k in (1, 2)]
        close(runs[0][:, 0], runs[1][:, 0], 0)
        assert np.abs(runs[0][:, 1:] - runs[1][:, 1:]).max() > 1e-3
        close(layer.apply(variables, x)[0], Recurrent(H).apply(variables, x)[0], 0)


@pytest.mark.parametrize(("variational", "masks"), [(True, 1), (False, T)])
def test_between_layers_one_mask_for_all_steps_or_one_for_each(variational, masks):
    """Two layers, of which the first one outputs ones: what is dropped shows in the second one's input product."""
    stack = Stack((H, 1), partial(Recurrent, cell=CELLS["vanilla"]), dropout_rate=0.5, variational_dropout=variational)
    x = np.ones((1, T, 1), np.float32)
    params = jax.tree.map(np.zeros_like, stack.init(jax.random.key(0), x)["params"])
    params["layer1"]["bias"] = np.ones_like(params["layer1"]["bias"])  # so layer 1 gives tanh(1) always
    powers = 2.0 ** -np.arange(1, H + 1, dtype=np.float32)
    params["layer2"]["input_kernel"] = powers[:, None]  # a sum that tells the mask
    outputs, _ = stack.apply({"params": params}, x, train=True, rngs={"dropout": jax.random.key(0)})
    different = len(np.unique(np.asarray(outputs)))
    assert different == 1 if masks == 1 else different > 2
