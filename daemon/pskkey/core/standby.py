"""The standby session of a member: a session with the node that it asks first if the master is lost.

If all members connected to the next master at the moment at which the last one is lost, it would have to do all their
handshakes at once. A handshake costs a small device 20 to 50 ms. So each member has a session beforehand with the first
successor that it can reach. When the master is lost or hands over, the member sends JOIN on it: one packet, no
handshake.

1. A member opens its standby session some time after it has joined, after its last session was lost, or after a better
   successor has come: STANDBY_AFTER, and STANDBY_STEP for each member that comes before it by id. So a successor has
   few handshakes at a time.
2. The first successor itself has none. It does not know whose standby sessions it serves: to it they are sessions
   without JOIN. It answers each heartbeat on them.
3. If the attempt with a successor fails, the member tries the next one, up to itself. After a pause, which doubles, it
   tries those that failed again, the one that has waited for the longest time first. It keeps its open session until a
   better one has had its first heartbeat.
4. If the master is lost, the member asks those last whose TCP did not open at the last attempt, or at whose addresses
   other nodes answered. So a key server behind a firewall, or a member that does not exist, delays no failover, once
   each member has tried it.
5. The session is for the next attempt to join its peer. It ends when this node listens or becomes master.
"""

from collections.abc import Callable, Iterable
from itertools import takewhile
from math import inf
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
"""Seconds of silence after which the session ends. A session that has lasted so long was a good one."""

WITHOUT_TCP: Final = frozenset({"unreachable", "refused", "timeout", "no_address"})
"""Codes of an attempt in which TCP did not open (`events.Disconnected`)."""

OUT_OF_REACH: Final = WITHOUT_TCP | {"wrong_node"}
"""Codes of an attempt that did not reach the peer. A peer whose own TCP opens may only be busy."""

PAUSE_MIN: Final = 2.0
PAUSE_MAX: Final = 60.0
"""Seconds: the first and the longest pause after a failed attempt with a node."""

PAUSE_WITHOUT_TCP: Final = 8.0
"""Seconds of the longest pause if TCP did not open. It is short, so that the node is soon known to be back. If another
node has answered, its handshakes cost that node time, so the pause is as long as for others."""


