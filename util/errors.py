"""Errors that the user can mend, and how every command reports them.

A :class:`UserError` carries one line: the file or option, what was found, and what to do. Commands print that
line and end with exit status 2; a traceback means a defect of this project.
"""
import functools
import sys
from collections.abc import Callable

_WORKER_PREFIX = "Caught UserError in DataLoader worker"


class UserError(Exception):
    """Something the user can mend, said in one line."""

    def __init__(self, message: str):
        if message.startswith(_WORKER_PREFIX):  # a data-loading worker wraps the line in its traceback
            message = message.rstrip().rsplit("UserError: ", 1)[-1]
        super().__init__(" ".join(message.split()))


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate the ``main`` of a command: user errors become one line on stderr and exit status 2."""

    @functools.wraps(main)
    def run() -> None:
        try:
            main()
        except UserError as error:
            sys.exit(_report(f"error: {error}", 2))
        except KeyboardInterrupt:
            sys.exit(_report("interrupted", 130))

    return run


def _report(line: str, status: int) -> int:
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    return status
