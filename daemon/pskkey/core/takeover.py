"""The walk along the succession, after the master is lost or has handed over: which node to ask next.

The *succession* is the order in which members replace a lost master. To *ask* a node is to send it JOIN.

1. The node first tries the lost master again for `reconnect_timeout`, because a broken connection does not prove a
   death. If its TCP opens, it is alive, and may be busy. After MOST_SHORT short sessions, one after the other, the node
   listens instead: masters that accept members only to lose them would be asked hundreds of times in a second.
2. The node asks each successor, one after the other, and becomes master at its own entry. It asks those last that were
   out of reach before (`standby`), and has a session with the first of the others already. A successor may notice the
   loss later. Then JOIN waits there (`waiting_joins`). If only some nodes reach the first successor, there may be two
   masters, whose groups merge.
3. If a successor answers that it is not master, it still reaches the lost master, or has joined another one. Then the
   walk ends, and the node listens.
4. If an advert calls a member master of a newer term, the node asks that member next, once. This is a *detour*. Then
   the walk goes on as before.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pskkey.model import Advert, Group, Member

SHORT: Final = 1.0
"""Seconds: a session with a master that lasts less is short."""

MOST_SHORT: Final = 3
"""Short sessions, one after the other, before this node listens. If daemons restart everywhere, two come by chance."""

MAX_DETOURS: Final = 2
"""Maximum number of detours of one walk."""


@dataclass(slots=True)
class Takeover:
    """The walk along `order`. `position` is the index of the node to ask. At -1 the node tries the lost master again.

    `hands_over`: this node was the master, and has yielded to the only node of `order`.
    """

    order: tuple[Member, ...]
    position: int
    hands_over: bool = False
    is_detour: bool = False
    """Whether the last node to ask is a detour."""
    _detours: set[str] = field(default_factory=set)

    def next(self, claims: Iterable[Advert], term: int) -> Member | None:
        """Return the node to ask now, None at the end of the walk. `claims` and `term` are those of `detour`."""
        if self.position >= len(self.order):
            return None
        if (member := self.detour(claims, term)) is not None:
            self.is_detour = True
            self._detours.add(member.id)
            return member
        self.is_detour = False
        return self.order[self.position]

    def detour(self, claims: Iterable[Advert], term: int, asked: Member | None = None) -> Member | None:
        """Return a member for a detour, None if there is none. It is in `order`, and not `asked`.

        `claims` are the adverts of nodes that claim to be master. The advert of the member has a term above `term`.
        """
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
