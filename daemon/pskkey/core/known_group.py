"""The group as this node was told of it, and the nodes of it that may be on their way to the next master.

When a master dies, or two parts of a split meet, the members of a part come to their next master one by one. Each of
them knows who the others are. So it says in JOIN whether others follow, and a member that becomes the master itself
knows for whom to wait.
"""

from math import inf

from pskkey.core.events import Session
from pskkey.core.leases import leases_of
from pskkey.core.settings import Settings
from pskkey.model import Group, Member


class KnownGroup:
    """What GROUP and KEY_STATE told together, or what we told ourselves as master."""

    def __init__(self, settings: Settings, leases: tuple[tuple[str, int | None], ...]) -> None:
        """Begin with the node ids and sender ids that an earlier process of this node knew."""
        self._settings = settings
        self.latest: Group | None = None
        """The last GROUP. Its leases are of keys that may still be on their way to us."""
        self.leases = leases
        """Node ids with their sender ids, as they belong to the keys that we hold."""
        self._settled: Group | None = None
        self.settled_in: Session | None = None
        """The session in which the keys came that we hold."""
        self._master: str | None = None
        """The node that is not expected again when we have no master any more."""
        self._present = frozenset(node for node, _ in leases)
        self._absent: dict[str, float] = {}
        """Nodes that have left the group, by id: the time (seconds) until which each of them may still come."""
        self._without_master_since: float | None = inf
        """None while we are in a group. At first a group may have been lost at any time."""

    def received(self, group: Group) -> None:
        """Take GROUP of our master."""
        self.latest = group

    def settle(self, session: Session, now: float) -> None:
        """KEY_STATE came on `session`: the last GROUP belongs to the keys that we hold now."""
        group, self.settled_in = self.latest, session
        if group is not None and group is not self._settled:
            self._settled, self.leases = group, leases_of(group.members)
            self._replace(frozenset(m.id for m in group.members), group.master, now)

    def lead(self, group: Group | None, now: float) -> None:
        """As master we have told `group` to everybody."""
        if group is not None and group is not self._settled:
            self._settled, self.leases = group, leases_of(group.members)
            self._replace(frozenset(m.id for m in group.members), None, now)

    def led(self, group: Group, awaited: frozenset[str], now: float) -> None:
        """We are the master no more. `awaited` are the ids of nodes that had not come to us yet."""
        self.latest = self._settled = group
        self.leases = leases_of(group.members)
        self._replace(frozenset(m.id for m in group.members) | awaited, None, now)

    def trusted(self, session: Session, members: tuple[Member, ...]) -> tuple[Member, ...]:
        """The master hands over on `session`, so it comes along. Return the `members` whose leases we may trust."""
        self._master = None
        return members if session == self.settled_in else ()

    def without_master(self, now: float) -> None:
        """We have no master any more. All but that one may come to the next one."""
        if self._without_master_since in (None, inf):
            self._without_master_since = now
            self._present -= {self._master}

    def expected(self, now: float) -> frozenset[str]:
        """Return the ids of the nodes that may come to where we are, or go."""
        since = self._without_master_since
        may_come = {node for node, until in self._absent.items() if now < until}
        if since is not None and now < self._comes_until(since):
            may_come |= self._present
        return frozenset(may_come - {self._settings.me.id})

    def _replace(self, present: frozenset[str], master: str | None, now: float) -> None:
        """Let `present` be the ids of the group. Nodes of the former group may come for a while."""
        left = min(now, self._without_master_since or now)
        self._absent |= dict.fromkeys(self._present - present, self._comes_until(left))
        may_come = [(i, until) for i, until in self._absent.items() if i not in present and now < until]
        self._absent = dict(may_come[-self._settings.max_members :])
        self._present, self._master, self._without_master_since = present, master, None

    def _comes_until(self, left: float) -> float:
        return left + self._settings.timing.comes_within
