"""The standby session of a member: a session with the first successor, which is open before it is needed.

If all members connected to the next master at the moment at which the last one is lost, it would have to do all their
handshakes at once. A handshake costs a small device 20 to 50 ms. So each member has a session with the first successor
beforehand. When the master is lost or hands over, the member sends JOIN on it: one packet, no handshake.

1. A member opens its standby session some time after it has joined, or after another node has become first successor:
   STANDBY_AFTER, and STANDBY_STEP for each member that comes before it by id. So the successor has one handshake at a
   time.
2. The first successor itself has none. It does not know whose standby sessions it serves: to it they are sessions
   without JOIN. It answers each heartbeat on them.
3. A failed attempt is repeated after a pause, which doubles. It changes nothing else.
4. The session is for the next attempt to join its peer. It ends when this node listens or becomes master.
"""

from collections.abc import Callable
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

STANDBY_TIMEOUT: Final = 10.0
"""Seconds in which the session must open. The time is long, because a busy successor must not pay twice."""

STANDBY_INTERVAL: Final = 4.0
"""Seconds between two heartbeats of the member. A server ends a session without JOIN after 10 s of silence."""

STANDBY_DEAD_AFTER: Final = 10.0
"""Seconds of silence after which the session ends."""

PAUSE_MIN: Final = 2.0
PAUSE_MAX: Final = 60.0
"""Seconds: the first and the longest pause after a failed attempt."""


class Standby:
    """The standby session of a member, if it has one. Times are in seconds. `connect` begins an outbound session."""

    def __init__(self, out: list[Action], connect: Callable[[Member, float, float], Link]) -> None:
        self._out = out
        self._connect = connect
        self._peer: Member | None = None
        self.link: Link | None = None
        self._due: float | None = None
        """When to open the session; None: it is open, or none is wanted."""
        self._pause = Backoff()

    @property
    def peer(self) -> Member | None:
        """Return the peer of the open session, None without one."""
        return self.link.peer if self.link is not None and self.link.phase is Phase.STANDBY else None

    def aim(self, group: Group, me: str, now: float) -> None:
        """Have a session with the first successor in `group`, unless this node, with the id `me`, is it."""
        first = next(iter(successors(group, group.master)), None)
        if first is None or first.id == me:
            self.end()
            return
        if self._peer is None or first.id != self._peer.id:
            self.end()
            self._due = now + STANDBY_AFTER + STANDBY_STEP * sum(member.id < me for member in group.members)
        self._peer = first

    def end(self) -> None:
        """End the session, and want none."""
        if self.link is not None:
            self._out.append(Disconnect(self.link.session))
        self._peer = self.link = self._due = None
        self._pause = Backoff()

    def take(self, node_id: str) -> Link | None:
        """Give away the session with a node, open or still connecting; None: there is none."""
        if self._peer is None or self._peer.id != node_id:
            return None
        link, self._peer, self.link, self._due = self.link, None, None, None
        return link

    def opened(self, now: float) -> None:
        """Begin the heartbeats: the session is open."""
        if self.link is not None:
            self.link.phase = Phase.STANDBY
            self._pause = Backoff()
            self._beat(self.link, now)
            self.extend_deadline(now)

    def extend_deadline(self, now: float) -> None:
        """Extend the deadline: the peer has sent a message."""
        if self.link is not None and self.link.phase is Phase.STANDBY:
            self.link.deadline = now + STANDBY_DEAD_AFTER

    def has(self, session: Session) -> bool:
        """Return whether this is the standby session."""
        return self.link is not None and self.link.session == session

    def lost(self, now: float) -> None:
        """Begin the pause: the session has ended, or did not open."""
        self.link = None
        self._pause.failed(now, PAUSE_MIN, PAUSE_MAX)
        self._due = self._pause.until

    def next_deadline(self) -> float | None:
        """Return when `tick` must be called next."""
        if self.link is None:
            return self._due
        return min(self.link.deadline, self.link.next_heartbeat or self.link.deadline)

    def tick(self, now: float, read_until: float) -> None:
        """Do what is due at `now`. This node has read what had arrived before `read_until`."""
        if self.link is None:
            if self._peer is not None and self._due is not None and now >= self._due:
                self._due = None
                self.link = self._connect(self._peer, STANDBY_TIMEOUT, now)
        elif read_until >= self.link.deadline:
            self._out.append(Disconnect(self.link.session))
            self.lost(now)
        elif self.link.phase is Phase.STANDBY and now >= self.link.next_heartbeat:
            self._beat(self.link, now)

    def _beat(self, link: Link, now: float) -> None:
        link.next_heartbeat = now + STANDBY_INTERVAL
        self._out.append(Send(link.session, Heartbeat()))
