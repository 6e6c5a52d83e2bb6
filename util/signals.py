"""Signals that ask a run to stop, and the lock that keeps two runs out of one folder."""
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from util import distributed
from util.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_SAME_SIGNAL = 5.0  # seconds in which torchrun passes a signal on
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1")  # USR1: Slurm's warning before
                     if hasattr(signal, name))  # a time limit


class StopRequest:
    """Whether a signal asked this process to stop. The run finishes its step, saves, and ends.

    A second signal ends the process at once, wherever it is. That does no harm to what is saved: files are replaced as
    a whole. Where torchrun started several processes, it may pass on a signal that they got already: there, a second
    one counts after some seconds only. Use as a context; afterwards signals do what they did before.
    """

    def __init__(self):
        self.signum: int | None = None
        self._at = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._handle) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            if distributed.world_size() == 1 or time.monotonic() > self._at + _SAME_SIGNAL:
                os._exit(128 + signum)
            return
        self.signum, self._at = signum, time.monotonic()
        if distributed.is_main():
            with contextlib.suppress(OSError):  # a run whose terminal is gone still saves
                os.write(2, b"\nstopping after this step; a second signal stops at once\n")


def leave_signals_to_the_parent() -> None:
    """In a process that helps another one: the other decides when to stop."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def exclusive(folder: str) -> Iterator[None]:
    """Hold the lock of ``folder``, which is made. The system lets go of it however this process ends.

    :raises UserError: another process holds it.
    """
    path = os.path.join(folder, ".lock")
    try:
        os.makedirs(folder, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # commands that are started do not get it
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); check --checkpoints_dir and its "
                        "permissions") from error
    held = [handle]

    def let_go() -> None:  # a process that is forked meanwhile must not hold the lock when this one is gone
        while held:
            os.close(held.pop())

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=let_go)
    try:
        try:
            if fcntl is None:
                raise OSError("no locks")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another run is training here; wait for its end, or give another --name"
                            ) from error
        except OSError:
            print(f"{folder}: its file system has no locks, or the system none that are known here; make sure that no "
                  "other run trains here")
        yield
    finally:
        held.clear()  # the number may become that of another file
        os.close(handle)
