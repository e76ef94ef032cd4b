"""The group as this node knows it, and its other members that may be on their way to the next master.

When a master dies, or two partitions merge, the members of a group join their next master one by one. Each member
knows the other members. A *transitional member* is one of them that has not joined the next master yet.

1. A member acknowledges no key of its next master until all its transitional members have joined, or their time is
   over. So the master activates no key that they cannot read. The master need not know them.
2. A member that becomes master waits for them itself (`arrivals`).
"""

from math import inf

from pskkey.core.events import Session
from pskkey.core.leases import leases_of
from pskkey.core.roster import apply_change, fingerprint
from pskkey.core.settings import Settings
from pskkey.model import Group, GroupChange, Member

MAX_NAMED = 4
"""Groups that are kept because JOIN has named them. The group may change before the answer to JOIN arrives."""

MAX_SESSIONS = 2
"""Sessions with a master at once: the present one and the one that renews it."""


class KnownGroup:
    """The group that a member knows from GROUP and KEY_STATE, or that this node leads as master."""

    def __init__(self, settings: Settings, leases: tuple[tuple[str, int | None], ...]) -> None:
        """Begin with `leases`: the node ids and sender ids that an earlier process of this node has saved."""
        self._settings = settings
        self.latest: Group | None = None
        """The last GROUP. Its leases may belong to keys that have not arrived yet."""
        self.leases = leases
        """The node ids with their sender ids, as they belong to the keys of this node."""
        self._named: dict[str, Group] = {}
        """The last groups that JOIN has named, by their fingerprints."""
        self._held: dict[Session, tuple[int, Group]] = {}
        """By session, the last group that came on it, with its number."""
        self._settled: Group | None = None
        self.settled_in: Session | None = None
        """The session on which the keys of this node arrived."""
        self._master: str | None = None
        """The present master, which is not expected at the next master; None if it hands over, or is this node."""
        self._present = frozenset(node for node, _ in leases)
        self._absent: dict[str, float] = {}
        """By node id, for each node that has left the group: until when (seconds) it may still join."""
        self._transitional: dict[str, float] = {}
        """By node id, for each transitional member: until when (seconds) it may join."""
        self._yielded: frozenset[str] = frozenset()
        """The ids of masters that had yielded to this master, but had not joined it when it stepped down itself."""
        self._without_master_since: float | None = inf
        """When (seconds) the master was lost; None while there is a master. `inf` at the start: the time is unknown."""

    def name_map(self) -> str:
        """Return the fingerprint of the last group, for a JOIN that is sent now; empty if there is none."""
        if self.latest is None:
            return ""
        name = fingerprint(self.latest)
        self._named.pop(name, None)
        self._named[name] = self.latest
        for old in list(self._named)[:-MAX_NAMED]:
            del self._named[old]
        return name

    def apply(self, session: Session, change: GroupChange) -> Group | None:
        """Return the group after a change that came on `session`, None if it does not fit what came before."""
        base = self._named.get(change.knows)
        if change.base:
            number, base = self._held.get(session, (0, None))
            if number != change.base:
                return None
        elif change.knows and base is None:
            return None
        group = apply_change(base, change)
        if group is not None:
            self._held.pop(session, None)
            self._held = dict([*self._held.items(), (session, (change.number, group))][-MAX_SESSIONS:])
        return group

    def received(self, group: Group) -> None:
        """Record a GROUP of the master."""
        self.latest = group

    def settle(self, session: Session, now: float) -> Group | None:
        """Record that the last GROUP belongs to the keys of this node: a KEY_STATE came on `session`.

        Return this GROUP if it was sent together with the KEY_STATE, else None.
        """
        group, self.settled_in = self.latest, session
        if group is None or group is self._settled:
            return None
        self._replace(frozenset(m.id for m in group.members), group.master, now)
        self._settled, self.leases = group, leases_of(group.members)
        return group

    def record_led_group(self, group: Group | None, now: float) -> None:
        """Record the `group` that this master has sent to all members."""
        if group is not None and group is not self._settled:
            self._replace(frozenset(m.id for m in group.members), None, now)
            self._settled, self.leases = group, leases_of(group.members)

    def end_mastership(self, group: Group, awaited: frozenset[str], yielded: frozenset[str], now: float) -> None:
        """Record the `group` that this node led until now.

        `awaited`: the ids of members of an earlier group that have not joined this master yet. `yielded`: the ids of
        masters that have yielded to this master, and have not joined it yet.
        """
        self._replace(frozenset(m.id for m in group.members) | awaited, None, now)
        self.latest = self._settled = group
        self.leases = leases_of(group.members)
        self._yielded = yielded

    def take_handover(self, session: Session, members: tuple[Member, ...]) -> tuple[Member, ...]:
        """Process the `members` in a HANDOVER. From now on the present master is expected at the next master, too.

        Return `members` if their leases belong to the keys of this node, else an empty tuple.
        """
        self._master = None
        return members if session == self.settled_in else ()

    def record_lost_master(self, now: float) -> None:
        """Record the loss of the master: all other nodes of the group are expected at the next master."""
        if self._without_master_since in (None, inf):
            self._without_master_since = now
            self._present -= {self._master}

    def expected(self, now: float) -> frozenset[str]:
        """Return the ids of the nodes that may still join the present or the next master of this node."""
        since = self._without_master_since
        may_come = {node for node, until in self._absent.items() if now < until}
        if since is not None and now < self._comes_until(since):
            may_come |= self._present
        return frozenset(may_come - {self._settings.me.id})

    def transitional(self, now: float) -> frozenset[str]:
        """Return the ids of the transitional members."""
        return frozenset(node for node, until in self._transitional.items() if now < until)

    def next_deadline(self, now: float) -> float | None:
        """Return when the wait for the next transitional member ends; None if there is none."""
        return min((until for until in self._transitional.values() if now < until), default=None)

    def _replace(self, present: frozenset[str], master: str | None, now: float) -> None:
        """Record the ids of the group, `present`. Nodes that are not among them may still join for a while."""
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
