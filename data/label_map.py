"""Label maps whose ids are to become others: classes merged, gaps closed, "train ids", ids dropped."""
import re
from dataclasses import dataclass

import numpy as np

from util.errors import UserError
from util.files import table_rows
from util.ranks import ranked

_DROP, _SAME = "drop", "same"
_FORM = "`OLD NEW [name]`, where OLD may be * for all other ids, and NEW drop (don't care) or same"


@dataclass(frozen=True)
class LabelMap:
    """The table of --label_map, as :func:`read_label_map` reads it. None is an id that is dropped."""

    path: str
    new_of: dict[int, int | None]
    others: int | str | None  # what ids become that are not listed: an id, "same", None, or "" if they are refused
    names: dict[int, str]  # of the new ids that have one

    @property
    def drops(self) -> bool:
        return None in (self.others, *self.new_of.values())

    def apply(self, ids: np.ndarray, dont_care: int, image_path: str) -> np.ndarray:
        """The new ids [H, W] int32 of ``ids`` [H, W].

        :param dont_care: what dropped ids become; unless it is listed, it stays.
        :raises UserError: an id that the table does not list.
        """
        values, ranks = ranked(ids)
        return np.array([self._new(value, dont_care, image_path) for value in values.tolist()], np.int32)[ranks]

    def _new(self, old: int, dont_care: int, image_path: str) -> int:
        if old == dont_care and old not in self.new_of:
            return old
        if old not in self.new_of and self.others == "":
            raise UserError(f"{image_path}: has the id {old}, which --label_map {self.path} does not list; add a line "
                            f"`{old} NEW` there, or `* {_DROP}` or `* {_SAME}` for all other ids")
        new = self.new_id(old)
        return dont_care if new is None else new

    def new_id(self, old: int) -> int | None:
        """What an old id becomes; None if it is dropped, or refused."""
        new = self.new_of.get(old, self.others)
        return old if new == _SAME else None if new == "" else new

    def merged(self, values: dict[int, str]) -> dict[int, str]:
        """What is known of old ids, for the new ones: texts of those that become one are joined."""
        joined: dict[int, list[str]] = {}
        for old, value in values.items():
            new = self.new_id(old)
            if new is not None:
                joined.setdefault(new, []).append(value)
        return {new: "/".join(parts) for new, parts in joined.items()}

    def all_of(self, olds: set[int]) -> set[int]:
        """The new ids that nothing but ids of ``olds`` become."""
        marks = self.merged({old: str(int(old in olds)) for old in {*olds, *self.new_of}})
        return {new for new, mark in marks.items() if "0" not in mark}


def read_label_map(path: str) -> LabelMap:
    """Read a text table with a line ``OLD NEW [name]`` for every id of the label maps. What follows a ``#`` is a
    comment. ``OLD drop`` makes it don't care, ``OLD same`` keeps it, and ``*`` stands for all ids that have no line.

    :raises UserError: the file cannot be read, a line is not of that form, or an id is listed twice.
    """
    found: dict[str, int | str | None] = {}
    names: dict[int, str] = {}
    for place, line, words in table_rows(path, "--label_map", f"give a text file of lines {_FORM}", 3):
        form = len(words) > 1 and re.fullmatch(r"-?[0-9]{1,10}|\*", words[0]) \
            and re.fullmatch(f"[0-9]{{1,5}}|{_DROP}|{_SAME}", words[1])
        if not form:
            raise UserError(f"{place}: `{line}` is not {_FORM}; fix the line")
        if len(words) == 3 and words[2].split()[0].isdigit():
            raise UserError(f"{place}: `{line}` looks like a colour; --label_colors FILE reads lines `r g b id`, in "
                            "which several colours may have one id")
        old = words[0] if words[0] == "*" else str(int(words[0]))
        if old in found:
            raise UserError(f"{place}: {old} has a line already; remove one of them")
        found[old] = None if words[1] == _DROP else int(words[1]) if words[1].isdigit() else _SAME
        if len(words) == 3 and isinstance(found[old], int):
            names.setdefault(found[old], words[2])
    if not found:
        raise UserError(f"--label_map {path}: has no ids; write lines {_FORM}")
    others = found.pop("*", "")
    return LabelMap(path, {int(old): int(old) if new == _SAME else new for old, new in found.items()}, others, names)
