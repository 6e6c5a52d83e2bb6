"""The demo's server: uvicorn, with limits of time and number for whoever is connected."""
import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType
from typing import TextIO

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from util.errors import Interrupted, UserError

MOST_CONNECTIONS = 512
HEAD_SECONDS = 10  # for the head of a request
CLIENT_SECONDS = 60  # for its body, and to take each piece of an answer
IDLE_SECONDS = 30  # between two requests
BACKLOG = 64  # connections that are accepted at once
LOG_BYTES, LOG_SECONDS = 2**16, 600  # the most that is written in that time


def most_connections() -> int:
    """Well below the files that the process may have open."""
    try:
        import resource
    except ImportError:  # Windows, which sets no such limit
        return MOST_CONNECTIONS
    return max(16, min(MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 2 * BACKLOG))


class Connection(H11Protocol):
    """A connection that waits for its client for a limited time, and makes room for another one when there are too
    many: who only holds connections open holds up nobody."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._since, self._awaited, self._check = self.loop.time(), None, None
        if len(self.connections) > most_connections():
            waiting = [one for one in self.connections if one.awaits()]
            min(waiting, key=lambda one: one._since, default=self).give_up()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._check.cancel()
        super().connection_lost(exc)

    def awaits(self) -> tuple[object, float] | None:
        """What the client is expected to do, and in how many seconds; None: it is our turn."""
        cycle = self.cycle
        if self.transport.is_closing():
            return "the last bytes taken", HEAD_SECONDS
        if cycle is None or cycle.response_complete:
            is_idle = self.timeout_keep_alive_task is not None  # uvicorn's own, which ends with the first byte
            return (cycle, is_idle), 2 * IDLE_SECONDS if is_idle else HEAD_SECONDS
        if cycle.more_body or self.flow.write_paused:
            return (cycle, cycle.more_body), CLIENT_SECONDS
        return None

    def give_up(self) -> None:
        self.connections.discard(self)
        self.transport.abort()

    def _look(self) -> None:
        now, awaited = self.loop.time(), self.awaits()
        if awaited != self._awaited:
            self._since, self._awaited = now, awaited
        if awaited and now - self._since >= awaited[1]:
            self.give_up()
        self._check = self.loop.call_later(1, self._look)


class Server(uvicorn.Server):
    """Serves an ASGI application on a socket until :func:`stopped_by_signals` stops it."""

    def __init__(self, app: object):
        super().__init__(uvicorn.Config(
            app, http=Connection, ws="none", lifespan="on", loop="asyncio", log_level="error", access_log=False,
            backlog=BACKLOG, server_header=False, timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=2))

    def capture_signals(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()


@contextlib.contextmanager
def stopped_by_signals(servers: list[Server]) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP (not on Windows) end the block by an exception; once there is a server in the
    list, and from the second one on, the process where it is: a picture that is being drawn is worth nothing.

    :raises Interrupted: one came.
    """
    came: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        if len(came) == 1 and not servers:
            raise Interrupted(signum, "the demo ends")
        with contextlib.suppress(OSError, RuntimeError):  # standard error is gone, or being written to just now
            print(f"interrupted by {signal.Signals(signum).name}: the demo ends", file=sys.stderr, flush=True)
        os._exit(128 + signum)

    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """A socket of this address, which no other program can take from now on. :raises UserError: there is none."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); give another --port, or an "
                        "address of this machine") from error


def names_of(host: str) -> set[str]:
    """The names under which a server that listens at ``host`` is reached."""
    machine = socket.gethostname().lower()
    return {"localhost", host.lower(), *([machine, f"{machine}.local", socket.getfqdn().lower()]
                                         if is_for_all(host) else [])}


def is_for_all(host: str) -> bool:
    return host in ("", "0.0.0.0", "::")


def addresses(host: str) -> list[str]:
    """What to type in a browser to reach it: here, and from elsewhere. Nothing is sent to find that."""
    if not is_for_all(host):
        return [f"[{host}]" if ":" in host else host]
    found = socket.gethostname()
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # of documentation: nobody's
        found = probe.getsockname()[0]
    return ["127.0.0.1", found]


class BriefLog:
    """A stream that writes so much in some minutes and no more: what strangers send must not fill a disk."""

    def __init__(self, stream: TextIO):
        self._stream, self._begin, self._left = stream, time.monotonic(), LOG_BYTES

    def write(self, text: str) -> int:
        if time.monotonic() - self._begin > LOG_SECONDS:
            self._begin, self._left = time.monotonic(), LOG_BYTES
        if self._left > 0:
            self._left -= len(text)
            self._stream.write(text)
            if self._left <= 0:
                self._stream.write(f"\n(more is left out for up to {LOG_SECONDS // 60} minutes)\n")
        return len(text)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
