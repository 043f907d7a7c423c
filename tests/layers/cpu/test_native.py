"""The compiled LSTM equals the scan, composes like it, and is left out where it cannot be built.

Under the address and undefined-behavior sanitizers of GCC:

  CC="cc -fsanitize=address,undefined -fno-sanitize-recover=undefined -g" ASAN_OPTIONS=detect_leaks=0 \\
  LD_PRELOAD="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)" \\
  python -m pytest -n0 tests/layers/cpu/test_native.py -k "equals or long or padding or threads or vmap"
"""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from cnnrnn.analysis.summary import summarize
from cnnrnn.layers.cpu.native import build
from cnnrnn.layers.cpu.native.lstm import lstm
from cnnrnn.layers.rnn.cells import GRU, LSTM
from cnnrnn.layers.rnn.implementation import choose
from cnnrnn.layers.rnn.layer import Recurrent
from cnnrnn.layers.rnn.scan import scan


@pytest.fixture(scope="module", autouse=True)
def library():
    try:
        return build.load()
    except build.NativeUnavailable as error:
        pytest.skip(f"no compiled code: {error}")


def make_case(sizes, direction, use_bias=True, has_carry=True, seed=0):
    """Weights, x and carry of sizes B, T, D, H, scaled so that the gates are not saturated."""
    rng, (batch_size, num_steps, input_size, hidden_size) = np.random.default_rng(seed), sizes
    lead = (2,) if direction == "both" else ()

    def normal(*shape):
        return jnp.asarray(rng.normal(0, (input_size + hidden_size) ** -0.5, shape), jnp.float32)

    shapes = LSTM().weight_shapes(input_size, hidden_size, use_bias)
    weights = {name: normal(*lead, *shape) for name, shape in shapes.items()}
    carry = tuple(normal(batch_size, *lead, hidden_size) for _ in range(2)) if has_carry else None
    return weights, normal(batch_size, num_steps, input_size) * (input_size + hidden_size) ** 0.5, carry


def in_scan(weights, x, carry, **how):
    return scan(LSTM(), weights, x, carry, **how)[:2]


def results(run, case, **how):
    """Outputs, carry, and the gradients of a function of both."""

    def loss(*case):
        outputs, carry = run(*case, **how)
        return jnp.sum(jnp.sin(outputs * 3)) + sum(jnp.sum(jnp.cos(c)) for c in carry), (outputs, carry)

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*case)


def assert_close(got, expected, tolerance=1e-5):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        largest = float(jnp.abs(other).max(initial=0.0))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * largest + 1e-30)


SIZES = st.tuples(st.integers(1, 70), st.integers(1, 30), st.integers(1, 70), st.integers(1, 70))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SIZES, st.sampled_from(["forward", "backward", "both"]), st.data())
def test_it_equals_the_scan(sizes, direction, data):
    batch_size, num_steps, _, hidden_size = sizes
    seed = data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    case = make_case(sizes, direction, data.draw(st.booleans()), data.draw(st.booleans()), seed)
    how = {"direction": direction}
    if data.draw(st.booleans()):
        how["lengths"] = jnp.asarray(rng.integers(0, num_steps + 2, batch_size))
    if data.draw(st.booleans()):
        shape = (batch_size, 2, hidden_size) if direction == "both" else (batch_size, hidden_size)
        how["recurrent_mask"] = jnp.asarray(rng.integers(0, 2, shape) * 2.0, jnp.float32)
    assert_close(results(lstm, case, **how), results(in_scan, case, **how))


def test_a_long_sequence_and_a_large_batch():
    """More steps than are kept at a time, and panels of several widths."""
    case = make_case((40, 300, 3, 130), "both")
    assert_close(results(lstm, case, direction="both"), results(in_scan, case, direction="both"))


def test_padding_may_hold_anything():
    weights, x, carry = make_case((3, 7, 5, 18), "both")
    how = {"lengths": jnp.array([7, 3, 0]), "direction": "both"}
    filled = x.at[1, 3:].set(jnp.nan).at[2].set(jnp.inf)
    got = results(lstm, (weights, filled, carry), **how)
    assert_close(got, results(lstm, (weights, x.at[1, 3:].set(0).at[2].set(0), carry), **how))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(got))


# --- it composes


def test_vmap_grad_and_scan_over_calls():
    weights, x, carry = make_case((4, 6, 5, 9), "forward")
    several = jax.tree.map(lambda w: jnp.stack([w, 2 * w, -w]), weights)

    def total(run, weights):
        def twice(carry, _):
            outputs, carry = run(weights, x, carry)
            return carry, outputs.sum()

        return jax.lax.scan(twice, carry, length=2)[1].sum()

    for function in (total, lambda run, weights: jax.grad(partial(total, run))(weights)):
        got, expected = (jax.jit(jax.vmap(partial(function, run)))(several) for run in (lstm, in_scan))
        assert_close(got, expected)


