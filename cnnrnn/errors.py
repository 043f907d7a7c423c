"""The ways in which a user's request can fail, each with its exit code.

A message is one line, `what, where - what to do`. `command.run` prints it as `cnnrnn: error: ...`.
"""


class UserError(Exception):
    """Something that the user can fix; never a bug. Subclasses have the exit code of the process."""

    exit_code = 1

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # one line, also around a library's message


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
