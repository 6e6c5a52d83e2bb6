"""The same work on many items, on all cores, with a progress bar. It ends at once on Ctrl-C and on SIGTERM."""
import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from tqdm import tqdm

from util.errors import UserError
from util.progress import progress

Item = TypeVar("Item")
Result = TypeVar("Result")
POLL = 0.1  # seconds between two looks whether a signal has come
GRACE = 2.0  # seconds to finish what is begun, when all is to end


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_parallel(work: Callable[[Item], Result], items: Sequence[Item], workers: int, what: str,
                 unit: str) -> list[Result]:
    """``[work(item) for item in items]``, by at most ``workers`` processes; one works in this process.

    The first failure ends it all: work that is not begun is dropped, work that is begun comes to its end. So do Ctrl-C
    and SIGTERM, but work that takes longer than ``GRACE`` is broken off, and the command is expected to end: from then
    on these signals are ignored. Workers whose parent was killed finish what they have begun, and end.

    :param work: a function of a module, or a :func:`functools.partial` of one.
    :param what: shown beside the progress bar.
    :raises UserError: that of the first item, in their order, that fails; or a process was killed.
    :raises KeyboardInterrupt: on Ctrl-C.
    :raises SystemExit: on SIGTERM, after a line on stderr; with the status that shells give to it, 143.
    """
    workers = min(workers, len(items))
    show = functools.partial(progress, total=len(items), doing=what, unit=unit)
    with _interruptible(alone=workers <= 1) as check:
        if workers > 1:
            return _share_out(work, items, workers, show, check)
        results = []
        with show() as bar:  # closed before an error is reported
            for item in items:
                try:
                    results.append(work(item))
                except MemoryError as error:
                    raise _no_memory(error) from error
                bar.update()
                check()
        return results


@contextlib.contextmanager
def _interruptible(alone: bool) -> Iterator[Callable[[], None]]:
    """Note SIGINT and SIGTERM instead of acting on them; yield a function that raises if one was noted. An exception in
    the middle of anything leaves half-written files and forgotten workers. This one comes where it is asked for.

    :param alone: the work is done in this process. If nobody asks for ``GRACE`` seconds, the exception comes by itself.
    """
    caught: list[int] = []
    has_timer = hasattr(signal, "setitimer")  # not on Windows: there, what takes long is waited for

    def check(*_: object) -> None:
        if caught:
            raise KeyboardInterrupt

    def note(number: int, frame: object) -> None:
        if alone and not caught and has_timer:
            signal.setitimer(signal.ITIMER_REAL, GRACE)
        caught.append(number)

    noted = ()
    if threading.current_thread() is threading.main_thread():  # no other thread can set handlers
        noted = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, note) for number in noted}
    if noted and alone and has_timer:
        handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, check)
    try:
        yield check
        check()
    except KeyboardInterrupt:
        handlers |= dict.fromkeys(noted, signal.SIG_IGN)  # pressed again, it must not disturb the end
        if caught[:1] != [signal.SIGTERM]:
            raise
        print("interrupted", file=sys.stderr, flush=True)
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        if caught and alone and has_timer:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _share_out(work: Callable[[Item], Result], items: Sequence[Item], workers: int, show: Callable[[], tqdm],
               check: Callable[[], None]) -> list[Result]:
    """The results of all items; each worker is given the next item when it has finished one.

    ``concurrent.futures.ProcessPoolExecutor`` would not do: before Python 3.14 it cannot kill workers that take too
    long, Ctrl-C reaches its workers too, and they wait forever for a parent that was killed.
    """
    pool: dict[Connection, multiprocessing.Process] = {}
    numbers = iter(range(len(items)))
    underway: dict[Connection, int] = {}
    results: dict[int, Result] = {}
    errors: dict[int, Exception] = {}

    def give(pipe: Connection) -> None:
        number = None if errors else next(numbers, None)
        if number is not None:
            underway[pipe] = number
            pipe.send((items[number],))

    try:
        for _ in range(workers):
            ours, theirs = multiprocessing.Pipe()
            pool[ours] = multiprocessing.Process(target=_serve, args=(work, theirs))
            pool[ours].start()
            theirs.close()  # so that ours says when the worker is gone
        with show() as bar:  # after the workers: its thread must not be forked
            for pipe in pool:
                give(pipe)
            while underway:
                for pipe in wait(list(underway), timeout=POLL):
                    result, error = pipe.recv()
                    number = underway.pop(pipe)
                    if error is None:
                        results[number] = result
                    else:
                        errors[number] = error
                    bar.update()
                    give(pipe)
                check()
    except (EOFError, OSError) as error:
        check()  # a signal can have been the cause
        raise UserError(f"--workers {workers}: a process was killed, perhaps for lack of memory; try --workers "
                        f"{max(1, workers // 2)}") from error
    finally:
        _end(pool)
    if errors:
        raise errors[min(errors)]  # items are begun in their order: all before this one have succeeded
    return [results[number] for number in range(len(items))]


def run_ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int = 2) -> Iterator[Result]:
    """``map(work, items)`` by threads of this process, each of which works on ``ahead`` items more than were asked for.

    The first failure ends it all, as does the end of the iteration: work that is not begun is dropped, and work that is
    begun comes to its end. Items are made in this thread.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead * threads:  # enough for none to be idle, and few enough to bound the memory
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end(pool: dict[Connection, multiprocessing.Process]) -> None:
    """Let the workers finish what they have begun, and kill those that take too long."""
    started = {pipe: process for pipe, process in pool.items() if process.pid}
    for pipe in started:
        with contextlib.suppress(OSError):  # it is gone already
            pipe.send(None)
    end = time.monotonic() + GRACE
    for process in started.values():
        process.join(max(0, end - time.monotonic()))
        process.kill()
        process.join()


def _serve(work: Callable[[Item], Result], pipe: Connection) -> None:
    """What a worker does: work on the items that come, until None comes or the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they may reach all processes; what they mean is up to the parent
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process().sentinel
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while parent not in wait([pipe, parent]) and (message := pipe.recv()):
            pipe.send(_attempt(work, *message))


def _attempt(work: Callable[[Item], Result], item: Item) -> tuple[Result | None, Exception | None]:
    try:
        return work(item), None
    except UserError as error:
        return None, error
    except MemoryError as error:
        return None, _no_memory(error)
    except Exception:  # a defect: other exceptions may not be fit to be sent
        return None, RuntimeError(f"in a worker:\n{traceback.format_exc()}")


def _no_memory(error: MemoryError) -> UserError:
    return UserError(f"out of memory ({str(error)[:160] or 'MemoryError'}); give a smaller --workers, or remove the "
                     "largest pictures")
