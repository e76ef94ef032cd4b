"""The nodes that are on their way to this master, and until when the master waits for them.

While a node is on its way, the master activates no new key before its deadline, and no member leaves its former key.
Else the node could not read the new records. The master knows these nodes by id:

1. the members of the last master, after a takeover,
2. members whose session has ended,
3. masters that have yielded to this one.

The members of a master that has yielded may come too. This master does not know them, but its members from the same
group know them. These members acknowledge no key until the others have joined (`known_group`).

The master waits for a node as long as the node may need to join. Then the node counts as dead.

The map of the group lists the members of the last master while the master waits for them. So a node of another group
does not know which of them have joined. Some of them may be on their way from that group, because its master has
yielded. So the wait begins again when a master yields, or a node joins that has keys and names a map that this master
does not know.
"""

from typing import Final

LONGEST: Final = 8
"""How many times as long the wait for a node becomes at most. An insider can join any number of times."""


class Arrivals:
    """The nodes that a master waits for. Times are in seconds."""

    def __init__(self, most_masters: int) -> None:
        """Wait for at most `most_masters` masters that have yielded. An insider can invent any number of them."""
        self._most_masters = most_masters
        self._nodes: dict[str, float] = {}
        self._first: dict[str, float] = {}
        """When the wait for each of these nodes would have ended, if it had not begun again."""
        self._masters: dict[str, float] = {}
        self.has_given_up = False
        """Whether the wait for a member has ended without its arrival. The owner clears it."""

    @property
    def members(self) -> frozenset[str]:
        """The ids of the awaited members, which keep their places."""
        return frozenset(self._nodes)

    @property
    def masters(self) -> frozenset[str]:
        """The ids of the masters that have yielded."""
        return frozenset(self._masters)

    def expect(self, node: str, until: float) -> None:
        """Wait until `until` for a member of the last master, or for a member whose session has ended."""
        self._nodes[node] = self._first[node] = until

    def expect_master(self, node: str, until: float) -> None:
        """Wait until `until` for a master that has yielded. It has no place in the group yet."""
        if node in self._masters or len(self._masters) < self._most_masters:
            self._masters[node] = until

    def begin_again(self, now: float, seconds: float) -> None:
        """Wait `seconds` from `now` on for all members that have not arrived yet."""
        for node, until in self._nodes.items():
            self._nodes[node] = max(until, min(now + seconds, self._first[node] + (LONGEST - 1) * seconds))

    def note_arrival(self, node: str) -> None:
        """Stop waiting for `node`: it has joined."""
        self._nodes.pop(node, None)
        self._first.pop(node, None)
        self._masters.pop(node, None)

    def are_over(self, now: float) -> bool:
        """Return whether no node is on its way any more."""
        nodes = {node: until for node, until in self._nodes.items() if now < until}
        self.has_given_up |= len(nodes) < len(self._nodes)
        self._nodes, self._first = nodes, {node: self._first[node] for node in nodes}
        self._masters = {node: until for node, until in self._masters.items() if now < until}
        return not self._nodes and not self._masters

    def next_deadline(self) -> float | None:
        """Return when the next wait ends; None: no node is awaited."""
        return min([*self._nodes.values(), *self._masters.values()], default=None)
