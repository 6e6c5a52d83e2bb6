"""Trying commands with faults: in this process, which is quick, and ways to damage files and values."""
import contextlib
import copy
import io
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch

SECONDS = 30  # after which a try hangs

# what users, scripts and damaged files give as values
NASTY = ("", "0", "-1", "1", "2", "7", "1e-320", "1e308", "nan", "inf", "-inf", "1" + "0" * 18, "1" + "0" * 30,
         "9" * 5000, "2147483648", "65536", "16384", "32768", "1000000000", "٣", "²", "1_0", " 5", "0x10", "/dev/null",
         "/dev/zero", "/proc/self/mem", "../../x", "\udcff\udcfe", "a\nb", "a\0b", "x" * 300, "x" * 5000, "None",
         "True", "/", ".", "--lr", "=")
_OBJECTS = (None, "x", -1, 0, 10**30, 2**63, 2.5, float("nan"), float("inf"), True, [], {}, {"a": 1}, (1, 2), "a\0b",
            b"x", torch.zeros(0), torch.zeros(3), torch.zeros(1).expand(10**12), torch.zeros(3).to_sparse(),
            torch.tensor(5), torch.zeros(3, dtype=torch.complex64), torch.tensor(float("nan")),
            torch.zeros(3, device="meta"), torch.zeros(5056, dtype=torch.uint8))


class Outcome(NamedTuple):
    status: int
    lines: list[str]  # that begin with "error: "
    errors: str
    output: str


class Hangs(BaseException):
    """Not an Exception: nothing is to take it for an error of the command."""


def attempt(command: ModuleType, *args: object) -> Outcome:
    """Run the ``main`` of a command, as with these arguments.

    It must end within :data:`SECONDS`, with status 0, or 2 and one line that begins with "error: "; a traceback is
    raised as it is.
    """
    def hang(*_: Any) -> None:
        raise Hangs

    output, errors, status = io.StringIO(), io.StringIO(), 0
    before, sys.argv = sys.argv, [f"{command.__name__}.py", *map(str, args)]
    handler = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            command.main()
    except SystemExit as end:
        status = end.code
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        sys.argv = before
    lines = [line for line in errors.getvalue().splitlines() if line.startswith("error: ")]
    assert (status, len(lines)) in ((0, 0), (2, 1)), errors.getvalue()
    assert "Traceback" not in errors.getvalue()
    return Outcome(status, lines, errors.getvalue(), output.getvalue())


def damaged(content: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """``content`` with flipped bits, a hole, no end, something put in or left out, or another file's."""
    kind, place = rng.randrange(7), rng.randrange(len(content))
    if kind == 0:
        flipped = bytearray(content)
        for _ in range(rng.choice((1, 1, 3))):
            flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        return bytes(flipped)
    if kind == 1:
        return content[:place]
    if kind == 2:
        hole = content[place:place + rng.choice((1, 16, 512, 4096))]
        return content[:place] + bytes(len(hole)) + content[place + len(hole):]
    if kind == 3:
        return rng.choice(others)
    if kind == 4:
        return content[:place] + rng.choice((rng.randbytes(5), rng.randbytes(99), b"\xff\xfe\0", b"1e99", b"nan")) + \
            content[place:]
    if kind == 5:
        return content[:place] + content[place + rng.choice((1, 10, 1000)):]
    return rng.randbytes(rng.choice((0, 1, 100, 5000)))


def senseless(content: Any, rng: random.Random) -> Any:
    """A copy of nested dicts and lists in which one part is something else, of another type, or missing."""
    content = copy.deepcopy(content)
    deep = list(_places(content))
    parent, key = rng.choice([place for place in deep if place[0] is content] if rng.random() < 0.4 else deep)
    old = parent[key]
    if isinstance(old, torch.Tensor) and rng.random() < 0.7:
        parent[key] = rng.choice((old.double(), old.int(), old.bool(), old.to(torch.complex64), old.to("meta"),
                                  old[None], old.flatten(), old.to_sparse(), torch.full_like(old, 127), old.half(),
                                  old.float() * float("nan")))
    elif isinstance(parent, dict) and rng.random() < 0.3:
        value = parent.pop(key)
        if rng.random() < 0.5:
            parent[rng.choice(("new", 5, None, ("a",)))] = value
    else:
        parent[key] = rng.choice(_OBJECTS)
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every dict or list within ``content``, with every key of it."""
    for key in list(content if isinstance(content, dict) else range(len(content))):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def equal(first: Any, second: Any) -> bool:
    """Whether nested dicts, lists and tensors hold the same."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return isinstance(second, dict) and first.keys() == second.keys() and all(
            equal(value, second[key]) for key, value in first.items())
    if isinstance(first, list | tuple):
        return type(first) is type(second) and len(first) == len(second) and all(
            map(equal, first, second))
    return first == second
