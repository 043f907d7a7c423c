"""How the process runs: what the allocator keeps, and where compiled programs stay; set before JAX is imported.

Large arrays are fresh memory in every step, and each page of it is handed out by the system, zeroed, at the first
touch: for a training step on a CPU that can cost as much as the arithmetic. glibc is told to keep what it once had. And
a program that was compiled before is read from the user's cache folder instead of being compiled again.
Both change no number. `--notune` leaves the process as it is.
"""

import ctypes
import hashlib
import os
import platform
import stat
import sys
import warnings
from pathlib import Path

CACHE_SIZE = 2 << 30  # bytes; what was used least recently goes first


def tune() -> None:
    """Both of the above; what cannot be done on a system is left alone in silence, for it is speed only."""
    keep_memory()
    # a program that a full disk or a kill cut short is compiled again: nothing that a user must hear of
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (folder := cache_folder()):
        keep_programs(folder)


def keep_memory() -> bool:
    """Tells glibc to keep the memory that is freed, in one arena, and not to map large blocks; whether it did."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False  # musl and macOS have no mallopt
    m_trim_threshold, m_top_pad, m_mmap_max, m_arena_max = -1, -2, -4, -8  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    # one arena: a thread's own holds 64 MB at most, and larger blocks would still be mapped
    wanted = {m_mmap_max: 0, m_trim_threshold: 2**31 - 1, m_top_pad: 256 << 20, m_arena_max: 1}
    return all([mallopt(parameter, value) == 1 for parameter, value in wanted.items()])


def keep_programs(folder: Path) -> None:
    """Lets JAX, not imported yet, keep every compiled program in a folder."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(CACHE_SIZE))


def cache_folder() -> Path | None:
    """A folder of the user's alone for the programs of this kind of processor; None if there can be none.

    What lies there is run, so nobody else may write to it. Programs are compiled for one processor; a home on several
    kinds of machines has a folder for each.
    """
    try:
        cpu = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0]
    except OSError:
        cpu = platform.processor()
    kind = hashlib.sha256(f"{platform.machine()} {cpu}".encode()).hexdigest()[:12]
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnrnn"
        folder = base / f"programs-{kind}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # no home, a full or read-only disk
        return None
    private = not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    own = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return folder if private and own and os.access(folder, os.W_OK) else None