def test_derivatives_of_second_order_are_those_of_the_scan():
    weights, x, carry = make_case((2, 4, 3, 5), "backward")
    how = {"lengths": jnp.array([4, 2]), "direction": "backward"}

    def hessian_product(run):
        def loss(x):
            return jnp.sum(run(weights, x, carry, **how)[0] ** 2)

        return jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) * jnp.cos(x))))(x)

    assert_close(hessian_product(lstm), hessian_product(in_scan))


def test_sharded_over_devices_and_under_pmap():
    weights, x, carry = make_case((8, 5, 3, 20), "forward")
    expected = in_scan(weights, x, carry)
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put((x, carry), NamedSharding(mesh, PartitionSpec("batch")))
    assert_close(jax.jit(lstm)(weights, *sharded), expected)
    split = jax.tree.map(lambda array: array.reshape(4, 2, *array.shape[1:]), (x, carry))
    mapped = jax.pmap(lstm, in_axes=(None, 0, 0))(weights, *split)
    assert_close(jax.tree.map(lambda array: array.reshape(8, *array.shape[2:]), mapped), expected)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_any_number_of_threads_and_two_calls_at_once_give_the_same(num_threads):
    """To the bit: who computes a unit changes no result."""
    code = (
        "import sys, zlib; sys.path[:0] = ['tests', 'tests/layers/cpu']\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import jax, numpy as np\n"
        "from test_native import lstm, make_case, results\n"
        "case = make_case((20, 40, 30, 50), 'both')\n"
        "run = lambda _: jax.tree.leaves(results(lstm, case, direction='both'))\n"
        "first = run(0)\n"
        "with ThreadPoolExecutor(2) as pool:\n"
        "    for leaves in pool.map(run, range(6)):\n"
        "        assert all(np.array_equal(a, b) for a, b in zip(leaves, first))\n"
        "print(zlib.crc32(b''.join(np.asarray(leaf).tobytes() for leaf in first)))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    words = [sys.executable, "-c", code]
    done = [
        subprocess.run(
            words, cwd=ROOT, env=environment | {"NPROC": str(n)}, capture_output=True, text=True, timeout=120
        )
        for n in (1, num_threads)
    ]
    assert done[0].stdout and done[0].stdout == done[1].stdout, done[1].stderr


@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
def test_small_and_large_activations(scale):
    weights, x, _ = make_case((3, 6, 5, 18), "forward", has_carry=False)
    weights = {name: scale * weight for name, weight in weights.items() if name != "bias"}
    assert_close(lstm(weights, x), in_scan(weights, x, None))


def test_nan_is_not_hidden():
    weights, x, carry = make_case((2, 3, 4, 5), "forward")
    for bits in (0x7FC00000, 0x7FC00001, 0xFFFFFFFF):
        nan = x.at[0, 1, 0].set(np.uint32(bits).view(np.float32))
        assert (
            np.isnan(lstm(weights, nan, carry)[0][0, 1:]).all() and np.isfinite(lstm(weights, nan, carry)[0][1]).all()
        )


def test_arrays_of_wrong_shapes_are_refused():
    weights, x, carry = make_case((2, 4, 3, 5), "forward")
    with pytest.raises(Exception, match="native LSTM: the arrays have other types or shapes"):
        jax.block_until_ready(lstm(weights | {"input_kernel": weights["input_kernel"][:2]}, x, carry))


# --- when it is used


def test_a_layer_uses_it_where_its_conditions_hold():
    x = np.zeros((2, 4, 3), np.float32)
    assert choose("native", LSTM(), x) == "native" and choose("scan", LSTM(), x) == "scan"
    assert choose("auto", LSTM(), x) == "scan"  # of the four devices of these tests
    for change, words in [
        ({"cell": GRU()}, "the cell is not the LSTM"),
        ({"cell": LSTM(peepholes=True)}, "the cell is not the LSTM without peepholes"),
        ({"precision": "bf16"}, "the precision is 'bf16'"),
        ({"x": x.astype(np.float16)}, "the input is float16"),
        ({"x": x[:0]}, "the input .* is empty"),
    ]:
        with pytest.raises(ValueError, match=f"^implementation is 'native', but {words}.* - set it to 'auto'$"):
            choose("native", **{"cell": LSTM(), "x": x} | change)
    layer = Recurrent(20, direction="both", implementation="native", recurrent_dropout_rate=0.5)
    variables = layer.init(jax.random.key(0), x)
    key = {"dropout": jax.random.key(1)}
    native = layer.apply(variables, x, train=True, rngs=key)
    assert_close(native, layer.clone(implementation="scan").apply(variables, x, train=True, rngs=key))
    assert layer.apply(variables, x, mutable=["gates"])[1]["gates"]


def test_the_table_of_a_model_says_so_and_counts_the_same():
    import flax.linen as nn

    class Net(nn.Module):
        implementation: str

        @nn.compact
        def __call__(self, x):
            return Recurrent(7, direction="both", implementation=self.implementation, name="layer")(x)[0]

    native, plain = (summarize(Net(name), (jnp.zeros((1, 5, 3)),)) for name in ("native", "scan"))
    assert [row.type for row in native] == ["Recurrent (native)"] and [row.type for row in plain] == ["Recurrent"]
    assert native[0][2:] == plain[0][2:]


# --- how it is built


def script(file: Path, text: str) -> list[str]:
    """A compiler."""
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return [str(file)]


def test_a_compiler_that_is_missing_or_fails_or_is_wrong(tmp_path, capsys):
    with pytest.raises(build.NativeUnavailable, match="there is no C compiler, no-such-cc"):
        build.build(tmp_path, ["no-such-cc"])
    failing = script(tmp_path / "failing", 'echo "x.c:1: error: no such thing" >&2; exit 1')
    with pytest.raises(build.NativeUnavailable, match="failing failed: x.c:1: error: no such thing"):
        build.build(tmp_path, failing)
    script(tmp_path / "failing", "exit 0  # the same compiler is not tried again")
    wrong = script(
        tmp_path / "wrong",
        f"""[ "$1" = --version ] && exit
        cp {Path(build.__file__).parent}/*.[ch] {tmp_path}
        sed -i 's/c = f_ \\* c + i \\* g/c = f_ * c - i * g/' {tmp_path}/lstm.c
        cc $(echo "$@" | sed 's#[^ ]*/lstm.c#{tmp_path}/lstm.c#')""",
    )
    with pytest.raises(build.NativeUnavailable, match="the compiled code is wrong: it differs from the scan by"):
        build.build(tmp_path, wrong)
    assert not [*tmp_path.glob("*.so")] and not [*tmp_path.glob("*.part")]
    calls = tmp_path / "calls"
    script(tmp_path / "wrong", f'[ "$1" = --version ] && exit; touch {calls}; exit 1')
    with pytest.raises(build.NativeUnavailable, match="the compiled code is wrong"):  # remembered
        build.build(tmp_path, wrong)
    assert not calls.exists()
    notes = capsys.readouterr().err.splitlines()  # once each
    assert len(notes) == 2 and all(line.startswith("the recurrent loop is not compiled, and runs") for line in notes)


def test_a_library_is_built_once_and_again_if_it_is_damaged(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(build, "_check", lambda file: None)  # which takes seconds
    file = build.build(tmp_path, ["cc"])
    assert capsys.readouterr().err == "compiled the recurrent loop for this CPU with cc; later runs use it\n"
    whole = file.read_bytes()
    assert build.build(tmp_path, ["cc"]) == file and capsys.readouterr().err == ""
    for damaged in (whole[:1000], b"", whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:]):
        file.write_bytes(damaged)
        assert build.build(tmp_path, ["cc"]).read_bytes()[:1000] == whole[:1000] and capsys.readouterr().err
    file.with_suffix(".sha256").unlink()  # as after a kill between the two files
    build.build(tmp_path, ["cc"])
    (tmp_path / "lstm-0.1.part").write_bytes(b"of a process that was killed")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DOTHER"))
    assert build.build(tmp_path, ["cc"]) != file


def test_two_first_starts_at_once_build_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from cnnrnn.layers.cpu.native import build\n"
        "build._check = lambda file: None\nprint(build.build(Path(sys.argv[1]), ['cc']))"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert outputs[0][0] == outputs[1][0] != b""
    assert sorted(error.count(b"compiled the recurrent loop") for _, error in outputs) == [0, 1]


def test_a_run_goes_on_without_a_compiler(tmp_path):
    """The table of the model says what runs."""
    words = ["-m", "cnnrnn.main", "--config", "configs/pydoc_lstm.py", "--dry_run", "--config.model.hidden_size=8"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "CC": "no-such-cc"}
    run = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=120)
    done = run([sys.executable, *words], env=environment)
    assert done.returncode == 0 and done.stderr == "" and "  Recurrent  " in done.stdout
    done = run([sys.executable, *words, "--config.model.implementation=native"], env=environment)
    assert done.returncode == 2 and "but there is no C compiler, no-such-cc - set it to 'auto'" in done.stderr
