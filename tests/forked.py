"""Runs commands of the project, each in a fork of this process, which has imported the large libraries: that takes
longer than most commands on small data.

All else is as when a shell starts them: arguments, environment, output, the project's own modules, and how Python ends.
A request is a line of JSON on standard input; the answer is the exit status: ``tests.conftest.run_command`` asks.
"""
import gc
import importlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path

LIBRARIES = ("dominate", "PIL.Image", "scipy.ndimage", "torch._dynamo", "torchvision", "tqdm")


def main() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # collecting garbage in a fork would copy all memory
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            return become(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def become(args: list[str], cwd: str, env: dict[str, str], output: list[str], timeout: float) -> None:
    """Let this process be the command ``python *args``; :param output: where its two streams go."""
    signal.setitimer(signal.ITIMER_REAL, timeout)  # its signal ends a process
    for number, path in enumerate([os.devnull, *output]):
        os.dup2(os.open(path, os.O_WRONLY if number else os.O_RDONLY), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[1:1] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    if args[0] == "-m":
        sys.argv, sys.path[0] = args[1:], cwd
        runpy.run_module(args[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = args, str(Path(args[0]).parent)
        runpy.run_path(args[0], run_name="__main__")


if __name__ == "__main__":
    main()
