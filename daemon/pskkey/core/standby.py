"""The standby session of a member: a session with the node that it asks first if the master is lost.

If all members connected to the next master at the moment at which the last one is lost, it would have to do all their
handshakes at once. A handshake costs a small device 20 to 50 ms. So each member has a session with the first successor
beforehand. When the master is lost or hands over, the member sends JOIN on it: one packet, no handshake.

1. A member opens its standby session some time after it has joined, or after another node has become first successor:
   STANDBY_AFTER, and STANDBY_STEP for each member that comes before it by id. So the successor has one handshake at a
   time.
2. The first successor itself has none. It does not know whose standby sessions it serves: to it they are sessions
   without JOIN. It answers each heartbeat on them.
3. If a successor cannot be reached, the member tries the next one, up to itself. It tries the others again after a
   pause, which doubles, and keeps its open session meanwhile.
4. If the master is lost, the walk along the succession begins with those that were not out of reach. So a member whose
   key server cannot be reached, or that does not exist, delays no failover.
5. The session is for the next attempt to join its peer. It ends when this node listens or becomes master.
"""

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Final

from pskkey.core.actions import Action, Disconnect, Send
from pskkey.core.events import Session
from pskkey.core.links import Link, Phase
from pskkey.core.peers import Backoff
from pskkey.core.takeover import successors
from pskkey.model import Group, Heartbeat, Member

STANDBY_AFTER: Final = 1.0
"""Seconds. The group may still change just after a change."""

STANDBY_STEP: Final = 0.02
"""Seconds between the attempts of two members."""

STANDBY_PATIENCE: Final = 10.0
"""Seconds for the handshake. The time is long, because a busy successor must not pay twice."""

STANDBY_INTERVAL: Final = 4.0
"""Seconds between two heartbeats of the member. A server ends a session without JOIN after 10 s of silence."""

STANDBY_DEAD_AFTER: Final = 10.0
"""Seconds of silence after which the session ends."""

PAUSE_MIN: Final = 2.0
PAUSE_MAX: Final = 60.0
"""Seconds: the first and the longest pause after a failed attempt with a node."""


class Standby:
    """The standby session of a member, if it has one. Times are in seconds.

    `connect` begins an outbound session at a time, with a patience for the handshake.
    """

    def __init__(self, out: list[Action], connect: Callable[[Member, float, float], Link]) -> None:
        self._out = out
        self._connect = connect
        self._order: tuple[Member, ...] = ()
        """The successors that come before this node."""
        self._due: float | None = None
        """When the first attempt begins; None: begin none."""
        self._open: Link | None = None
        self._attempt: Link | None = None
        self._pauses: dict[str, Backoff] = {}
        self._out_of_reach: set[str] = set()
        """The ids of the nodes with which the last attempt failed."""

    @property
    def peer(self) -> Member | None:
        """Return the peer of the open session, None without one."""
        return self._open.peer if self._open is not None else None

    def aim(self, group: Group, me: str, now: float) -> None:
        """Have a session with the first successor in `group` that can be reached and comes before the node `me`."""
        order = tuple(takewhile(lambda member: member.id != me, successors(group, group.master)))
        if not order:
            self.end()
            return
        if self._due is None or order[0].id != self._order[0].id:
            self._due = now + STANDBY_AFTER + STANDBY_STEP * sum(member.id < me for member in group.members)
        self._order = order
        places = {member.id: place for place, member in enumerate(order)}
        self._pauses = {node: pause for node, pause in self._pauses.items() if node in places}
        self._out_of_reach &= places.keys()
        for link in (self._open, self._attempt):
            if link is not None and link.peer.id not in places:
                self._close(link)

    def end(self) -> None:
        """End the session, and want none."""
        for link in (self._open, self._attempt):
            if link is not None:
                self._close(link)
        self._order, self._due = (), None
        self._pauses.clear()
        self._out_of_reach.clear()

    def take(self, node_id: str) -> Link | None:
        """Give away the session with a node, open or still connecting; None: there is none. Begin no other one."""
        self._due = None
        taken = next((x for x in (self._open, self._attempt) if x is not None and x.peer.id == node_id), None)
        if taken is not None:
            self._forget(taken)
        return taken

    def reachable_first(self, order: Iterable[Member]) -> tuple[Member, ...]:
        """Return the nodes of `order` with those at the end that were out of reach."""
        return tuple(sorted(order, key=lambda member: member.id in self._out_of_reach))

    def opened(self, session: Session, now: float) -> Link:
        """Begin the heartbeats on a session that has opened, and return its link. It replaces the last one."""
        link = self._at(session)
        if link is not self._open and self._open is not None:
            self._close(self._open)
        self._open, self._attempt, link.phase = link, None, Phase.STANDBY
        self._pauses.pop(link.peer.id, None)
        self._out_of_reach.discard(link.peer.id)
        self._beat(link, now)
        self.extend_deadline(session, now)
        return link

    def extend_deadline(self, session: Session, now: float) -> None:
        """Extend the deadline of the open session: its peer has sent a message."""
        if self._open is not None and self._open.session == session:
            self._open.deadline = now + STANDBY_DEAD_AFTER

    def has(self, session: Session) -> bool:
        """Return whether this is a standby session, open or still connecting."""
        return any(link is not None and link.session == session for link in (self._open, self._attempt))

    def lost(self, session: Session, now: float) -> None:
        """Begin the pause of a node: the session with it has ended, or did not open."""
        link = self._at(session)
        if link is self._attempt:
            self._out_of_reach.add(link.peer.id)
        self._forget(link)
        self._pauses.setdefault(link.peer.id, Backoff()).failed(now, PAUSE_MIN, PAUSE_MAX)

    def next_deadline(self) -> float | None:
        """Return when `tick` must be called next."""
        times = [link.deadline for link in (self._open, self._attempt) if link is not None]
        if self._open is not None:
            times.append(self._open.next_heartbeat)
        if self._due is not None and self._attempt is None:
            for member in self._better():
                times.append(max(self._due, self._paused_until(member)))
                if member.id not in self._pauses:
                    break
        return min(times, default=None)

    def tick(self, now: float, read_until: float) -> None:
        """Do what is due at `now`. This node has read what had arrived before `read_until`."""
        for link in (self._open, self._attempt):
            if link is not None and read_until >= link.deadline:
                self._out.append(Disconnect(link.session))
                self.lost(link.session, now)
        if self._open is not None and now >= self._open.next_heartbeat:
            self._beat(self._open, now)
        if self._attempt is None and self._due is not None and now >= self._due:
            wanted = next((member for member in self._better() if now >= self._paused_until(member)), None)
            if wanted is not None:
                self._attempt = self._connect(wanted, STANDBY_PATIENCE, now)

    def _better(self) -> Iterable[Member]:
        """Return the nodes with which a session would be better than the open one."""
        peer = self.peer
        return takewhile(lambda member: peer is None or member.id != peer.id, self._order)

    def _paused_until(self, member: Member) -> float:
        pause = self._pauses.get(member.id)
        return float("-inf") if pause is None else pause.until

    def _at(self, session: Session) -> Link:
        return next(x for x in (self._open, self._attempt) if x is not None and x.session == session)

    def _close(self, link: Link) -> None:
        self._out.append(Disconnect(link.session))
        self._forget(link)

    def _forget(self, link: Link) -> None:
        self._open = None if link is self._open else self._open
        self._attempt = None if link is self._attempt else self._attempt

    def _beat(self, link: Link, now: float) -> None:
        link.next_heartbeat = now + STANDBY_INTERVAL
        self._out.append(Send(link.session, Heartbeat()))
