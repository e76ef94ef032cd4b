"""The nodes that have left the group, and still know its key (`[key] rekey_on_leave`).

1. A node is *away* from the moment at which it is no longer in the member map. A node that loses its session joins
   again and confirms that within `left_after`, and so does each node when the master changes. When this time is over,
   the node has *left*. A daemon that stops, crashes or restarts is not an exception.
2. A node that has left knows the keys that the group had when it went away. If the newest key is one of them, it is
   *known outside*. This is a reason for a new key until there is one, also if the node returns.
3. That the newest key is known outside belongs to the key, as its age does: GROUP and the persisted state have it. So
   also a master that joined later, or whose daemon has restarted, makes the new key.
4. This key comes at least `departure_spacing` after the current key became current. So any number of nodes that leave,
   or one that leaves again and again, cause one new key in that time. A change of the master does not shorten it.
5. Each node knows which nodes are away, because it may be the next master. A node that joins later, or whose daemon
   restarts, does not: if it is the next master, and a node has not left yet then, nobody counts this node.
6. The list begins when the setting is turned on. It has at most `max_members` nodes; then it forgets the node that went
   away first. An insider can invent any number of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pskkey.core.keyring import Keyring
from pskkey.core.settings import Settings
from pskkey.model import Group

MOST_NAMED = 3
"""Nodes that a report names."""


@dataclass(frozen=True, slots=True)
class _Away:
    """A node that is away. It has left from `until` on (seconds). `knows`: the fingerprints of the keys it knows."""

    until: float
    knows: frozenset[str]


class Departures:
    """The nodes of the group that are away, by node id, in the order in which they went away."""

    def __init__(self, settings: Settings, keyring: Keyring, members: Iterable[str]) -> None:
        """Begin with the ids of the `members` of the group that an earlier process of this node has saved."""
        self._settings = settings
        self._keyring = keyring
        self._present = frozenset(members)
        self._group: Group | None = None
        self._away: dict[str, _Away] = {}
        self._left: list[str] = []
        """Some ids of the nodes that have left and know the newest key, and `_left_count` is how many there are."""
        self._left_count = 0
        self._newest = ""
        """The fingerprint of the newest key when the nodes were compared with it."""

    def observe_group(self, group: Group, now: float) -> None:
        """As member, record the last GROUP."""
        if group is not self._group:
            self._group = group
            self._replace(frozenset(member.id for member in group.members), now)
        self._note_left(now)

    def observe_members(self, present: frozenset[str], now: float) -> bool:
        """As master, record the ids of all members, with or without this node.

        Return whether the newest key has just become known outside, so that GROUP must go to all members.
        """
        if present is not self._present:
            self._replace(present, now)
        return self._note_left(now)

    def due_at(self) -> float | None:
        """Return when a new key is necessary because of a node that has left; None: no node is away."""
        self._forget_served()
        timing, current = self._settings.timing, self._keyring.current
        if current is None or not timing.rekey_on_leave:
            return None
        earliest = current.since + timing.departure_spacing
        if self._keyring.known_outside:
            return earliest
        first = next(iter(self._away.values()), None)
        return None if first is None else max(first.until, earliest)

    def describe_left(self) -> str:
        """Return the ids of the nodes that have left, for the operator."""
        if not self._left:
            return "a node that left under an earlier master, or before this daemon started"
        more = f" and {self._left_count - len(self._left)} more" if self._left_count > len(self._left) else ""
        return ", ".join(self._left) + more

    def _replace(self, present: frozenset[str], now: float) -> None:
        gone, self._present = self._present - present - {self._settings.me.id}, present
        knows = frozenset(entry.key.fingerprint for entry in self._keyring.entries)
        until = now + self._settings.timing.left_after
        self._away |= dict.fromkeys(sorted(gone), _Away(until, knows))
        self._away = {node: away for node, away in self._away.items() if node not in present}
        for node in list(self._away)[: -self._settings.max_members]:
            del self._away[node]

    def _note_left(self, now: float) -> bool:
        """Record the nodes whose time is over. Return whether the newest key was not known outside before."""
        if not self._settings.timing.rekey_on_leave:
            self._away.clear()
        self._forget_served()
        left = [node for node, away in self._away.items() if now >= away.until]
        if not left:
            return False
        for node in left:
            del self._away[node]
        self._left, self._left_count = (self._left + left)[:MOST_NAMED], self._left_count + len(left)
        is_new = not self._keyring.known_outside
        self._keyring.note_known_outside()
        return is_new

    def _forget_served(self) -> None:
        """Forget the nodes that do not know the newest key."""
        newest = self._keyring.newest
        if newest is not None and newest.key.fingerprint != self._newest:
            self._newest = newest.key.fingerprint
            self._away = {node: away for node, away in self._away.items() if self._newest in away.knows}
            self._left, self._left_count = [], 0
