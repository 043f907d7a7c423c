"""Configures the process before JAX is imported: the allocator, and the cache of compiled programs.

Every step makes large arrays in fresh memory, and the system zeroes each page of it at its first use. For a training
step on a CPU that can cost as much as the arithmetic. So glibc is told to reuse memory that was freed. And a program
that was compiled before is read from the user's cache folder instead of being compiled again. Both change no number.
"""

import ctypes
import hashlib
import importlib.metadata
import os
import platform
import stat
import sys
import warnings
from pathlib import Path

CACHE_SIZE = 2 << 30  # bytes; the least recently used programs are deleted


def configure_process() -> None:
    """Tunes the allocator and enables the cache. What a system cannot do is left out silently: it is only speed."""
    tune_allocator()
    # a program that was cut short by a full disk or a kill is compiled again: not worth a warning
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (directory := cache_dir()):
        enable_compilation_cache(directory)


def tune_allocator() -> bool:
    """Tells glibc to reuse freed memory, in one arena, and not to map large blocks. Returns whether it did."""
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False  # musl and macOS have no mallopt
    m_trim_threshold, m_top_pad, m_mmap_max, m_arena_max = -1, -2, -4, -8  # malloc.h
    mallopt = ctypes.CDLL(None).mallopt
    # one arena: the arena of a thread has 64 MB at most, and larger blocks would still be mapped
    wanted = {m_mmap_max: 0, m_trim_threshold: 2**31 - 1, m_top_pad: 256 << 20, m_arena_max: 1}
    return all([mallopt(parameter, value) == 1 for parameter, value in wanted.items()])


def enable_compilation_cache(directory: Path) -> None:
    """Lets JAX, which must not have been imported, store every compiled program in a directory."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(CACHE_SIZE))


def cache_dir() -> Path | None:
    """A private folder for the programs of this CPU and this jaxlib; None if there can be none.

    Its content is executed, so nobody else may write to it. A program runs on the CPU and with the jaxlib for which it
    was compiled, so a home that is shared by several machines has several folders.
    """
    key = hashlib.sha256(" ".join((platform.machine(), _cpu_flags(), _jaxlib_version())).encode()).hexdigest()[:12]
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cnnrnn"
        directory = base / f"programs-{key}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        str(directory).encode()  # JAX takes no other path
    except (OSError, RuntimeError, UnicodeError):  # no home, a full or read-only disk
        return None
    is_private = not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return directory if is_private and is_ours and os.access(directory, os.W_OK) else None


def _cpu_flags() -> str:
    """The instruction sets of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")  # x86 or ARM


def _jaxlib_version() -> str:
    try:
        return importlib.metadata.version("jaxlib")  # without importing it
    except importlib.metadata.PackageNotFoundError:
        return ""
