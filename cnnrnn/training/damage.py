"""Tells a damaged checkpoint from a disk, a network or a machine in trouble, by the error of reading it."""

import re
from errno import EISDIR, ENOENT, ENOTDIR

# the errors of the system, and the status at the start of an error of TensorStore, that damage causes
DAMAGE_ERRNO = (ENOENT, ENOTDIR, EISDIR)
DAMAGE_STATUS = ("DATA_LOSS", "NOT_FOUND", "OUT_OF_RANGE", "INVALID_ARGUMENT", "FAILED_PRECONDITION")


def find_trouble(error: BaseException) -> BaseException | None:
    """The error of a disk, a network or a machine that an error of reading was raised from.

    Args:
      error: of Orbax.

    Returns:
      The error or one of its causes; None if the checkpoint is damaged: files are missing or have another content.
    """
    return next(filter(_is_trouble, _causes(error)), None)


def first_line(error: BaseException) -> str:
    """The first line of a message that may have hundreds: its start and its end, where TensorStore has the reason."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    line = re.split(r" \[\w+='", line)[0]  # [tensorstore_spec='...']
    return line if len(line) <= 200 else f"{line[:60]} ... {line[-135:]}"


def _is_trouble(error: BaseException) -> bool:
    """Whether an error is one of the disk, the network or the machine."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore writes it into the text
    number = int(code[1]) if code else getattr(error, "errno", None)
    if isinstance(error, (MemoryError, TimeoutError)) or (number is not None and number not in DAMAGE_ERRNO):
        return True
    status = re.match(r"([A-Z_]+): ", str(error))
    return status is not None and status[1] not in DAMAGE_STATUS


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and those that it was raised from."""
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
