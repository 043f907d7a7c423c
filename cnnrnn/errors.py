"""The ways in which a user's request can fail, each with its exit code.

A message is one line, `what, where - what to do`. `command.run` prints it as `cnnrnn: error: ...`.
"""

import re

# The characters that end a line or control a terminal, the direction of a text among them, and what Python makes of
# bytes that are not UTF-8. The joiners U+200C and U+200D, which several scripts need, are not among them.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def one_line(text: str) -> str:
    r"""The text as one line that cannot control a terminal: `CONTROL` characters are escaped, as in `\n` or `\x1b`."""
    return CONTROL.sub(_escape, text)


def join_lines(text: str) -> str:
    """The text of a library, which may be wrapped, as one line."""
    return one_line(" ".join(text.split()))


class UserError(Exception):
    """Something that the user can fix; never a bug. Subclasses have the exit code of the process."""

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        if self.__context__ is not None:  # the text of a library's error may be a part of this one
            text = text.replace(str(self.__context__), join_lines(str(self.__context__)))
        return one_line(text)


class ConfigError(UserError):
    """A flag, a config file or one of its fields is wrong."""

    exit_code = 2


class DataError(UserError):
    """A data set or a user's file is missing, cannot be read, or is damaged."""

    exit_code = 3


class CheckpointError(UserError):
    """No checkpoint in the working directory can be restored."""

    exit_code = 4


class NumericalError(UserError):
    """A loss or a parameter is not finite."""

    exit_code = 5


class WorkdirError(UserError):
    """The working directory cannot be used: not writable, in use, full, or another run's."""

    exit_code = 6


class Interrupted(UserError):
    """A signal stopped the run, which has saved itself; the same command continues it (EX_TEMPFAIL)."""

    exit_code = 75


def _escape(control: re.Match) -> str:
    code = ord(control[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return control[0].encode("unicode_escape").decode()
