"""Signals that ask a run to stop."""
import contextlib
import os
import signal
import threading
import time
from types import FrameType

from util import distributed

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
        self._wakeup = -1

    def __enter__(self) -> "StopRequest":
        alone = distributed.world_size() == 1
        if not alone:  # Python's handlers do not run while this process waits for the others
            self._listen()
        handle = self._handle if alone else lambda *_: None
        self._before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._wakeup >= 0:
            signal.set_wakeup_fd(-1)
            os.close(self._wakeup)  # which ends the thread

    def _listen(self) -> None:
        """Let a thread handle signals, whose numbers the system's own handler writes to a pipe."""
        reader, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)

        def listen() -> None:
            with os.fdopen(reader, "rb", buffering=0) as numbers:
                while number := numbers.read(1):
                    if number[0] in STOP_SIGNALS:
                        self._handle(number[0], None)

        threading.Thread(target=listen, daemon=True).start()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            if distributed.world_size() == 1 or time.monotonic() > self._at + _SAME_SIGNAL:
                os._exit(128 + signum)
            return
        self.signum, self._at = signum, time.monotonic()
        if distributed.is_main():
            with contextlib.suppress(OSError):  # a run whose terminal is gone still saves
                os.write(2, b"\nstopping after this step; a second signal stops at once\n")


def leave_signals_to_the_parent(*_: object) -> None:
    """In a process that helps another one: the other decides when to stop."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
