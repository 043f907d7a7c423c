"""cuDNN's LSTM equals the scan: what enters the operation and what it returns, and when it is used.

Without a GPU the tests replace the operation by `rnn.lstm_ref`, JAX's definition of it in plain JAX, on the weights as
`rnn.unpack_lstm_weights` reads them. `python tests/layers/rnn/test_cudnn.py` compares the operation itself. The last
test runs that where there is a GPU.
"""

import importlib.util
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import rnn
from test_cells import B, D, H, T, make_inputs, make_weights

from cnnrnn.layers.rnn import cudnn
from cnnrnn.layers.rnn.cells import CELLS, LSTM
from cnnrnn.layers.rnn.implementation import choose
from cnnrnn.layers.rnn.layer import Recurrent
from cnnrnn.layers.rnn.scan import scan
from cnnrnn.models.recurrent_lm import RecurrentLM

ROOT = Path(__file__).parents[3]
SKIPPED = 77  # the exit code of this file as a program where it finds no GPU
LENGTHS = ([T] * B, [T, 2, 0], [1, 0, T - 1], [0] * B, [T + 2, 1, 1])
SETTINGS = dict(cell=LSTM(), x=np.zeros((B, T, D), np.float32))


def uses_cudnn(implementation, cell, x, **settings):
    return choose(implementation, cell, x, **settings) == "cudnn"


def reference(x, h_0, c_0, weights, seq_lengths, *sizes):
    """`rnn.lstm` as cuDNN runs it, with NaN for what nothing may depend on: outputs in padding, and a length of 0."""
    *sizes, precision = sizes
    input_size, hidden_size, num_layers, _, bidirectional = sizes
    assert x.dtype == h_0.dtype == c_0.dtype == weights.dtype == jnp.float32 and precision == jax.lax.Precision.HIGHEST
    unpacked = rnn.unpack_lstm_weights(weights, input_size, hidden_size, num_layers, bidirectional)
    x = jnp.where(jnp.all((seq_lengths >= 1) & (seq_lengths <= x.shape[1])), x, jnp.nan)
    outputs, h_n, c_n = rnn.lstm_ref(x, h_0, c_0, *unpacked, seq_lengths, *sizes)
    valid = jnp.arange(x.shape[1]) < seq_lengths[:, None]
    return jnp.where(valid[..., None], outputs, jnp.nan), h_n, c_n


@pytest.fixture
def calls(monkeypatch):
    """As on an NVIDIA GPU, with the reference instead of cuDNN; a list that grows with each call of it."""
    made = []
    monkeypatch.setattr(cudnn, "_on_one_nvidia_gpu", lambda: True)
    monkeypatch.setattr(rnn, "lstm", lambda *arguments: (made.append(1), reference(*arguments))[1])
    return made


def in_cudnn(w, x, carry, lengths, direction):
    return cudnn.run(LSTM(), w, x, carry, lengths=lengths, direction=direction)


def in_scan(w, x, carry, lengths, direction):
    return scan(LSTM(), w, x, carry, lengths=lengths, direction=direction)[:2]


def compiled(function, direction):
    """(weights, x, carry, lengths) -> (outputs, carry after), gradients of the first three through both."""

    def total(w, x, carry, lengths):
        outputs, after = function(w, x, carry, lengths, direction)
        return jnp.sum(jnp.sin(outputs)) + sum(jnp.sum(c**2) for c in after), (outputs, after)

    def run(*arguments):
        gradient, results = jax.grad(total, (0, 1, 2), has_aux=True)(*arguments)
        return results, gradient

    return jax.jit(run)


def make_carry(direction, batch_size=B, hidden_size=H):
    rng, directions = np.random.default_rng(3), (2,) if direction == "both" else ()
    return tuple(rng.normal(0, 1, (batch_size, *directions, hidden_size)).astype(np.float32) for _ in range(2))


def weights_of(direction, **kwargs):
    return make_weights(LSTM(), directions=(2,) if direction == "both" else (), **kwargs)


