"""The compiled loop equals the scan, composes like it, and is left out where it cannot be built.

Under the address and undefined-behavior sanitizers of GCC:

  CC="cc -fsanitize=address,undefined -fno-sanitize-recover=undefined -g" ASAN_OPTIONS=detect_leaks=0 \\
  LD_PRELOAD="$(cc -print-file-name=libasan.so) $(cc -print-file-name=libubsan.so)" \\
  python -m pytest -n0 tests/layers/cpu/test_native.py -k "equals or long or padding or threads or vmap"
"""

import os
import shutil
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

from cnnrnn import runtime
from cnnrnn.analysis.summary import summarize
from cnnrnn.layers import precision
from cnnrnn.layers.cpu.native import build
from cnnrnn.layers.cpu.native.loop import run
from cnnrnn.layers.rnn.cells import GRU, LSTM, VanillaRNN
from cnnrnn.layers.rnn.implementation import choose
from cnnrnn.layers.rnn.layer import Recurrent
from cnnrnn.layers.rnn.scan import scan


@pytest.fixture(scope="module", autouse=True)
def library():
    try:
        return build.load()
    except build.NativeUnavailable as error:
        pytest.skip(f"no compiled code: {error}")


CELLS = [LSTM(), GRU()]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=["lstm", "gru"])


def make_case(cell, sizes, direction, use_bias=True, has_carry=True, seed=0):
    """Weights, x and carry of sizes B, T, D, H, scaled so that the gates are not saturated."""
    rng, (batch_size, num_steps, input_size, hidden_size) = np.random.default_rng(seed), sizes
    lead = (2,) if direction == "both" else ()

    def normal(*shape):
        return jnp.asarray(rng.normal(0, (input_size + hidden_size) ** -0.5, shape), jnp.float32)

    shapes = cell.weight_shapes(input_size, hidden_size, use_bias)
    weights = {name: normal(*lead, *shape) for name, shape in shapes.items()}
    carry = tuple(normal(batch_size, *lead, hidden_size) for _ in range(cell.num_carries)) if has_carry else None
    return weights, normal(batch_size, num_steps, input_size) * (input_size + hidden_size) ** 0.5, carry


def in_scan(cell, weights, x, carry=None, **settings):
    return scan(cell, weights, x, carry, **settings)[:2]


def results(run, cell, case, **settings):
    """Outputs, carry, and the gradients of a function of both."""

    def loss(*case):
        outputs, carry = run(cell, *case, **settings)
        return jnp.sum(jnp.sin(outputs * 3)) + sum(jnp.sum(jnp.cos(c)) for c in carry), (outputs, carry)

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))(*case)


def assert_close(got, expected, tolerance=1e-5):
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        largest = float(jnp.abs(other).max(initial=0.0))
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * largest + 1e-30)


def assert_equals_scan(cell, case, **settings):
    assert_close(results(run, cell, case, **settings), results(in_scan, cell, case, **settings))


SIZES = st.tuples(st.integers(1, 70), st.integers(1, 30), st.integers(1, 70), st.integers(1, 70))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.sampled_from(CELLS), SIZES, st.sampled_from(["forward", "backward", "both"]), st.data())
def test_it_equals_the_scan(cell, sizes, direction, data):
    batch_size, num_steps, _, hidden_size = sizes
    seed = data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    case = make_case(cell, sizes, direction, data.draw(st.booleans()), data.draw(st.booleans()), seed)
    how = {"direction": direction}
    if data.draw(st.booleans()):
        how["lengths"] = jnp.asarray(rng.integers(-1, num_steps + 2, batch_size))
    if data.draw(st.booleans()):
        shape = (batch_size, 2, hidden_size) if direction == "both" else (batch_size, hidden_size)
        how["recurrent_mask"] = jnp.asarray(rng.integers(0, 2, shape) * 2.0, jnp.float32)
    assert_equals_scan(cell, case, **how)


@each_cell
def test_a_long_sequence_and_a_large_batch(cell):
    """More steps than are kept at a time, panels of several widths, and more panels than a tile has."""
    assert_equals_scan(cell, make_case(cell, (40, 300, 3, 130), "both"), direction="both")


