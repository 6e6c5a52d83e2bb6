"""Memory on the CPU."""
import contextlib
import ctypes
import os

import torch

from util.errors import say_once

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8  # of glibc's malloc.h


def limit_memory(device: torch.device) -> None:
    """Let the system refuse memory that the machine does not have, which is an error that can be reported. Otherwise it
    grants it, and kills this process, or another one, when it is used.

    With a GPU nothing is limited: its driver reserves more than it uses, and reports itself what it cannot have.
    """
    if device.type != "cpu":
        return
    try:
        import resource
    except ImportError:  # Windows
        say_once("limits", "this system cannot limit memory; if it runs out, the system decides which process ends")
        return
    with contextlib.suppress(OSError, ValueError):
        limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = min(limit, int(file.read()))  # of a container; it may also be "max"
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        least = min(value for value in (soft, hard, limit * 19 // 20) if value != resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_DATA, (least, hard))


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next tensor of this process.

    By default it hands large blocks back to the system and fetches them anew, page by page, for every layer of every
    step. Where there is no glibc, nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
        libc.mallopt(_M_TOP_PAD, 2**26)


def share_one_heap() -> None:
    """Let the threads of this process share one heap of glibc's. By default most get one of their own, and what
    :func:`keep_freed_memory` keeps there is of no use to the others: a server with many threads grows and grows.

    To be called before there are such threads.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)
