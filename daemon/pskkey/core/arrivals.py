"""The nodes that are on their way to this master, and until when it waits for them.

A new key is not sent with, and no member leaves the key that it came with, while somebody is on its way who could not
read what is sent then. There are two kinds of them:

- Nodes known by their ids: the members of the last master after a takeover, and members whose session has broken.
- Nodes known by their number: those that send with the key of another master, as its MERGE says. Some of them may
  read nothing but that key, and some of our members too.

Nobody is waited for longer than the time that its coming may take. Then it is taken for dead.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from pskkey.core.admission import Joined
from pskkey.model import Merge

MOST_MASTERS: Final = 64
"""How many masters may yield to us within the time that the members of the first one may take to come."""


@dataclass(slots=True)
class _Origin:
    """The nodes that hold one key: who was here before they came, until when they may come, and their masters' counts.

    Two masters may have the same key, from before a split.
    """

    before: frozenset[str]
    until: float
    sizes: dict[str, int] = field(default_factory=dict)


class Arrivals:
    """Whom a master waits for. Times are in seconds."""

    def __init__(self) -> None:
        self._nodes: dict[str, float] = {}
        self._origins: dict[str, _Origin] = {}

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the nodes that are known by them."""
        return frozenset(self._nodes)

    def expect(self, node: str, until: float) -> None:
        """Wait for a node that is a member no more, or not yet."""
        self._nodes[node] = until

    def expect_from(self, merge: Merge, here: frozenset[str], until: float) -> None:
        """Wait for the nodes of another master. Those of them that are `here` have come for another reason."""
        if merge.key is not None:
            origin = self._origins.setdefault(merge.key, _Origin(here, until))
            if len(origin.sizes) < MOST_MASTERS:
                origin.sizes[merge.master.id] = merge.members + merge.awaited

    def came(self, node: str) -> None:
        """A node has joined."""
        self._nodes.pop(node, None)

    def are_over(self, joined: Iterable[Joined], now: float) -> bool:
        """Tell whether nobody is on its way any more, when these have `joined`."""
        self._nodes = {node: until for node, until in self._nodes.items() if now < until}
        if self._origins:
            held = [(j.member.id, {key.fingerprint for key in j.join.held}) for j in joined]
            for key, origin in list(self._origins.items()):
                arrived = sum(key in keys and node not in origin.before for node, keys in held)
                if now >= origin.until or arrived >= sum(origin.sizes.values()):
                    del self._origins[key]
        return not self._nodes and not self._origins

    def next_deadline(self) -> float | None:
        """Return when somebody is waited for no longer."""
        return min([*self._nodes.values(), *(o.until for o in self._origins.values())], default=None)
