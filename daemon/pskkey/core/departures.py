"""The nodes that have left the group, and still know its key (`[key] rekey_on_leave`).

1. A node is *away* from the moment at which it is no longer in the member map. A node that loses its session joins
   again and confirms that within `left_after`, and so does each node when the master changes. When this time is over,
   the node has *left*. A daemon that stops, crashes or restarts is not an exception.
2. A node that has left knows the keys that the group had when it went away. It is a reason for a new key until the
   group has a newer one, or until the node is back. So only a key that the node does not know ends the reason.
3. The key that serves these reasons comes at least `departure_spacing` after the current key became current. So any
   number of nodes that leave, or one that leaves again and again, cause one new key in that time. A change of the
   master does not shorten it, because all nodes know the age of the key.
4. Each node keeps this list, because it may be the next master. A node without a master leaves its list as it is.
5. The list begins when the setting is turned on. It has at most `max_members` nodes; then it forgets the node that went
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
        self._newest = ""
        """The fingerprint of the newest key when `_away` was compared with it."""

    def observe_group(self, group: Group, now: float) -> None:
        """As member, record the last GROUP."""
        if group is not self._group:
            self._group = group
            self.observe_members(frozenset(member.id for member in group.members), now)

    def observe_members(self, present: frozenset[str], now: float) -> None:
        """Record the ids of all members, with or without this node. As master, call this with each change."""
        if present is self._present:
            return
        gone, self._present = self._present - present - {self._settings.me.id}, present
        if not self._settings.timing.rekey_on_leave:
            self._away.clear()
            return
        knows = frozenset(entry.key.fingerprint for entry in self._keyring.entries)
        until = now + self._settings.timing.left_after
        self._away |= dict.fromkeys(sorted(gone), _Away(until, knows))
        self._away = {node: away for node, away in self._away.items() if node not in present}
        for node in list(self._away)[: -self._settings.max_members]:
            del self._away[node]

    def due_at(self) -> float | None:
        """Return when a new key is necessary because of a node that has left; None: no node is away."""
        timing, current, newest = self._settings.timing, self._keyring.current, self._keyring.newest
        if newest is not None and newest.key.fingerprint != self._newest:
            self._newest = newest.key.fingerprint
            self._away = {node: away for node, away in self._away.items() if self._newest in away.knows}
        first = next(iter(self._away.values()), None)
        if first is None or current is None or not timing.rekey_on_leave:
            return None
        return max(first.until, current.since + timing.departure_spacing)

    def describe_left(self, now: float) -> str:
        """Return the ids of the nodes that have left, for the operator."""
        left = [node for node, away in self._away.items() if now >= away.until]
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        return ", ".join(left[:MOST_NAMED]) + more
