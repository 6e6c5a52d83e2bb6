"""A folder of results that are made one by one, so that a run that was interrupted can go on."""
import json
import os
import secrets
from collections.abc import Iterable
from typing import Any

from util.errors import UserError
from util.files import read_text, remove_leftovers, write_atomically


class Results:
    """The folder and its ``run.json``, which says what the results were made with.

    A file counts as made if it is not older than what it was made from, nor than ``run.json``. That is written anew, so
    that nothing counts, wherever something in it changes.

    :param settings: all that decides what is in the files, as JSON has it.
    :param seed: of what is drawn; None: that of the run which is there already if all else is equal, or else a new one.
    :raises UserError: the folder cannot be written to.
    """

    def __init__(self, folder: str, settings: dict[str, Any], seed: int | None):
        self.folder, path = folder, os.path.join(folder, "run.json")
        before = _read(path)
        self.seed = seed
        if seed is None:
            found = before.get("seed")
            goes_on = before.get("settings") == settings and isinstance(found, int) and found >= 0
            self.seed = found if goes_on else secrets.randbits(63)
        if before != (now := {"seed": self.seed, "settings": settings}):
            write_atomically(path, json.dumps(now, indent=1) + "\n")
        self._begun = os.stat(path).st_mtime_ns

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def are_made(self, names: Iterable[str], sources: Iterable[str]) -> bool:
        """Whether files of the folder are made already from files elsewhere."""
        try:
            newest = max([self._begun, *(os.stat(path).st_mtime_ns for path in sources)])
            return all(os.stat(self.path(name)).st_mtime_ns >= newest for name in names)
        except OSError:
            return False

    def remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove what runs that were killed have begun to write beside these files."""
        remove_leftovers({os.path.dirname(self.path(name)) for name in names})


def _read(path: str) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except (UserError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def stamps(paths: Iterable[str]) -> list[list[Any]]:
    """Path, bytes and time of change of files: what differs where one of them was replaced."""
    found = []
    for path in paths:
        status = os.stat(path)
        found.append([path, status.st_size, status.st_mtime_ns])
    return found
