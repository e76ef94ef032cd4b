"""The group as this node knows it, and the nodes of it that may be on their way to the next master.

When a master dies, or two partitions merge, the members of a group join their next master one by one. Each member
knows the others. The others that are not here yet are *transitional members*.

1. A member acknowledges no key of its next master before all its transitional members are here, or the time is over in
   which they may come. So the master activates no key that they could not read, and need not know them.
2. A member that becomes master waits for them itself (`arrivals`).
"""

from math import inf

from pskkey.core.events import Session
from pskkey.core.leases import leases_of
from pskkey.core.settings import Settings
from pskkey.model import Group, Member


class KnownGroup:
    """The group that GROUP and KEY_STATE describe together, or that this node leads as master."""

    def __init__(self, settings: Settings, leases: tuple[tuple[str, int | None], ...]) -> None:
        """Begin with the persisted node ids and sender ids of an earlier process of this node."""
        self._settings = settings
        self.latest: Group | None = None
        """The last GROUP. Its leases may belong to keys that have not arrived yet."""
        self.leases = leases
        """Node ids with their sender ids, as they belong to the keys that this node holds."""
        self._settled: Group | None = None
        self.settled_in: Session | None = None
        """The session on which the held keys came."""
        self._master: str | None = None
        """The node that is not expected at the next master: the present master, unless it hands over."""
        self._present = frozenset(node for node, _ in leases)
        self._absent: dict[str, float] = {}
        """For each node that has left the group, by id: until when (seconds) it may still come."""
        self._transitional: dict[str, float] = {}
        """For each node that is expected here since the master changed, by id: until when (seconds) it may come."""
        self._yielded: frozenset[str] = frozenset()
        """The masters that had yielded to this node, and had not joined it when it yielded itself."""
        self._without_master_since: float | None = inf
        """When (seconds) the master was lost; None in a group. At first `inf`: the time of the loss is unknown."""

    def received(self, group: Group) -> None:
        """Take a GROUP of the master."""
        self.latest = group

    def settle(self, session: Session, now: float) -> None:
        """Take the last GROUP as that of the held keys: a KEY_STATE came on `session`."""
        group, self.settled_in = self.latest, session
        if group is not None and group is not self._settled:
            self._replace(frozenset(m.id for m in group.members), group.master, now)
            self._settled, self.leases = group, leases_of(group.members)

    def lead(self, group: Group | None, now: float) -> None:
        """Take the `group` that this node, as master, has sent to all members."""
        if group is not None and group is not self._settled:
            self._replace(frozenset(m.id for m in group.members), None, now)
            self._settled, self.leases = group, leases_of(group.members)

    def led(self, group: Group, awaited: frozenset[str], yielded: frozenset[str], now: float) -> None:
        """Take the `group` that this node led until now.

        `awaited`: the ids of members that had not joined yet; `yielded`: of masters that had yielded to this node.
        """
        self._replace(frozenset(m.id for m in group.members) | awaited, None, now)
        self.latest = self._settled = group
        self.leases = leases_of(group.members)
        self._yielded = yielded

    def trusted(self, session: Session, members: tuple[Member, ...]) -> tuple[Member, ...]:
        """Expect the master too: it hands over. Return `members` if their leases belong to the held keys, else none."""
        self._master = None
        return members if session == self.settled_in else ()

    def without_master(self, now: float) -> None:
        """Begin to expect all nodes but the lost master at the next master."""
        if self._without_master_since in (None, inf):
            self._without_master_since = now
            self._present -= {self._master}

    def expected(self, now: float) -> frozenset[str]:
        """Return the ids of the nodes that may still join the master of this node, present or next."""
        since = self._without_master_since
        may_come = {node for node, until in self._absent.items() if now < until}
        if since is not None and now < self._comes_until(since):
            may_come |= self._present
        return frozenset(may_come - {self._settings.me.id})

    def transitional(self, now: float) -> frozenset[str]:
        """Return the ids of the transitional members, as this member of the next master knows them."""
        return frozenset(node for node, until in self._transitional.items() if now < until)

    def next_deadline(self, now: float) -> float | None:
        """Return when the next transitional member may come no longer; None: there is none."""
        return min((until for until in self._transitional.values() if now < until), default=None)

    def _replace(self, present: frozenset[str], master: str | None, now: float) -> None:
        """Take `present` as the ids of the group. Nodes of the former group may come for a while."""
        left = min(now, self._without_master_since or now)
        self._absent |= dict.fromkeys(self._present - present, self._comes_until(left))
        may_come = [(i, until) for i, until in self._absent.items() if i not in present and now < until]
        self._absent = dict(may_come[-self._settings.max_members :])
        late = self._transitional
        if self._without_master_since is not None:
            late = self._absent | dict.fromkeys(self._yielded, self._comes_until(left))
        if self._settled is None:
            late = {}  # the persisted group may be old
        self._transitional = {i: t for i, t in late.items() if i not in present and i != self._settings.me.id}
        self._yielded = frozenset()
        self._present, self._master, self._without_master_since = present, master, None

    def _comes_until(self, left: float) -> float:
        return left + self._settings.timing.comes_within
