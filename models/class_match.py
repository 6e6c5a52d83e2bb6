"""Which classes of one run are those of another, and what in the networks belongs to a class (``--init_from``)."""
import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from util.errors import shortened

# keys of tensors -> their dimension that counts classes, and perhaps then edges and the picture's channels
_OF_CLASSES = (
    (r"\bnorm_\w\.(weight|bias)", 0),  # INADE's means and spreads
    (r"^class_means|^prior\.", 0),
    (r"\bmlp_shared\.0\.weight|^fc\.weight", 1),  # SPADE's, which see the layout
    (r"^discriminator_\d+\.model0\.0\.weight|^heads\.\d+\.classes\.weight", 1),
)


def class_count(generator: Mapping[str, Tensor]) -> int | None:
    """Classes of INADE's generator, by its state dict; None of another."""
    weight = generator.get("head_0.norm_0.weight")
    return None if weight is None else len(weight)


@dataclass(frozen=True)
class ClassMatch:
    """For each of the new classes that has a counterpart, the number of the old one."""

    old_of: dict[int, int] | None  # None where names are known on one side at most: then shapes decide
    old_count: int
    new_count: int
    names: Mapping[int, str]  # of the new classes

    @classmethod
    def of(cls, old: Mapping[int, str], new: Mapping[int, str], old_count: int | None, new_count: int) -> "ClassMatch":
        """By names, whatever their case; of several classes of one name, the first.

        :param old_count: how many classes the old networks have; None if that is not known.
        """
        if not old or not new or old_count is None:
            return cls(None, old_count or 0, new_count, new)
        number_of: dict[str, int] = {}
        for number, name in sorted(old.items()):
            if number < old_count:
                number_of.setdefault(name.casefold().strip(), number)
        found = {number: number_of.get(name.casefold().strip()) for number, name in sorted(new.items())}
        return cls({number: other for number, other in found.items() if other is not None and number < new_count},
                   old_count, new_count, new)

    def align(self, key: str, found: Tensor, own: Tensor, aligned: list[str]) -> Tensor | None:
        """``own`` with what ``found`` has of the classes that both know, and of the channels behind the classes; None
        if the tensor called ``key`` is not of classes, or differs in more than their number.

        :param aligned: gets ``key`` where there is a result.
        """
        dim = next((dim for pattern, dim in _OF_CLASSES if re.search(pattern, key)), None)
        if self.old_of is None or dim is None or found.dim() != own.dim() or found.dim() < 3:
            return None
        if any(a != b for n, (a, b) in enumerate(zip(found.shape, own.shape, strict=True)) if n != dim):
            return None
        behind = min(found.shape[dim] - self.old_count, own.shape[dim] - self.new_count)  # the picture is the last
        if behind < 0:
            return None
        pairs = list(self.old_of.items()) + [(own.shape[dim] - n, found.shape[dim] - n) for n in range(1, behind + 1)]
        result = own.clone()
        for new, old in pairs:
            result.select(dim, new).copy_(found.select(dim, old))
        aligned.append(key)
        return result

    def lines(self) -> list[str]:
        """What to say of the classes."""
        if self.old_of is None:
            if self.old_count in (0, self.new_count):
                return ["classes: names are not known on both sides; those of one number count as the same"]
            return ["classes: names are not known on both sides, and their numbers differ: all are new"]
        new = [self.names.get(number, str(number)) for number in range(self.new_count) if number not in self.old_of]
        return [f"classes: {len(self.old_of)} of {self.new_count} by name"
                + (f"; new: {shortened(new, 10, ',')}" if new else "")]
