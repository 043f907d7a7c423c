"""The few ways in which a run can be refused, each with its exit code.

A refusal is one line, `cnnrnn: error: what, where - what to do`: whoever raises one writes that sentence, and
`command.run` prints it.
"""


class Refusal(Exception):
    """Something the user can mend; never a bug. Subclasses carry the exit code of the process."""

    exit_code = 1

    def __str__(self) -> str:
        return " ".join(super().__str__().split())  # one line, whatever a library's message looked like


class ConfigError(Refusal):
    """A flag, a config file or one of its fields is wrong."""

    exit_code = 2


class DataError(Refusal):
    """A data set or a user's own file cannot be had, read or believed."""

    exit_code = 3


class CheckpointError(Refusal):
    """No checkpoint in the working directory can be restored."""

    exit_code = 4


class NumericalError(Refusal):
    """A loss or a parameter is no longer a finite number."""

    exit_code = 5


class WorkdirError(Refusal):
    """The working directory cannot be used: not writable, in use, full, or another run's."""

    exit_code = 6


class Interrupted(Refusal):
    """The run was told to stop and has saved itself; the same command continues it (EX_TEMPFAIL)."""

    exit_code = 75
