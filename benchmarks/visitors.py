"""How the demo holds when many come at once, and some of them mean it no good:

    python -m benchmarks.visitors                     # 20 visitors, 1000 clicks, in at most four minutes
    python -m benchmarks.visitors --flooders 1 --idlers 700

Starts demo.py here, and lets every visitor click on an instance as soon as the last picture has come; a flooder asks
for 16 pictures at once, again and again; an idler opens a connection and sends half a request. Prints the seconds from
click to picture, how requests ended, and the memory of the server after every tenth of the clicks.
"""
import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from util.arguments import ArgumentParser, integer
from util.errors import UserError, command

ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def demo(*args: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run demo.py on a free port; yield its host and port, and the process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "demo.py", "--port", str(port), "--seed", "0", *args], cwd=ROOT,
                               text=True, stdout=subprocess.PIPE, env={**os.environ, **environment})
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("open http"):
                break
        else:
            raise UserError(f"demo.py did not start: {''.join(lines)}")
        yield f"127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Visitor:
    """A visitor without a browser: what the page's script sends, and what comes back.

    :param source: address that the connection comes from.
    """

    def __init__(self, host: str, name: str, source: str = "127.0.0.1"):
        self.host, self.name, self.source = host, name, source
        status, page = self.request("GET", "/")
        assert status == 200, page
        config = json.loads(re.search(rb"window\.gradio_config = (.*?);</script>", page)[1])
        names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        self.events = {(names.get(target), event): (each["id"], target) for each in config["dependencies"]
                       for target, event in each["targets"]}

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=120, source_address=(self.source, 0))
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def do(self, part: str | None, event: str, said: Any = None, data: list | None = None) -> tuple[int, list]:
        """Let an event happen in a part of the page; the status, and what the parts show then."""
        function, target = self.events[part, event]
        body = {"data": data or [], "event_data": said, "fn_index": function, "trigger_id": target,
                "session_hash": self.name}
        status, answer = self.request("POST", "/gradio_api/run/predict", json.dumps(body).encode(),
                                      **{"Content-Type": "application/json"})
        return status, json.loads(answer).get("data", []) if status == 200 else []

    def look(self) -> list:
        return self.do(None, "load")[1]

    def click(self, instance: int) -> tuple[int, list]:
        return self.do("stage", "act", {"act": "resample", "instance": instance})


def memory(process: int) -> float:
    """MB that a process has in memory."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[1]) / 1024


def load(host: str, process: int, visitors: int, clicks: int, flooders: int = 0, idlers: int = 0,
         seconds: float = 240) -> dict[str, Any]:
    """Let them all come, for at most so many seconds; what was measured."""
    end, count, lock = time.monotonic() + seconds, iter(range(clicks)), threading.Lock()
    times, statuses, marks = [], Counter(), []
    over = threading.Event()

    def visit(n: int) -> None:
        visitor = Visitor(host, f"visitor{n}", f"127.0.2.{n + 1}")
        instance = visitor.look()[0]["instances"][0]["id"]
        while time.monotonic() < end:
            with lock:
                if next(count, None) is None:
                    return
            start = time.monotonic()
            status, _ = visitor.click(instance)
            with lock:
                times.append(time.monotonic() - start)
                statuses[status] += 1
                if len(times) % max(clicks // 10, 1) == 0:
                    marks.append(round(memory(process)))

    def flood(n: int) -> None:
        visitor = Visitor(host, f"flooder{n}", f"127.0.1.{n + 1}")
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _ = visitor.click(0)
                with lock:
                    statuses[f"flooder {status}"] += 1

    held = []
    for _ in range(idlers):
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(tuple(host.split(":")), timeout=5))
            held[-1].sendall(b"POST /gradio_api/run/predict HTTP/1.1\r\nHost: localhost\r\n")
    threads = [threading.Thread(target=visit, args=(n,)) for n in range(visitors)]
    others = [threading.Thread(target=flood, args=(n,)) for n in range(flooders) for _ in range(16)]
    start = time.monotonic()
    for thread in (*others, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    for thread in others:
        thread.join()
    for one in held:
        one.close()
    ordered = sorted(times)
    return {"clicks": len(times), "clicks per second": len(times) / (time.monotonic() - start),
            "median s": statistics.median(times), "95% s": ordered[int(0.95 * len(ordered))],
            "statuses": dict(statuses), "MB": marks}


def parse() -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("visitors", 20), ("clicks", 1000), ("flooders", 0), ("idlers", 0), ("seconds", 240)):
        parser.add_argument(f"--{name}", type=integer(0 if default == 0 else 1), default=default)
    return parser.parse_args()


@command
def main() -> None:
    args = parse()
    with demo() as (host, process):
        found = load(host, process.pid, args.visitors, args.clicks, args.flooders, args.idlers, args.seconds)
    for name, value in found.items():
        print(f"{name}: {value:.2f}" if isinstance(value, float) else f"{name}: {value}")


if __name__ == "__main__":
    main()
