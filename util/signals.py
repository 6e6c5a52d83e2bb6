"""Signals that ask a run to stop, and the lock that keeps two runs out of one folder."""
import contextlib
import os
import signal
import time
from types import FrameType

from util import distributed

_SAME_SIGNAL = 5.0  # seconds in which torchrun passes a signal on
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # USR1: Slurm's warning before a time limit


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
