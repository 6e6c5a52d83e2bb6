"""What the demo keeps of its visitors: for a while, and within bounds that one of them cannot use up for all."""
import time
from collections import Counter, OrderedDict
from typing import NamedTuple

from editing.session import Session

MOST_VISITORS = 100  # whose state is kept
MOST_BYTES = 2**30  # of it
IDLE = 3600  # seconds after which it is dropped
_REMEMBERED = 10000  # visitors who are to be told that theirs was


class Kept(NamedTuple):
    """What is kept of one, with the address and the second of the last request."""

    session: Session
    address: str
    at: float
    bytes: int


class Visitors:
    """Sessions of those who did something. Where there are too many, one of the address that has most goes, which is
    that of whoever floods the server; of these first who has drawn nothing, and who was idle longest."""

    def __init__(self):
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # the longest idle first
        self._dropped: OrderedDict[str, None] = OrderedDict()

    def get(self, visitor: str) -> Session | None:
        while self._kept and time.monotonic() - next(iter(self._kept.values())).at > IDLE:
            self._drop(next(iter(self._kept)))
        return self._kept[visitor].session if visitor in self._kept else None

    def keep(self, visitor: str, address: str, session: Session) -> None:
        self._dropped.pop(visitor, None)
        self._kept.pop(visitor, None)
        self._kept[visitor] = Kept(session, address, time.monotonic(), session.bytes())
        while len(self._kept) > MOST_VISITORS or (len(self._kept) > 1 and self.bytes() > MOST_BYTES):
            most = Counter(kept.address for kept in self._kept.values()).most_common(1)[0][0]
            of_most = [(len(kept.session.steps) > 1, n, one) for n, (one, kept) in enumerate(self._kept.items())
                       if kept.address == most]
            self._drop(min(of_most)[2])

    def was_dropped(self, visitor: str) -> bool:
        """Whether something of this visitor is gone; that is said once."""
        return self._dropped.pop(visitor, self) is None

    def bytes(self) -> int:
        return sum(kept.bytes for kept in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self, visitor: str) -> None:
        del self._kept[visitor]
        self._dropped[visitor] = None
        while len(self._dropped) > _REMEMBERED:
            self._dropped.popitem(last=False)