@each_cell
def test_padding_may_hold_anything(cell):
    weights, x, carry = make_case(cell, (3, 7, 5, 18), "both")
    how = {"lengths": jnp.array([3, 7, 0]), "direction": "both"}
    filled = x.at[0, 3:].set(jnp.nan).at[2].set(jnp.inf)
    got = results(run, cell, (weights, filled, carry), **how)
    assert_close(got, results(run, cell, (weights, x.at[0, 3:].set(0).at[2].set(0), carry), **how))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(got))


@each_cell
def test_sequences_that_are_all_empty(cell):
    case = make_case(cell, (3, 4, 5, 18), "both")
    assert_equals_scan(cell, case, lengths=jnp.zeros(3, jnp.int32), direction="both")


# --- it composes


@each_cell
def test_vmap_grad_and_scan_over_calls(cell):
    weights, x, carry = make_case(cell, (4, 6, 5, 9), "forward")
    several = jax.tree.map(lambda w: jnp.stack([w, 2 * w, -w]), weights)

    def total(run, weights):
        def twice(carry, _):
            outputs, carry = run(cell, weights, x, carry)
            return carry, outputs.sum()

        return jax.lax.scan(twice, carry, length=2)[1].sum()

    for function in (total, lambda run, weights: jax.grad(partial(total, run))(weights)):
        got, expected = (jax.jit(jax.vmap(partial(function, run)))(several) for run in (run, in_scan))
        assert_close(got, expected)


@each_cell
def test_derivatives_of_second_order_are_those_of_the_scan(cell):
    weights, x, carry = make_case(cell, (2, 4, 3, 5), "backward")
    how = {"lengths": jnp.array([4, 2]), "direction": "backward"}

    def hessian_product(run):
        def loss(x):
            return jnp.sum(run(cell, weights, x, carry, **how)[0] ** 2)

        return jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) * jnp.cos(x))))(x)

    assert_close(hessian_product(run), hessian_product(in_scan))


@each_cell
def test_an_exported_program_has_the_scan(cell):
    """It runs on machines where the compiled code is not."""
    case = make_case(cell, (2, 4, 3, 5), "both")
    function = jax.jit(partial(results, run, cell, direction="both"))
    assert "cnnrnn_" in function.lower(case).as_text()
    exported = jax.export.export(function, platforms=("cpu", "tpu"))(case)
    assert "cnnrnn_" not in exported.mlir_module()
    assert_close(exported.call(case), function(case))


