"""How a command is started as one to N processes, and what the environment says of this one. Options need this, so that
PyTorch, which takes seconds to import, is not: what the processes tell each other is in :mod:`util.distributed`."""
import logging
import os
import sys

from util.errors import UserError

WAIT_MINUTES = 60  # for other processes, e.g. the first one when it saves; one that died is noticed at once


def device_ids(option: str, text: str) -> list[int]:
    """The numbers of the CUDA devices that a text names, a process for each. -1 is the CPU, also for no text at all,
    and stands for "mps", which is one device.

    :raises UserError: not such numbers.
    """
    if text == "mps":
        return [-1]
    try:
        ids = [max(int(part), -1) for part in text.split(",") if part.strip()] or [-1]
    except ValueError as error:
        raise UserError(f"{option} {text}: not the number of a CUDA device; use e.g. 0, or -1 for the CPU") from error
    if set(ids) != {-1} and (-1 in ids or len(set(ids)) < len(ids)):
        raise UserError(f"{option} {text}: name each CUDA device once, or use -1 for the CPU")
    return ids


def launched() -> int | None:
    """How many processes torchrun started; None without it."""
    return int(os.environ["WORLD_SIZE"]) if "WORLD_SIZE" in os.environ and "RANK" in os.environ else None


def number() -> int:
    """The number that torchrun gave this process: its rank, once it has joined the others."""
    return int(os.environ.get("RANK", 0)) if launched() else 0


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", 0))


def local_world_size() -> int:
    """How many processes there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def restarts() -> int:
    """How often torchrun started the processes anew because one of them died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def launch_id() -> str | None:
    """The ``--rdzv-id`` of torchrun, the same after restarts; None without torchrun. Where it is not given,
    ``--standalone`` (in newer versions any start on one machine) makes a new one; else it is always "none"."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def launch(count: int) -> None:
    """Run this command in ``count`` processes on this machine and end with their status. Comes back for one process,
    and in the processes themselves."""
    if count == 1 or launched():
        return
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun's own default, without its warning
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # the processes report for themselves
    try:
        run(parse_args(["--standalone", f"--nproc_per_node={count}",
                        "--signals_to_handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1", *sys.argv]))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        sys.exit(status if status > 0 else 128 - status)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    sys.exit(0)