def close(one, other, tolerance):
    """To a tolerance, of the largest number where that is above 1; NaN is close to nothing."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.shape == b.shape and np.isfinite(b).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max(initial=0)))


def compare(direction, tolerance):
    """cuDNN with the scan, for all kinds of lengths, with NaN in padding."""
    run, expected = compiled(in_cudnn, direction), compiled(in_scan, direction)
    weights, carry = weights_of(direction), make_carry(direction)
    for lengths in map(np.array, LENGTHS):
        valid = np.arange(T) < lengths[:, None]
        x = np.where(valid[..., None], make_inputs(), np.nan).astype(np.float32)
        results = (outputs, after), (_, d_x, _) = jax.device_get(run(weights, x, carry, lengths))
        close(results, jax.device_get(expected(weights, x, carry, lengths)), tolerance)
        assert not outputs[~valid].any() and not d_x[~valid].any()
        for new, old in zip(after, carry, strict=True):
            np.testing.assert_array_equal(new[lengths == 0], old[lengths == 0])


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_it_equals_the_scan(direction, calls):
    compare(direction, 1e-5)
    assert calls


def test_it_equals_the_scan_without_bias_carry_and_lengths(calls):
    arguments, run = (weights_of("both", bias=False), make_inputs(), None, None), jax.jit(in_cudnn, static_argnums=4)
    close(run(*arguments, "both"), jax.jit(in_scan, static_argnums=4)(*arguments, "both"), 1e-5)
    assert calls


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_the_operation_itself_takes_what_it_is_given(direction, monkeypatch):
    """Traced only, forward and backward: the shapes, and no TF32."""
    sizes = SimpleNamespace(compute_rnn_workspace_reserve_space_sizes=lambda *_: (4, 4))  # else cuDNN is asked
    monkeypatch.setattr(rnn, "gpu_rnn", sizes)
    total = lambda w, x, carry, lengths: jnp.sum(in_cudnn(w, x, carry, lengths, direction)[0])  # noqa: E731
    arguments = weights_of(direction), make_inputs(), make_carry(direction)
    jaxpr, shapes = jax.make_jaxpr(jax.grad(total, (0, 1, 2)), return_shape=True)(*arguments, np.array([T, 2, 0]))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, arguments)
    assert str(jaxpr).count("= rnn_fwd[") == str(jaxpr).count("= rnn_bwd[") == 1
    assert str(jaxpr).count("cudnn_allow_tf32=False") == 2 and "cudnn_allow_tf32=True" not in str(jaxpr)


def trace(layer, *arguments, **kwargs):
    """Calls a layer without computing anything."""
    rngs = {"dropout": jax.random.key(1)}
    apply = partial(layer.apply, rngs=rngs, **kwargs)
    return jax.eval_shape(apply, {"params": weights_of(layer.direction)}, make_inputs(), *arguments)


def test_a_layer_hands_on_all_its_arguments(monkeypatch):
    """The weights, in training after weight dropout, a carry and lengths."""
    given = []
    monkeypatch.setattr(cudnn, "_on_one_nvidia_gpu", lambda: True)
    monkeypatch.setattr(cudnn, "run", lambda *arguments, **kwargs: given.append((*arguments, kwargs)))
    params, x, carry, lengths = weights_of("both"), make_inputs(), make_carry("both"), np.array([T, 2, 0])
    layer = Recurrent(H, direction="both", weight_dropout_rate=0.5)
    for train in (False, True):
        layer.apply({"params": params}, x, carry, lengths, train, rngs={"dropout": jax.random.key(1)})
    (cell, plain, *one), (_, dropped, *other) = given
    assert cell == layer.cell
    for seen_x, seen_carry, kwargs in (one, other):
        assert seen_x is x and seen_carry is carry and kwargs["lengths"] is lengths and kwargs["direction"] == "both"
    close(plain, params, 0)
    mask = np.asarray(dropped["recurrent_kernel"]) != 0
    assert 0.3 < mask.mean() < 0.7
    close(dropped, params | {"recurrent_kernel": np.where(mask, 2 * params["recurrent_kernel"], 0)}, 1e-6)


def test_a_layer_uses_it_where_it_is_supported(calls):
    for layer, kwargs, expected in (
        (Recurrent(H), {}, True),
        (Recurrent(H, direction="both"), {"train": True}, True),
        (Recurrent(H, implementation="cudnn"), {}, True),
        (Recurrent(H, implementation="scan"), {}, False),
        (Recurrent(H, direction="backward"), {}, False),
        (Recurrent(H, precision="bf16"), {}, False),
        (Recurrent(H, recurrent_dropout_rate=0.5), {}, True),
        (Recurrent(H, recurrent_dropout_rate=0.5), {"train": True}, False),
    ):
        del calls[:]
        trace(layer, **kwargs)
        assert bool(calls) == expected, (layer, kwargs)
    with pytest.raises(ValueError, match="implementation is 'cudnn', but there is recurrent dropout - set"):
        trace(Recurrent(H, recurrent_dropout_rate=0.5, implementation="cudnn"), train=True)


def test_whoever_asks_for_the_gates_gets_the_scan(calls):
    _, sown = trace(Recurrent(H, implementation="cudnn"), mutable=["gates"])
    assert not calls and set(sown["gates"]["gates"][0]) == set("ifgoch")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (dict(cell=CELLS["gru"]), "the cell is not the LSTM without peepholes"),
        (dict(cell=CELLS["lstm_peepholes"]), "the cell is not the LSTM without peepholes"),
        (dict(direction="backward"), "the direction is 'backward'"),
        (dict(has_recurrent_mask=True), "there is recurrent dropout"),
        (dict(precision="bf16"), "the precision is 'bf16'"),
        (dict(x=jax.ShapeDtypeStruct((B, T, D), jnp.bfloat16)), "the input is bfloat16"),
        (dict(x=np.zeros((B, 0, D), np.float32)), "is empty"),
    ],
)
def test_every_condition(changed, words, monkeypatch):
    monkeypatch.setattr(cudnn, "_on_one_nvidia_gpu", lambda: True)
    assert uses_cudnn("auto", **SETTINGS) and uses_cudnn("cudnn", **SETTINGS)
    assert not uses_cudnn("scan", **SETTINGS)
    kwargs = SETTINGS | changed
    assert not uses_cudnn("auto", **kwargs) and not uses_cudnn("scan", **kwargs)
    with pytest.raises(ValueError, match=f"^implementation is 'cudnn', but .*{words}.* - set it to 'auto'$"):
        uses_cudnn("cudnn", **kwargs)


@pytest.mark.parametrize(
    ("backend", "platform", "count", "expected"),
    [
        ("gpu", "PJRT C API\ncuda 12090", 1, True),
        ("gpu", "PJRT C API\ncuda 12090", 2, False),
        ("gpu", "rocm 60300", 1, False),
        ("tpu", "", 1, False),
        ("cpu", "cpu", 1, False),
    ],
)
def test_only_one_gpu_of_nvidia(backend, platform, count, expected, monkeypatch):
    device = SimpleNamespace(client=SimpleNamespace(platform_version=platform), device_kind="such a thing")
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device] * count)
    monkeypatch.setattr(jax, "device_count", lambda: count)
    assert uses_cudnn("auto", **SETTINGS) == expected
    if not expected:
        with pytest.raises(ValueError, match=f"but JAX runs on {count} x such a thing, not on one NVIDIA GPU - "):
            uses_cudnn("cudnn", **SETTINGS)


def test_there_are_four_implementations():
    with pytest.raises(ValueError, match="implementation is 'fast' - it takes auto, scan, native or cudnn"):
        uses_cudnn("fast", **SETTINGS)


def test_a_model_raises_before_it_is_trained(monkeypatch):
    """For recurrent dropout too, which a call outside training does not apply."""
    initialise = lambda **kwargs: jax.eval_shape(  # noqa: E731
        RecurrentLM(9, implementation="cudnn", **kwargs).init, jax.random.key(0), jnp.zeros((2, 3), jnp.int32)
    )
    with pytest.raises(ValueError, match="^implementation is 'cudnn', but JAX runs on 4 x cpu, not on one NVIDIA"):
        initialise()
    monkeypatch.setattr(cudnn, "_on_one_nvidia_gpu", lambda: True)
    with pytest.raises(ValueError, match="there is recurrent dropout"):
        initialise(recurrent_dropout_rate=0.5)


def test_the_operation_itself_equals_the_scan():
    """In another process: JAX is limited to the CPU in this one."""
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if not any(map(importlib.util.find_spec, plugins)):
        pytest.skip("no GPU: JAX is installed without CUDA")
    environment = {name: value for name, value in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    done = subprocess.run(
        [sys.executable, __file__], env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    if done.returncode == SKIPPED:
        pytest.skip(f"no GPU: {done.stdout.strip()}")
    assert done.returncode == 0, done.stderr


def main():
    """Compares the operation itself with the scan, both in float32, to 1e-4."""
    if jax.default_backend() != "gpu":
        print(f"JAX runs on {jax.devices()[0].device_kind}")
        sys.exit(SKIPPED)
    assert uses_cudnn("cudnn", **SETTINGS)
    with jax.default_matmul_precision("highest"):
        for direction in ("forward", "both"):
            compare(direction, 1e-4)
            arguments = weights_of(direction, bias=False), make_inputs(), None, None
            close(compiled(in_cudnn, direction)(*arguments), compiled(in_scan, direction)(*arguments), 1e-4)
        # a net as it is trained: two layers, and an input that is transposed
        tokens = np.random.default_rng(0).integers(0, 50, (35, 20))
        settings = dict(vocab_size=50, hidden_size=200, num_layers=2)
        params = RecurrentLM(**settings).init(jax.random.key(0), tokens.T)

        def gradient(implementation):
            model = RecurrentLM(**settings, implementation=implementation)
            total = lambda p, tokens: jnp.sum(jnp.sin(model.apply(p, tokens.T)[0]))  # noqa: E731
            traced = jax.jit(jax.value_and_grad(total)).trace(params, tokens)
            assert ("= rnn_fwd[" in str(traced.jaxpr)) == (implementation != "scan")
            return traced.lower().compile()(params, tokens)

        close(gradient("auto"), gradient("scan"), 1e-4)
    print(f"cuDNN's LSTM equals the scan on {jax.devices()[0].device_kind}")


if __name__ == "__main__":
    main()