@each_cell
def test_sharded_over_devices_and_under_pmap(cell):
    weights, x, carry = make_case(cell, (8, 5, 3, 20), "forward")
    expected = in_scan(cell, weights, x, carry)
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put((x, carry), NamedSharding(mesh, PartitionSpec("batch")))
    assert_close(jax.jit(partial(run, cell))(weights, *sharded), expected)
    split = jax.tree.map(lambda array: array.reshape(4, 2, *array.shape[1:]), (x, carry))
    mapped = jax.pmap(partial(run, cell), in_axes=(None, 0, 0))(weights, *split)
    assert_close(jax.tree.map(lambda array: array.reshape(8, *array.shape[2:]), mapped), expected)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_any_number_of_threads_and_two_calls_at_once_give_the_same(num_threads):
    """To the bit: who computes a unit changes no result."""
    code = (
        "import sys, zlib; sys.path[:0] = ['tests', 'tests/layers/cpu']\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import jax, numpy as np\n"
        "from test_native import CELLS, make_case, results, run\n"
        "for cell in CELLS:\n"
        "    case = make_case(cell, (20, 40, 30, 50), 'both')\n"
        "    compute = lambda _: jax.tree.leaves(results(run, cell, case, direction='both'))\n"
        "    first = compute(0)\n"
        "    with ThreadPoolExecutor(2) as pool:\n"
        "        for leaves in pool.map(compute, range(6)):\n"
        "            assert all(np.array_equal(a, b) for a, b in zip(leaves, first))\n"
        "    print(zlib.crc32(b''.join(np.asarray(leaf).tobytes() for leaf in first)))\n"
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


@each_cell
@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
def test_small_and_large_activations_are_as_exact_as_in_the_scan(cell, scale):
    """Beside the scan in float64: large weights amplify the rounding of each step, so that single numbers differ."""
    weights, x, _ = make_case(cell, (200, 6, 5, 18), "forward", has_carry=False)
    weights = {name: scale * weight for name, weight in weights.items() if name != "bias"}
    with jax.enable_x64(True):
        as_float64 = lambda array: jnp.asarray(np.float64(array))  # noqa: E731
        exact = np.asarray(in_scan(cell, *jax.tree.map(as_float64, (weights, x)))[0])
    error, error_of_scan = (np.abs(np.asarray(f(cell, weights, x)[0]) - exact).mean() for f in (run, in_scan))
    assert exact.dtype == np.float64 and error < 1.5 * error_of_scan


@each_cell
def test_nan_is_not_hidden(cell):
    weights, x, carry = make_case(cell, (2, 3, 4, 5), "forward")
    for bits in (0x7FC00000, 0x7FC00001, 0xFFFFFFFF):
        nan = x.at[0, 1, 0].set(np.uint32(bits).view(np.float32))
        outputs = run(cell, weights, nan, carry)[0]
        assert np.isnan(outputs[0, 1:]).all() and np.isfinite(outputs[1]).all()


@each_cell
def test_infinity_in_one_sequence_is_as_in_the_scan(cell):
    """Its gates are saturated, so that it hands on no gradient; units that pad a vector must not either."""
    weights, x, carry = make_case(cell, (3, 4, 5, 18), "forward")
    gradient = lambda run: jax.grad(lambda x: jnp.sum(run(cell, weights, x, carry)[0][:, 2:]))  # noqa: E731
    got, expected = (gradient(f)(x.at[1, 1].set(jnp.inf)) for f in (run, in_scan))
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(expected))
    assert_close(got[::2], expected[::2])


@each_cell
def test_without_jit(cell):
    case = make_case(cell, (2, 3, 4, 5), "forward")
    with jax.disable_jit():
        outputs = run(cell, *case)
    assert_close(outputs, in_scan(cell, *case))


@each_cell
def test_arrays_of_wrong_shapes_are_refused(cell):
    weights, x, carry = make_case(cell, (2, 4, 3, 5), "forward")
    with pytest.raises(Exception, match="native loop: the arrays have other types, shapes or alignment"):
        jax.block_until_ready(run(cell, weights | {"input_kernel": weights["input_kernel"][:2]}, x, carry))


# --- when it is used


