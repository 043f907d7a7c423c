"""Compiles the C code at its first use with the compiler of the system, into the user's private cache folder.

The name of the library is a hash of all that it depends on: the sources, the compiler, the header of jaxlib. The folder
is that of `runtime.cache_dir`, which depends on the CPU. A library appears there complete or not at all, and is used
only after it has given the results of the scan, in another process. Nothing is downloaded.
"""

import ctypes
import functools
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax

from cnnrnn import runtime
from cnnrnn.command import note

SOURCES = "native.c", *sorted(file.name for file in Path(__file__).parent.glob("*.h"))
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-pthread")
FUNCTIONS = tuple(f"cnnrnn_{cell}_{name}" for cell in ("lstm", "gru") for name in ("forward", "backward"))
DIFFERS = 65  # the exit code of check.py if the results are wrong
# What only wrong code does. Other failures, such as those of a full memory, may be gone the next time.
WRONG = (DIFFERS, *(-getattr(signal, f"SIG{name}") for name in ("SEGV", "ILL", "BUS", "FPE", "ABRT")))
TIMEOUT = 300  # seconds, of the compiler, of the check, and of the wait for another process that does the same


class Library(NamedTuple):
    """The compiled code, whose functions JAX can call by their names.

    Attributes:
      num_lanes: float32 numbers in a vector register.
    """

    num_lanes: int


class NativeUnavailable(Exception):
    """There is no compiled code; the text says why, as a clause."""


class WrongCode(NativeUnavailable):
    """The compiler refuses the code, or its results are wrong: to try again would change nothing."""


def load() -> Library:
    """The library, compiled if it is not there.

    Raises:
      NativeUnavailable: there is no compiler, it fails, the results are wrong, or the cache cannot be written.
    """
    result = _load()
    if isinstance(result, str):
        raise NativeUnavailable(result)
    return result


@functools.cache
def _load() -> Library | str:
    """The library, or why there is none: a failure is remembered too."""
    try:
        folder = runtime.cache_dir()
        if folder is None:
            raise NativeUnavailable("there is no private cache folder")
        return register(build(folder, shlex.split(os.environ.get("CC") or "cc")))
    except NativeUnavailable as error:
        return str(error)
    except ValueError as error:
        return f"CC cannot be read: {error}"
    except OSError as error:
        return f"the cache folder cannot be used: {error}"


def build(folder: Path, compiler: list[str]) -> Path:
    """The library in a folder, made if it is not there or damaged.

    Args:
      folder: private to the user and the CPU.
      compiler: its command, such as ["cc"].

    Raises:
      NativeUnavailable: it cannot be made.
    """
    import filelock

    file = folder / f"native-{_key(compiler)}.so"
    failure = file.with_suffix(".failed")
    if _is_whole(file):
        return file
    try:
        with filelock.FileLock(folder / "native.lock", timeout=TIMEOUT):
            if _is_whole(file):  # another process has made it
                return file
            if failure.exists():
                raise NativeUnavailable(failure.read_text(errors="replace"))
            for abandoned in folder.glob("native-*.part"):  # by a process that was killed: only one builds at a time
                abandoned.unlink()
            part = file.with_suffix(f".{os.getpid()}.part")
            try:
                _compile(part, compiler)
                _check(part)
                digest = _digest(part)
                part.replace(file)
                file.with_suffix(".sha256").write_text(digest)
            except WrongCode as error:
                failure.write_text(str(error))
                note(f"the recurrent loop is not compiled, and runs more slowly: {error}")
                raise
            finally:
                part.unlink(missing_ok=True)
    except filelock.Timeout:
        raise NativeUnavailable(f"another process has held {folder / 'native.lock'} for minutes") from None
    note(f"compiled the recurrent loop for this CPU with {compiler[0]}; later runs use it")
    return file


def register(file: Path) -> Library:
    """Loads a library and gives its functions to JAX.

    Raises:
      NativeUnavailable: it cannot be loaded.
    """
    try:
        library = ctypes.CDLL(str(file))
        for name in FUNCTIONS:
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
        return Library(library.cnnrnn_num_lanes())
    except (OSError, AttributeError) as error:
        raise NativeUnavailable(f"{file} cannot be loaded: {error}") from error


def _compile(file: Path, compiler: list[str]) -> None:
    source = Path(__file__).with_name(SOURCES[0])
    command = [*compiler, *FLAGS, f"-I{jax.ffi.include_dir()}", str(source), "-o", str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{compiler[0]} failed: {error}") from error
    if done.returncode:
        line = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        is_of_the_code = any(f"{name}:" in line for name in SOURCES)  # and not of a full disk, say
        raise (WrongCode if is_of_the_code else NativeUnavailable)(f"{compiler[0]} failed: {line}")


def _check(file: Path) -> None:
    """Compares with the scan, in another process: wrong code may do worse than to raise an error."""
    left_out = "XLA_FLAGS", "JAX_DISABLE_JIT", "JAX_DEBUG_NANS"
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    root = Path(__file__).parents[4]
    environment |= {
        "JAX_PLATFORMS": "cpu",
        "PYTHONSAFEPATH": "1",  # the modules of the current folder are not imported
        "PYTHONPATH": os.pathsep.join([str(root), *filter(None, [environment.get("PYTHONPATH")])]),
    }
    command = [sys.executable, "-m", "cnnrnn.layers.cpu.native.check", str(file)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"the check of the compiled code failed: {error}") from error
    if done.returncode:
        line = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if done.returncode in WRONG:
            raise WrongCode(f"the compiled code is wrong: {line}")
        raise NativeUnavailable(f"the check of the compiled code failed: {line}")


def _key(compiler: list[str]) -> str:
    """A hash of the sources, the compiler, its flags and the header of jaxlib.

    Raises:
      NativeUnavailable: there is no compiler.
    """
    if shutil.which(compiler[0]) is None:
        raise NativeUnavailable(f"there is no C compiler, {compiler[0]}")
    try:
        version = subprocess.run([*compiler, "--version"], capture_output=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{compiler[0]} failed: {error}") from error
    digest = hashlib.sha256(" ".join([*compiler, *FLAGS]).encode() + version)
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    for file in [*map(Path(__file__).with_name, SOURCES), header]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _is_whole(file: Path) -> bool:
    """Whether a library is there as it was written."""
    try:
        return file.with_suffix(".sha256").read_text() == _digest(file)
    except OSError:
        return False


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
