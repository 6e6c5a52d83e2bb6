"""The same work on many items, on all cores, with a progress bar."""
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from util.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_parallel(work: Callable[[Item], Result], items: Sequence[Item], workers: int, what: str,
                 unit: str) -> list[Result]:
    """``[work(item) for item in items]``, by at most ``workers`` processes; one works in this process.

    The first failure ends it all: work that is not begun is dropped, work that is begun comes to its end. Processes
    whose parent was killed end by themselves.

    :param work: a function of a module, or a :func:`functools.partial` of one.
    :param what: shown beside the progress bar, which appears on terminals only.
    :raises UserError: that of the first item, in their order, that fails; or a process was killed.
    """
    show = {"total": len(items), "desc": what, "unit": unit, "disable": None}
    workers = min(workers, len(items))
    if workers <= 1:
        with tqdm(items, **show) as bar:  # closed before an error is reported
            return [work(item) for item in bar]
    try:
        with (ProcessPoolExecutor(workers, initializer=_start_worker) as pool,
              tqdm(pool.map(work, items), **show) as bar):
            return list(bar)
    except BrokenProcessPool as error:
        raise UserError(f"--workers {workers}: a process was killed, perhaps for want of memory; "
                        f"try --workers {max(1, workers // 2)}") from error


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent drops what is not begun, and reports
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
