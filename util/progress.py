"""Progress of long work: a bar on a terminal; elsewhere, in a file of logs say, a line every half minute."""
import math
import sys
import time
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

PAUSE = 30.0  # seconds between two lines of a log, and before the first: short work leaves none
_due = math.inf  # when the next line may be written; never outside of commands


def begin() -> None:
    """A command begins: the first pause counts from now."""
    global _due
    _due = time.monotonic() + PAUSE


def progress(items: Iterable | None = None, *, doing: str, unit: str, total: int | None = None, initial: int = 0,
             quiet: bool = False) -> tqdm:
    """A bar of tqdm that shows how far work on ``items`` is; or, without these, what its ``update`` is told.

    :param doing: what it is, in a word or two.
    :param quiet: show nothing: of several processes one is enough.
    """
    settings = {}
    if not sys.stderr.isatty():
        form = "{desc}: {n_fmt}/{total_fmt} {unit}, {elapsed} elapsed, {remaining} left, {rate_fmt}{postfix}"
        settings = {"file": _Log(sys.stderr), "bar_format": form, "mininterval": min(1, PAUSE), "miniters": 1}
    return tqdm(items, desc=doing, unit=unit, total=total, initial=initial, disable=quiet, **settings)


def counted(number: int, unit: str) -> str:
    """A number of things, in words: ``1 layout``, ``2 layouts``."""
    return f"{number} {unit}{'' if number == 1 else 's'}"


class _Log:
    """What tqdm writes into one line of a terminal over and over, as lines with a pause between them, also between
    those of bars that follow one another."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> None:
        global _due
        if text.strip() and time.monotonic() >= _due:
            self._stream.write(text.strip() + "\n")
            _due = time.monotonic() + PAUSE

    def flush(self) -> None:
        self._stream.flush()
