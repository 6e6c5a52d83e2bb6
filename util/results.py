"""A folder of results that are made one by one, so that a run that was interrupted can go on."""
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable
from typing import Any

from util.errors import UserError
from util.files import names_in, read_text, set_aside, write_atomically

PICTURES = "images"  # subfolder of a folder of results, in which every kind of picture has its own
SAMPLES = r"synthesized_image(_\d+)?"  # the kinds that are what networks made
_RUN = "run.json"
_KINDS = re.compile(rf"{PICTURES}/(input_label|{SAMPLES}|interpolation|animation)|styles")


class Results:
    """The folder and its ``run.json``, which says what the results were made with, and lists the layouts.

    A file counts as made if it is not older than what it was made from, nor than ``run.json``. That is written anew, so
    that nothing counts, wherever settings or seed change. Then files of other layouts, and of kinds that are no longer
    made, are moved to ``earlier_1`` or the like.

    :param settings: all that decides what is in the files, as JSON has it.
    :param names: of the layouts of this run; ``files``: what is made of one, as paths in the folder.
    :param seed: of what is drawn; None: that of the run which is there already if all else is equal, or else a new one.
    :raises UserError: the folder cannot be written to.
    """

    def __init__(self, folder: str, settings: dict[str, Any], seed: int | None, names: Collection[str] = (),
                 files: Callable[[str], Collection[str]] = lambda name: ()):
        self.folder, path = folder, os.path.join(folder, _RUN)
        before = _read(path)
        self.seed = seed
        if seed is None:
            found = before.get("seed")
            goes_on = before.get("settings") == settings and isinstance(found, int) and found >= 0
            self.seed = found if goes_on else secrets.randbits(63)
        now = {"seed": self.seed, "settings": settings}
        same = {name: before.get(name) for name in now} == now
        begun = os.stat(path).st_mtime_ns if same else None
        known = before.get("layouts") if same else None
        now["layouts"] = sorted({*names, *(known if isinstance(known, list) else ())})
        if not same:
            self._move_away({file for name in names for file in files(name)})
        if before != now:
            write_atomically(path, json.dumps(now, indent=1) + "\n")
            if begun is not None:  # what was made still counts
                os.utime(path, ns=(begun, begun))
        self._begun = os.stat(path).st_mtime_ns

    def _move_away(self, made: Collection[str]) -> None:
        """Move what earlier runs made, and this one will not replace, out of the way."""
        kinds = [f"{PICTURES}/{name}" for name in names_in(self.path(PICTURES))] + ["styles"]
        kinds = [kind for kind in sorted(kinds) if _KINDS.fullmatch(kind) and os.path.isdir(self.path(kind))]
        old = [os.path.join(kind, name) for kind in kinds for name in sorted(os.listdir(self.path(kind)))
               if os.path.join(kind, name) not in made]
        if not old:
            return
        target = set_aside(self.folder, old)
        print(f"{self.folder}: {len(old)} files of an earlier run, which this run does not replace, are "
              f"now in {target}")

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def are_made(self, names: Iterable[str], sources: Iterable[str]) -> bool:
        """Whether files of the folder are made already from files elsewhere."""
        try:
            newest = max([self._begun, *(os.stat(path).st_mtime_ns for path in sources)])
            return all(os.stat(self.path(name)).st_mtime_ns >= newest for name in names)
        except OSError:
            return False


def listed(folder: str) -> set[str] | None:
    """The names of the layouts of a folder of results; None if it is none, or an older one that lists none."""
    names = _read(os.path.join(folder, _RUN)).get("layouts")
    return set(map(str, names)) if isinstance(names, list) else None


def _read(path: str) -> dict[str, Any]:
    try:
        found = json.loads(read_text(path))
    except (UserError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def stamps(paths: Iterable[str]) -> list[list[Any]]:
    """Path, bytes and time of change of files: what differs where one of them was replaced."""
    return [[path, status.st_size, status.st_mtime_ns] for path, status in ((path, os.stat(path)) for path in paths)]
