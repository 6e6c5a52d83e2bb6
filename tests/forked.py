"""Commands of the project, each in a fork of one process that has imported the large libraries: importing them takes
longer than most commands on small data.

All else is as when a terminal starts them: arguments, environment, output, process group, the project's own modules,
and how Python ends. :class:`Command` is for tests; what follows it runs in that process.
"""
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("dominate", "PIL.Image", "scipy.ndimage", "torch._dynamo", "torchvision", "tqdm")


class Command:
    """A command that runs, with what tests need of ``subprocess.Popen``.

    :param args: ``"train.py", "--name", ...``, ``"-m module", ...`` or ``"-c", "lines of Python", ...``.
    :param timeout: seconds after which it is ended.
    :param environ: more variables of its environment.
    """

    def __init__(self, *args: object, cwd: Path = ROOT, timeout: float = 300, **environ: str):
        self.args = [str(arg) for arg in args]
        self._output = [tempfile.NamedTemporaryFile("r", errors="replace") for _ in range(2)]  # noqa: SIM115
        self.pid = _ask(args=self.args, cwd=str(cwd), env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
                        output=[file.name for file in self._output], timeout=timeout,
                        memory=resource.getrlimit(resource.RLIMIT_DATA))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask(pid=self.pid, options=os.WNOHANG)
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        if timeout is not None:
            self.wait(timeout)
        elif self.returncode is None:
            self.returncode = _ask(pid=self.pid, options=0)
        out, err = (file.read() for file in self._output)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@cache
def _server() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "tests.forked"], cwd=ROOT, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)


def _ask(**request: object) -> int | None:
    print(json.dumps(request), file=_server().stdin, flush=True)
    return json.loads(_server().stdout.readline())


# ---- the process that forks ----

def main() -> None:
    """Start commands, and say how they ended: for each line of JSON on standard input, one on standard output."""
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # collecting garbage in a fork would copy all memory
    for line in sys.stdin:
        request = json.loads(line)
        if "args" in request:
            answer = os.fork()
            if not answer:
                return become(**request)
        else:
            pid, status = os.waitpid(request["pid"], request["options"])
            answer = os.waitstatus_to_exitcode(status) if pid else None
        print(json.dumps(answer), flush=True)


def become(args: list[str], cwd: str, env: dict[str, str], output: list[str], timeout: float,
           memory: tuple[int, int]) -> None:
    """Let this process be the command ``python *args``; :param output: where its two streams go."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let what runs in the background ignore it,
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this one
    signal.setitimer(signal.ITIMER_REAL, timeout)  # its signal ends a process
    resource.setrlimit(resource.RLIMIT_DATA, memory)
    for number, path in enumerate([os.devnull, *output]):
        os.dup2(os.open(path, os.O_WRONLY if number else os.O_RDONLY), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # it may be another one there
    sys.path[1:1] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    what, *rest = args
    if what.startswith("-m "):
        sys.argv, sys.path[0] = ["-m", *rest], cwd
        runpy.run_module(what[3:], run_name="__main__", alter_sys=True)
    elif what == "-c":
        sys.argv, sys.path[0] = ["-c", *rest[1:]], ""
        sys.modules["__main__"] = module = ModuleType("__main__")
        exec(rest[0], module.__dict__)
    else:
        script = ROOT / what
        sys.argv, sys.path[0] = [str(script), *rest], str(script.parent)
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
