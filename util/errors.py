"""Errors that the user can mend, and how every command reports them.

A :class:`UserError` carries one line: the file or option, what was found, and what to do. Commands print that line and
end with exit status 2. What the system refuses (files, memory, processes) becomes such a line too, at one place:
:func:`in_one_line`. A traceback means a defect of this project.
"""
import contextlib
import functools
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence

from util import progress

# what PyTorch says of a full disk or shared memory; of processes and threads; of a device that fails
_DISK = "No space left|unable to (open|write|mmap|resize)|inline_container|PytorchStreamWriter|file write failed"
_MEMORY = "out of memory|not enough memory|[Uu]nable to allocate|[Cc](an't|annot) allocate memory|ALLOC_FAILED"
_PROCESSES = "can't start new thread|Too many open files|ancdata|Resource temporarily unavailable"
_DEVICE = "CUDA error: .*(busy|unavailable|ECC|launch timed out|launch failure|no CUDA-capable)|CUDA driver"
_first_to_fail: Callable[[], bool] | None = None  # see let_report
_said: set[str] = set()  # see say_once


class UserError(Exception):
    """Something the user can mend, said in one line."""

    def __init__(self, message: str):
        super().__init__(_line(message))


class Interrupted(Exception):
    """The run was asked to stop by a signal, and everything is saved; ``message`` is one line."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum = signum


def say_once(what: str, line: str) -> None:
    """Print ``line`` unless this process has done so for ``what``: for what holds for many files."""
    if what not in _said:
        _said.add(what)
        print(f"note: {printable(line)}", flush=True)


def printable(text: str) -> str:
    """``text`` without what no terminal can show: bytes of file names that are not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def shortened(names: Sequence[str], shown: int, comma: str = "", what: str = "") -> str:
    """The first of some names, and how many more (``what``) there are: ``a, b and 3 more``."""
    more = f"{comma} and {len(names) - shown} more{what}" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _line(message: str) -> str:
    """``message`` in one line. That of a data-loading process comes wrapped in its traceback, whose end it is."""
    if wrapped := re.match(r"Caught (\w+) in DataLoader worker", message):
        message = re.split(rf"^[\w.]*{wrapped[1]}:? ?", message, flags=re.MULTILINE)[-1]
    return " ".join(printable(message).split())


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate the ``main`` of a command: errors that the user can mend become one line on stderr and exit status 2;
    a signal becomes 128 and its number."""

    @functools.wraps(main)
    def run() -> None:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by whoever started the command
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (until the end)
            if hasattr(stream := getattr(sys, name), "reconfigure"):  # names that are not UTF-8 come with escapes
                stream.reconfigure(errors="backslashreplace")
        progress.begin()
        try:
            main()
            sys.stdout.flush()
        except UserError as error:
            _end(f"error: {error}", 2)
        except Interrupted as error:
            _end(f"interrupted by {signal.Signals(error.signum).name}: {error}", 128 + error.signum)
        except KeyboardInterrupt:
            _end("interrupted", 128 + signal.SIGINT)
        except Exception as error:
            line = in_one_line(error)
            if line is None and reports():
                raise
            _end(f"error: {line}", 2)

    return run


def beforehand(check: Callable[[], object]) -> None:
    """Run a check of the command line, before PyTorch is imported, which takes seconds; what is wrong ends the command.
    Of several processes none does so here: they have to agree on which one reports."""
    if not several_processes():
        command(check)()


def in_one_line(error: BaseException) -> str | None:
    """What the user can do about what the system refused; None if the error is no such thing."""
    text = _line(str(error))
    brief = text[:160] or type(error).__name__
    if isinstance(error, BrokenPipeError):
        return "standard output was closed too early; files that were written are complete"
    if isinstance(error, OSError):
        if isinstance(error.filename, str | bytes):
            place = printable(os.fsdecode(error.filename))
            return f"{place}: {error.strerror or brief}; check the disk, the path and its permissions"
        return (f"{error.strerror or brief}; check the disk, where standard output goes, and the limits of processes "
                "and open files (ulimit -a)")
    if isinstance(error, MemoryError) or re.search(_MEMORY, text):
        return (f"out of memory ({brief}); reduce --batchSize, --crop_size, --ngf or another size, or give --use_amp")
    if "DataLoader worker" in text and re.search("exited unexpectedly|killed by signal", text):
        return (f"a data-loading process was killed, perhaps for lack of memory ({brief}); give a smaller --nThreads, "
                "and continue training with --continue_train")
    if isinstance(error, RuntimeError):
        if re.search(_DISK, text):
            return f"{brief}; is the disk full, or /dev/shm, which data-loading processes use? Try --nThreads 0"
        if re.search(_PROCESSES, text):
            return f"{brief}; give a smaller --nThreads, or raise the limits (ulimit -a)"
        if re.search(_DEVICE, text):
            return f"{brief}; the GPU is in use, or defective: try another one with --gpu_ids"
    return None


def several_processes() -> bool:
    """Whether a launcher started this command several times, as one run."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def reports() -> bool:
    """Whether this process is to say why it ends: of several processes of one run, the first to fail does."""
    return not several_processes() or _first_to_fail is None or _first_to_fail()


def let_report(first_to_fail: Callable[[], bool]) -> None:
    """Let ``first_to_fail`` say whether this process is the first of several that ends with an error."""
    global _first_to_fail
    _first_to_fail = first_to_fail


def _end(line: str, status: int) -> None:
    """Report, and exit even where standard output is gone."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if reports():
        start = "\n" if several_processes() else ""  # another process may be in the middle of a line
        with contextlib.suppress(OSError, ValueError):
            print(f"{start}{line}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):  # the interpreter would fail to flush it once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(status)
