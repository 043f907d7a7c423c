"""What is set before JAX is imported: the allocator, and a private folder for compiled programs."""

import os
import platform
import subprocess
import sys

import pytest
from conftest import ROOT

from cnnrnn import runtime


def run_python(code: str, **environment) -> str:
    words = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=words | environment, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_glibc_keeps_its_memory():
    assert run_python("from cnnrnn import runtime; print(runtime.keep_memory())") == "True"


def test_the_folder_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = runtime.cache_folder()
    assert folder.parent == tmp_path / "cnnrnn" and folder.stat().st_mode & 0o777 == 0o700
    assert runtime.cache_folder() == folder
    folder.chmod(0o770)  # what others may write to is not run
    assert runtime.cache_folder() is None


def test_without_a_home_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert runtime.cache_folder() is None


COMPILE = "from cnnrnn import runtime; runtime.tune(); import jax; jax.jit(lambda x: x @ x)(jax.numpy.ones((9, 9)))"


def test_programs_are_kept(tmp_path):
    run_python(COMPILE, XDG_CACHE_HOME=str(tmp_path))
    assert [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_folder_of_the_users_own_choice_is_used(tmp_path):
    chosen, other = tmp_path / "chosen", tmp_path / "other"
    run_python(COMPILE, XDG_CACHE_HOME=str(other), JAX_COMPILATION_CACHE_DIR=str(chosen))
    assert not other.exists()


def test_a_program_that_was_cut_short_is_compiled_again_in_silence(tmp_path):
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
