"""The joiners of a master that have not confirmed GROUP yet.

A joiner sends a message as soon as GROUP has arrived. Then it is a member. Until then no member has it in its GROUP, it
is no successor, and its keys cause no new key. A new key waits for it only for CONFIRMS_WITHIN after its first JOIN. A
joiner that never confirms may have the keys all the same, so its end is reported.

A joiner that does not confirm receives only small packets. It joins again and again, at most
`peers.PATH_HOLD_MAX` seconds after a failure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pskkey.model import Member

CONFIRMS_WITHIN: Final = 2.0
"""Seconds after its first JOIN after which a joiner is overdue."""

UNCONFIRMED_FOR: Final = 20.0
"""Seconds after its last JOIN for which a joiner is kept. This is longer than the time to its next JOIN."""

MAX_YIELDED: Final = 1024
"""Masters that are kept. An insider can invent any number of them."""

MAX_UNCONFIRMED: Final = 64
"""Joiners that are kept. The one that joined the longest ago makes room."""


@dataclass(slots=True)
class _Joiner:
    """An unconfirmed joiner, with the times (seconds) of its first and its last JOIN."""

    member: Member
    address: str
    first: float
    last: float


class Confirmations:
    """The unconfirmed joiners, by node id."""

    def __init__(self) -> None:
        self._joiners: dict[str, _Joiner] = {}
        self._yielded: dict[str, None] = {}
        """The ids of the masters that have yielded in this term, and have not confirmed since."""

    def expect(self, member: Member, address: str, now: float) -> None:
        """Record a JOIN of `member` from `address`."""
        known = self._joiners.pop(member.id, None)
        while len(self._joiners) >= MAX_UNCONFIRMED:
            del self._joiners[next(iter(self._joiners))]
        first = known.first if known is not None and now < known.last + UNCONFIRMED_FOR else now
        self._joiners[member.id] = _Joiner(member, address, first, now)

    def note_yielded(self, master: str) -> None:
        """Record that a master has yielded to this one. It may join much later, or in several attempts."""
        self._yielded[master] = None
        while len(self._yielded) > MAX_YIELDED:
            del self._yielded[next(iter(self._yielded))]

    def confirm(self, node_id: str) -> bool:
        """Forget a joiner that has confirmed. Return whether it was a master that has yielded."""
        self._joiners.pop(node_id, None)
        return node_id in self._yielded and self._yielded.pop(node_id) is None

    def is_overdue(self, node_id: str, now: float) -> bool:
        """Return whether a joiner should have confirmed by now."""
        joiner = self._joiners.get(node_id)
        return joiner is not None and joiner.first + CONFIRMS_WITHIN <= now < joiner.last + UNCONFIRMED_FOR

    def missing(self, now: float) -> Iterator[tuple[Member, str]]:
        """Yield the overdue joiners, with their addresses."""
        for node_id, joiner in sorted(self._joiners.items()):
            if self.is_overdue(node_id, now):
                yield joiner.member, joiner.address
