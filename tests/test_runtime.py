"""The process is configured before JAX is imported: the allocator, and a private folder of compiled programs."""

import os
import platform
import subprocess
import sys

import matplotlib
import pytest
from conftest import ROOT, run_command

from cnnrnn import runtime


def run_python(code: str, **environment) -> str:
    words = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=words | environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_glibc_accepts_the_settings():
    assert run_python("from cnnrnn import runtime; print(runtime.tune_allocator())") == "True"


def test_the_folder_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = runtime.cache_dir()
    assert folder.parent == tmp_path / "cnnrnn" and folder.stat().st_mode & 0o777 == 0o700
    assert runtime.cache_dir() == folder
    folder.chmod(0o770)  # a program that others can write is not run
    assert runtime.cache_dir() is None


def test_each_jaxlib_and_each_processor_has_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = runtime.cache_dir()
    with monkeypatch.context() as patched:
        patched.setattr("importlib.metadata.version", lambda name: "0.0.1")
        assert runtime.cache_dir() != folder
    with monkeypatch.context() as patched:
        patched.setattr(runtime, "_cpu_flags", lambda: "fpu")
        assert runtime.cache_dir() != folder
    assert runtime.cache_dir() == folder
    imported = run_python("from cnnrnn import runtime; runtime.cache_dir(); import sys; print('jaxlib' in sys.modules)")
    assert imported == "False"


def test_without_a_home_nothing_is_stored(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert runtime.cache_dir() is None


COMPILE = """
from cnnrnn import runtime
runtime.configure_process()
import collections, jax
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.split("/")[-1]]))
jax.block_until_ready(jax.jit(lambda x: x @ x)(jax.numpy.ones((9, 9))))
print(events["cache_hits"], events["cache_misses"])
"""


def test_a_second_start_finds_its_programs(tmp_path):
    hits, misses = map(int, run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path)).split())
    assert hits == 0 and misses > 0
    assert run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path)) == f"{misses} 0"


def test_a_second_start_of_a_run_compiles_nothing(tmp_path, monkeypatch):
    """In another workdir, so that it does all of it again: no program is added to the folder."""
    monkeypatch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())  # its list of fonts takes seconds to make
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    small = ["--config.model.name=convnet.ConvNet", "--config.model.features=(2,2,2)", "--config.train.num_steps=2"]
    programs = []
    for name in ("first", "second"):
        done = run_command("main", "--config", "configs/digits_lenet5.py", "--workdir", tmp_path / name, *small)
        assert done.returncode == 0, done.stderr
        programs.append({file.name for file in (tmp_path / "cnnrnn").rglob("*-cache")})
    assert len(programs[0]) > 2 and programs[1] == programs[0]


def test_a_folder_of_the_users_choice_is_used(tmp_path):
    chosen, other = tmp_path / "chosen", tmp_path / "other"
    run_python(COMPILE, XDG_CACHE_HOME=str(other), JAX_COMPILATION_CACHE_DIR=str(chosen))
    assert not other.exists()


def test_a_program_that_was_cut_short_is_compiled_again_without_a_warning(tmp_path):
    run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path))
    for file in tmp_path.rglob("*-cache"):
        file.write_bytes(file.read_bytes()[:40])
    done = subprocess.run(
        [sys.executable, "-c", COMPILE],
        env={name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
        | {"XDG_CACHE_HOME": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == ""