def test_a_layer_uses_it_where_its_conditions_hold(monkeypatch):
    x = np.zeros((2, 4, 3), np.float32)
    monkeypatch.setattr(precision, "_cpu_has_amx", lambda: False)
    assert choose("native", LSTM(), x, precision="bf16") == "native"  # such a CPU computes in float32
    monkeypatch.setattr(precision, "_cpu_has_amx", lambda: True)
    assert choose("native", LSTM(), x) == "native" and choose("scan", LSTM(), x) == "scan"
    assert choose("auto", LSTM(), x) == "scan"  # of the four devices of these tests
    for change, words in [
        ({"cell": VanillaRNN()}, "the cell is neither the LSTM without peepholes nor the GRU"),
        ({"cell": LSTM(peepholes=True)}, "the cell is neither the LSTM without peepholes nor the GRU"),
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
    failing = script(tmp_path / "failing", 'echo "lstm.h:1: error: no such thing" >&2; exit 1')
    with pytest.raises(build.NativeUnavailable, match="failing failed: lstm.h:1: error: no such thing"):
        build.build(tmp_path, failing)
    script(tmp_path / "failing", "exit 0  # the same compiler is not tried again")
    wrong = script(
        tmp_path / "wrong",
        f"""[ "$1" = --version ] && exit
        cp {Path(build.__file__).parent}/*.[ch] {tmp_path}
        sed -i 's/+ in \\* candidate, h/- in * candidate, h/' {tmp_path}/lstm.h
        cc $(echo "$@" | sed 's#[^ ]*/native.c#{tmp_path}/native.c#')""",
    )
    with pytest.raises(build.NativeUnavailable, match="the compiled code is wrong: the LSTM differs from the scan by"):
        build.build(tmp_path, wrong)
    assert not [*tmp_path.glob("*.so")] and not [*tmp_path.glob("*.part")]
    calls = tmp_path / "calls"
    script(tmp_path / "wrong", f'[ "$1" = --version ] && exit; touch {calls}; exit 1')
    with pytest.raises(build.NativeUnavailable, match="the compiled code is wrong"):  # remembered
        build.build(tmp_path, wrong)
    assert not calls.exists()
    full = script(tmp_path / "full", 'echo "fatal error: error writing: No space left on device" >&2; exit 1')
    with pytest.raises(build.NativeUnavailable, match="full failed: fatal error: error writing: No space left on"):
        build.build(tmp_path, full)
    killed = script(tmp_path / "killed", "cp /bin/true $(echo $@ | sed 's/.* //')  # no library")
    with pytest.raises(build.NativeUnavailable, match="the check of the compiled code failed: "):
        build.build(tmp_path, killed)
    assert len([*tmp_path.glob("*.failed")]) == 2  # the failures of the code alone are remembered
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
    (tmp_path / "native-0.1.part").write_bytes(b"of a process that was killed")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-DOTHER"))
    assert build.build(tmp_path, ["cc"]) != file


def start(code: str, *arguments: object, **settings) -> subprocess.CompletedProcess:
    """Runs code in another process, with the module `build`."""
    code = f"import os, sys; from pathlib import Path; from cnnrnn.layers.cpu.native import build\n{code}"
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    settings = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 120, "env": environment} | settings
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], **settings)


@pytest.mark.parametrize("moment", ["_compile", "_check", "_digest", "after the library"])
def test_a_build_that_is_killed_is_made_again(tmp_path, monkeypatch, moment):
    die = "os.kill(os.getpid(), 9)"
    if moment == "after the library":
        code = f"build._check = lambda file: None\nPath.write_text = lambda *_: {die}"
    elif moment == "_compile":
        code = f"build._compile = lambda file, compiler: (file.write_bytes(b'half'), {die})"
    else:
        code = f"build._check = lambda file: None\nbuild.{moment} = lambda file: {die}"
    done = start(f"{code}\nbuild.build(Path(sys.argv[1]), ['cc'])", tmp_path)
    assert done.returncode == -9 and len([*tmp_path.glob("*.part"), *tmp_path.glob("*.so")]) == 1
    monkeypatch.setattr(build, "_check", lambda file: None)
    file = build.build(tmp_path, ["cc"])
    assert build._is_whole(file) and not [*tmp_path.glob("*.part")]


def test_a_cache_that_is_full_or_read_only(tmp_path):
    """A limit on the size of files stops the compiler as a full disk would."""
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nprint(build._load())"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = start(code, env=environment)
    assert done.returncode == 0 and "cc failed: " in done.stdout and not done.stderr, done
    assert not [*tmp_path.rglob("*.failed"), *tmp_path.rglob("*.so"), *tmp_path.rglob("*.part")]
    done = start("print(build._load())", env=environment | {"XDG_CACHE_HOME": "/proc"})
    assert done.stdout == "there is no private cache folder\n" and not done.stderr


def test_a_library_of_another_jaxlib_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_check", lambda file: None)
    file = build.build(tmp_path, ["cc"])
    include = tmp_path / "include"
    shutil.copytree(jax.ffi.include_dir(), include)
    header = include / "xla" / "ffi" / "api" / "c_api.h"
    header.write_text(header.read_text() + "// of another version\n")
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(include))
    assert build.build(tmp_path, ["cc"]) != file
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = runtime.cache_dir()
    monkeypatch.setattr(runtime, "_jaxlib_version", lambda: "0.0.1")
    assert runtime.cache_dir() != folder


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
