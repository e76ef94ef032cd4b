"""The walk along the succession after a master was lost: whom to ask next.

Each successor is asked in its turn. One that is alive and no master yet (it may notice the death later than we) is
asked again until `takeover_patience` is over. A member that an advert calls master of a newer term is asked out of
turn, once, and MAX_DETOURS of them at most; the walk goes on afterwards as if nothing had been.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pskkey.core.settings import Timing
from pskkey.model import Advert, Group, Member

MAX_DETOURS: Final = 2
"""Members that are asked out of turn in one takeover, because an advert calls them master of a newer term."""


@dataclass(slots=True)
class Takeover:
    """The walk along `order`; position -1 is the lost master, which is tried once more.

    `hands_over`: we were the master, and have made way for the first of them.
    """

    order: tuple[Member, ...]
    position: int
    hands_over: bool = False
    retry_at: float | None = None
    """When the successor that was no master yet is asked again."""
    is_detour: bool = False
    """Whether a member is being asked out of turn."""
    _detours: set[str] = field(default_factory=set)
    _patience_until: float = 0.0

    def next(self, claims: Iterable[Advert], term: int, timing: Timing, now: float) -> Member | None:
        """Return who is to be asked now; None: nobody is left. `claims` and `term` are those of `detour`."""
        if self.position >= len(self.order):
            return None
        if (member := self.detour(claims, term)) is not None:
            self.is_detour = True
            self._detours.add(member.id)
            return member
        self.is_detour = False
        if self.retry_at is None:
            self._patience_until = now + timing.takeover_patience
        self.retry_at = None
        return self.order[self.position]

    def asks_again(self, timing: Timing, now: float) -> bool:
        """The successor is no master: decide whether it is to be asked again, at `retry_at`."""
        if now >= self._patience_until:
            return False
        self.retry_at = now + timing.takeover_retry
        return True

    def detour(self, claims: Iterable[Advert], term: int, asked: Member | None = None) -> Member | None:
        """Return the member to ask out of turn, other than `asked`: it claims to be master of a term above `term`."""
        if len(self._detours) >= MAX_DETOURS:
            return None
        left = {m.id: m for m in self.order if m.id not in self._detours and not (asked and asked.id == m.id)}
        return next((left[a.id] for a in claims if a.term > term and a.id in left), None)


def successors(group: Group | None, without: str) -> tuple[Member, ...]:
    """Return the members in the order of the succession that `group` told, but for the node `without`."""
    if group is None:
        return ()
    by_id = {m.id: m for m in group.members}
    return tuple(by_id[i] for i in group.succession if i in by_id and i != without)
