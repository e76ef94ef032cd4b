"""The walk along the succession, after the master is lost or has handed over: which node to ask next.

1. The node asks each successor in its turn. A successor that is not master yet, because it notices the loss later, is
   asked again every `takeover_retry`, until `takeover_patience` is over. The winner of a merge was master already. If
   it is no longer, it has yielded in turn, and the node listens.
2. A member that an advert calls master of a newer term is asked out of turn, once. Then the walk goes on as before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pskkey.core.settings import Timing
from pskkey.model import Advert, Group, Member

MAX_DETOURS: Final = 2
"""Maximum number of members that one walk asks out of turn."""


@dataclass(slots=True)
class Takeover:
    """The walk along `order`; position -1 is the lost master, which is tried once more.

    `hands_over`: this node was the master, and has yielded to the only node of `order`.
    """

    order: tuple[Member, ...]
    position: int
    hands_over: bool = False
    was_master: bool = False
    """Whether the first of `order` was master already. Then `not_master` means that it has yielded in turn."""
    retry_at: float | None = None
    """When to ask again the successor that was not master yet."""
    is_detour: bool = False
    """Whether the last node was asked out of turn."""
    _detours: set[str] = field(default_factory=set)
    _patience_until: float = 0.0

    def next(self, claims: Iterable[Advert], term: int, timing: Timing, now: float) -> Member | None:
        """Return the node to ask now, None at the end of the walk. `claims` and `term` are those of `detour`."""
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
        """Return whether to ask the successor again, which is not master yet. If so, set `retry_at`."""
        if now >= self._patience_until or (self.was_master and self.position == 0):
            return False
        self.retry_at = now + timing.takeover_retry
        return True

    def detour(self, claims: Iterable[Advert], term: int, asked: Member | None = None) -> Member | None:
        """Return the member to ask out of turn, except `asked`: it claims a term above `term`. None: no such member."""
        if len(self._detours) >= MAX_DETOURS:
            return None
        left = {m.id: m for m in self.order if m.id not in self._detours and not (asked and asked.id == m.id)}
        return next((left[a.id] for a in claims if a.term > term and a.id in left), None)


def successors(group: Group | None, without: str) -> tuple[Member, ...]:
    """Return the members in the order of the succession in `group`, except the node `without`."""
    if group is None:
        return ()
    by_id = {m.id: m for m in group.members}
    return tuple(by_id[i] for i in group.succession if i in by_id and i != without)
