"""What the programs share: they parse flags, and turn errors of the user into one line and an exit code.

Imports nothing heavy, so that `--help` and a misspelt flag answer at once.
"""

import difflib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from absl import flags

from cnnrnn import runtime
from cnnrnn.errors import ConfigError, Interrupted, UserError, WorkdirError, join_lines, one_line

DEBUG = flags.DEFINE_bool("debug", False, "show the traceback of an error instead of its one line")
TUNE = flags.DEFINE_bool(
    "tune", True, "reuse freed memory, and store compiled programs in the user's cache folder; or --notune"
)
HELP = flags.DEFINE_bool("help", False, "print this and exit", short_name="h")


def run(main: Callable[[list[str]], None]) -> None:
    """Runs a program on the process's arguments; an error ends the process with its exit code."""
    _exit_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the terminal may not be able to show a name
            stream.reconfigure(errors="backslashreplace")
    try:
        main(sys.argv)
    except BrokenPipeError:  # `... | head` has seen enough
        _close_stdout()
    except (Exception, KeyboardInterrupt) as error:
        if _debugging():
            print(_without_controls(traceback.format_exc()), file=sys.stderr, end="")
        user_error = _as_user_error(error)
        line = f"cnnrnn: {'' if isinstance(user_error, Interrupted) else 'error: '}{user_error}"
        if user_error is None:
            what = join_lines(f"{type(error).__name__}: {error}")[:500]
            line = f"cnnrnn: bug: {what} - please report it with what the same command prints with --debug"
        print(line, file=sys.stderr, flush=True)
        sys.exit(user_error.exit_code if user_error else 1)


def _exit_on_signals() -> None:
    """Lets a signal to stop end the process at once, with exit code 75.

    A training replaces these handlers while it has steps to save. Python's own handler raises KeyboardInterrupt, which
    the import of a library may turn into another error, or swallow.
    """

    def end(number, frame):
        error = _as_user_error(KeyboardInterrupt())
        os.write(sys.stderr.fileno(), f"cnnrnn: {error}\n".encode())
        os._exit(error.exit_code)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def _as_user_error(error: BaseException) -> UserError | None:
    """What an exception means to the user; None if it is a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted - the same command continues from the last checkpoint, if there was one")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
        return WorkdirError(f"{error.strerror}, {error.filename or 'while writing'} - make room, then run it again")
    if isinstance(error, MemoryError):
        return ConfigError("out of memory - lower data.batch_size or data.eval_batch_size")
    if isinstance(error, RuntimeError) and "Unable to initialize backend" in str(error):
        return ConfigError(f"JAX cannot start: {join_lines(str(error))} - unset JAX_PLATFORMS or install what it names")
    return None


def parse(argv: Sequence[str], usage: str) -> list[str]:
    """Sets the absl flags, configures the process and returns the other arguments; `--help` prints and exits.

    Raises:
      ConfigError: a flag is unknown, its value cannot be read, or JAX cannot run where the package is.
    """
    flags.FLAGS.set_gnu_getopt(True)  # flags may follow file names
    try:
        arguments = flags.FLAGS(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(f"unknown flag --{error.flagname}{_suggestion(error)}") from error
    except flags.Error as error:
        raise ConfigError(f"{error} - see --help") from error
    if HELP.value:
        print(f"{usage.strip()}\n\nFlags:\n{_describe_flags()}")
        sys.exit(0)
    if not is_utf8(package := os.path.dirname(__file__)):
        raise ConfigError(f"the path of cnnrnn, {package}, is not UTF-8 - rename the folder, JAX takes no other")
    if TUNE.value:
        runtime.configure_process()
    return arguments


def echo(text: str) -> None:
    """Prints text. If the reader has closed the pipe (`... | head`), the program continues without output.

    A name in the text may contain a line end: escape it with `errors.one_line`. Other control characters are escaped.
    """
    try:
        print(_without_controls(text), flush=True)
    except BrokenPipeError:
        _close_stdout()


def note(text: str) -> None:
    """Prints one line to standard error: what the user should know, and what is no error."""
    print(one_line(text), file=sys.stderr, flush=True)


def workdir(value: str | None) -> str:
    """The absolute path of `--workdir`.

    Raises:
      ConfigError: it was not given.
    """
    if not value:
        raise ConfigError("no --workdir - name the directory of the run, --workdir runs/NAME")
    return os.path.abspath(os.path.expanduser(value))


def is_utf8(path: str) -> bool:
    """Whether a path is UTF-8 on disk. JAX and Orbax, which are written in C++, take no other."""
    try:
        return os.fsencode(path).decode() == path
    except UnicodeError:
        return False


def _suggestion(error: flags.UnrecognizedFlagError) -> str:
    first, dot, rest = error.flagname.partition(".")
    if dot and "config" in flags.FLAGS:
        misspelt = difflib.get_close_matches(first, ["config"])
        return f" - did you mean --config.{rest if misspelt else error.flagname}?"
    known, hint = str(error), "Did you mean: "
    return f" - did you mean --{known.partition(hint)[2].rstrip(' ?')}?" if hint in known else " - see --help"


def _describe_flags() -> str:
    by_module = flags.FLAGS.flags_by_module_dict()
    own = [flag for module, group in by_module.items() if not module.startswith("absl") for flag in group]
    return "\n".join(f"  --{flag.name:12} {flag.help}" for flag in sorted(own, key=lambda flag: flag.name))


def _without_controls(text: str) -> str:
    """The lines of a text, each without what would control a terminal."""
    return "\n".join(map(one_line, text.split("\n")))


def _close_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _debugging() -> bool:
    return DEBUG.value if flags.FLAGS.is_parsed() else "--debug" in sys.argv