class Standby:
    """The standby session of a member, if it has one. Times are in seconds.

    `connect` begins an outbound session at a time, with a patience for the handshake.
    """

    def __init__(self, out: list[Action], connect: Callable[[Member, float, float], Link]) -> None:
        self._out = out
        self._connect = connect
        self._order: tuple[Member, ...] = ()
        """The successors that come before this node."""
        self._delay = STANDBY_AFTER
        """The time of this node from a change to its next attempt."""
        self._due: float | None = None
        """When attempts may begin; None: begin none."""
        self._open: Link | None = None
        self._open_since = inf
        """When the first heartbeat came on the open session."""
        self._attempt: Link | None = None
        """A session that is better than the open one, until its first heartbeat."""
        self._pauses: dict[str, Backoff] = {}
        """By node id, for each node of `_order`: when it may be tried. At any time if it was not tried yet, or
        answered; it comes before those that failed then.
        """
        self._out_of_reach: set[str] = set()
        """The ids of the nodes that the last attempt did not reach."""

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
        known = {member.id: (member.addresses, member.port) for member in self._order}
        same = {member.id for member in order if known.get(member.id) == (member.addresses, member.port)}
        self._order, had = order, (self._open, self._attempt)
        self._delay = STANDBY_AFTER + STANDBY_STEP * sum(member.id < me for member in group.members)
        self._pauses = {member.id: self._pauses.get(member.id) or Backoff() for member in order}
        for node in self._pauses.keys() - same:  # it is new, or may answer at its new address
            self._pauses[node].until = min(self._pauses[node].until, now)
        self._out_of_reach &= same
        if self._open is not None and all(member.id != self._open.peer.id for member in order):
            self._close(self._open)
        better = {member.id for member in self._better()}
        if self._attempt is not None and self._attempt.peer.id not in better & same:
            self._close(self._attempt)
        if self._due is None or (self._open, self._attempt) != had or better - same:
            self._put_off(now)

    def psk_changed(self, now: float) -> None:
        """Try all nodes again: with the new PSK, another one may answer."""
        self._pauses = {node: Backoff() for node in self._pauses}
        self._out_of_reach.clear()
        if self._due is not None:
            self._put_off(now)

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
        """Begin the heartbeats on a session that has opened, and return its link."""
        link = self._at(session)
        link.phase, link.deadline = Phase.STANDBY, now + STANDBY_DEAD_AFTER
        self._out_of_reach.discard(link.peer.id)
        self._beat(link, now)
        if self._open is None:
            self._prefer(link)
        return link

    def extend_deadline(self, session: Session, now: float) -> None:
        """Extend the deadline of an open session: its peer has sent a message."""
        link = self._at(session) if self.has(session) else None
        if link is None or link.phase is not Phase.STANDBY:
            return
        link.deadline = now + STANDBY_DEAD_AFTER
        if link is self._attempt and self._due is not None:  # else the walk has chosen its order already
            self._prefer(link)
        if link is self._open:
            self._open_since = min(self._open_since, now)
            self._pauses[link.peer.id].end()

    def has(self, session: Session) -> bool:
        """Return whether this is a standby session, open or still connecting."""
        return any(link is not None and link.session == session for link in (self._open, self._attempt))

    def lost(self, session: Session, now: float, code: str = "lost") -> None:
        """Begin the pause of a node: the session with it has ended, or did not open. `code` is as in `Loss`."""
        link = self._at(session)
        node, connecting = link.peer.id, link.phase is Phase.CONNECTING
        if link is self._open:
            if now >= self._open_since + STANDBY_DEAD_AFTER:
                self._pauses[node] = Backoff()
            if self._due is not None:
                self._put_off(now)
        self._forget(link)
        if connecting and code in OUT_OF_REACH:
            self._out_of_reach.add(node)
        else:
            self._out_of_reach.discard(node)
        pause = self._pauses.setdefault(node, Backoff())
        pause.failed(now, PAUSE_MIN, PAUSE_WITHOUT_TCP if connecting and code in WITHOUT_TCP else PAUSE_MAX)
        pause.until += self._delay - STANDBY_AFTER  # the sessions of all members may have ended at the same time

    def next_deadline(self) -> float | None:
        """Return when `tick` must be called next."""
        links = [link for link in (self._open, self._attempt) if link is not None]
        times = [link.deadline for link in links]
        times += [link.next_heartbeat for link in links if link.phase is Phase.STANDBY]
        if self._due is not None and self._attempt is None:
            wanted = self._wanted()
            times += [max(self._due, self._paused_until(wanted))] if wanted is not None else []
        return min(times, default=None)

    def tick(self, now: float, read_until: float) -> None:
        """Do what is due at `now`. This node has read what had arrived before `read_until`."""
        for link in (self._open, self._attempt):
            if link is not None and read_until >= link.deadline:
                self._out.append(Disconnect(link.session))
                self.lost(link.session, now)
            elif link is not None and link.phase is Phase.STANDBY and now >= link.next_heartbeat:
                self._beat(link, now)
        if self._attempt is None and self._due is not None and now >= self._due:
            wanted = self._wanted()
            if wanted is not None and now >= self._paused_until(wanted):
                self._pauses[wanted.id].until = now  # this is its turn, even if the attempt is given up
                self._attempt = self._connect(wanted, STANDBY_PATIENCE, now)

    def _better(self) -> Iterable[Member]:
        """Return the nodes with which a session would be better than the open one."""
        peer = self.peer
        return takewhile(lambda member: peer is None or member.id != peer.id, self._order)

    def _wanted(self) -> Member | None:
        """Return the node to try next: the first that has not failed, else the one that has waited for longest.

        So all members choose the same node while none fails, and each node has its turn if some do.
        """
        return min(self._better(), key=self._paused_until, default=None)

    def _paused_until(self, member: Member) -> float:
        return self._pauses[member.id].until

    def _put_off(self, now: float) -> None:
        """Begin no attempt before the turn of this node, unless its turn is to come already."""
        if self._due is None or now >= self._due:
            self._due = now + self._delay

    def _prefer(self, link: Link) -> None:
        """Let `link` be the open session."""
        if self._open is not None:
            self._close(self._open)
        self._open, self._open_since, self._attempt = link, inf, None

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
