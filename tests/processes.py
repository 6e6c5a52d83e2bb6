"""Commands that are interrupted."""
import os
import signal
import subprocess
import sys
import time

import numpy as np

from tests.conftest import ROOT


def start(*args: object) -> subprocess.Popen:
    """Run a command of the project as a terminal does: in a process group of its own, which Ctrl-C reaches."""
    return subprocess.Popen([sys.executable, *map(str, args)], cwd=ROOT, start_new_session=True, text=True,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def wait_until_gone(group: int, seconds: float = 20) -> None:
    """Wait for the workers of a killed command to end by themselves."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("workers outlive the command")


def end_by(process: subprocess.Popen, number: int, times: int, group: bool, random: np.random.Generator) -> str:
    """Send a signal, at random moments if several times; what the command, which must end soon, says on stderr."""
    for _ in range(times):
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
            time.sleep(random.choice([0, 0.0005, 0.005, 0.05]) * random.random())
    try:
        said = process.communicate(timeout=10)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    wait_until_gone(process.pid, seconds=5)
    return said
