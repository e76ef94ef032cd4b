"""The nodes that are on their way to this master, and until when the master waits for them.

While a node is on its way, the master activates no new key before its deadline, and no member leaves its former key:
the node could not read the new traffic. There are two kinds of such nodes:

1. Nodes known by id: the members of the last master after a takeover, and members whose session has ended.
2. Nodes known by number: those that hold the key of another master, as its MERGE states. Some of these nodes, and
   some members of this master, can read only that key.

The master waits for a node as long as its arrival may take. Then the node counts as dead.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pskkey.core.admission import Joined
from pskkey.model import Merge

MOST_MASTERS: Final = 64
"""The limit of yielding masters with the same key. The nodes of further masters are not awaited."""


@dataclass(slots=True)
class _Origin:
    """The nodes that hold one key. Two masters may have the same key, from before a split.

    `before`: the members here before the first of these nodes came. `until`: the end of the wait (seconds). `sizes`:
    the number of nodes of each master, by its id.
    """

    before: frozenset[str]
    until: float
    sizes: dict[str, int] = field(default_factory=dict)


class Arrivals:
    """The nodes that a master waits for. Times are in seconds."""

    def __init__(self) -> None:
        self._nodes: dict[str, float] = {}
        self._origins: dict[str, _Origin] = {}

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the nodes that are known by id."""
        return frozenset(self._nodes)

    def expect(self, node: str, until: float) -> None:
        """Wait until `until` for a node that is no longer a member, or not yet."""
        self._nodes[node] = until

    def expect_from(self, merge: Merge, here: frozenset[str], until: float) -> None:
        """Wait for the nodes of another master. The first MERGE with a key sets `here` and `until` for that key."""
        if merge.key is not None:
            origin = self._origins.setdefault(merge.key, _Origin(here, until))
            if len(origin.sizes) < MOST_MASTERS:
                origin.sizes[merge.master.id] = merge.members + merge.awaited

    def came(self, node: str) -> None:
        """Stop waiting for `node`: it has joined."""
        self._nodes.pop(node, None)

    def are_over(self, joined: Iterable[Joined], now: float) -> bool:
        """Return whether no node is on its way any more, given the members that have `joined`."""
        self._nodes = {node: until for node, until in self._nodes.items() if now < until}
        if self._origins:
            held = [(j.member.id, {key.fingerprint for key in j.join.held}) for j in joined]
            for key, origin in list(self._origins.items()):
                arrived = sum(key in keys and node not in origin.before for node, keys in held)
                if now >= origin.until or arrived >= sum(origin.sizes.values()):
                    del self._origins[key]
        return not self._nodes and not self._origins

    def next_deadline(self) -> float | None:
        """Return when the next wait ends; None: no node is awaited."""
        return min([*self._nodes.values(), *(o.until for o in self._origins.values())], default=None)
