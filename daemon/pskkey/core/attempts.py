"""The attempt of a node to join or keep a master: its outbound session, with its deadlines."""

from collections.abc import Sequence, Set
from itertools import count
from math import inf
from typing import Final

from pskkey.core import notices
from pskkey.core.actions import STAGGER, Action, Connect, Disconnect, Send
from pskkey.core.addresses import AddressBook
from pskkey.core.events import Direction, Session
from pskkey.core.links import Link, Loss, Phase
from pskkey.core.loss_codes import NO_GROUP
from pskkey.core.renewal import RENEWAL_TIMEOUT, Renewal
from pskkey.core.settings import Settings
from pskkey.core.standby import Standby
from pskkey.model import Advert, Heartbeat, Join, Member, Merge, PskName, Times

UNANSWERED_AFTER: Final = 2.0
"""Heartbeat intervals after which a member sends a heartbeat, if it has received none to answer."""

HANDSHAKE_TIME: Final = 0.05
"""Seconds that a TLS handshake takes on a small device."""

MAX_PATIENCE: Final = 10.0
"""Seconds of the longest wait for a peer that is alive. A frozen peer takes as long."""

BACKED_UP_AFTER: Final = 1.5
"""Time-outs of a `Connect` after which the attempt is over, even without a report of the key client."""


class Outbound:
    """The one outbound session, from `open` to its end. The election decides what to do after the end.

    A member may have a second session that renews the first one (`renewal`). To the election they are one session. And
    it may have a `standby` session with a successor, which becomes the one session when it is needed.
    """

    def __init__(self, settings: Settings, book: AddressBook, out: list[Action]) -> None:
        self._settings = settings
        self._book = book
        self._out = out
        self._numbers = count(1)
        self._renewal = Renewal(settings)
        self.nodes = 1
        """How many nodes may want a session with one node at the same time."""
        self.link: Link | None = None
        self._second: Link | None = None
        """The attempt to renew `link`. While it exists, `link` is JOINED."""
        self.standby = Standby(out, self._connect_standby)

    def open(
        self, peer: Member, timeout: float, now: float, *, in_all: bool = False, patience: float | None = None
    ) -> Link:
        """Begin to connect to `peer`, or take the standby session with it. Return the link: CONNECTING or GREETING.

        `timeout` is for TCP at one address, or, if `in_all`, for all addresses together. `patience` is for a handshake
        after that; None: it depends on `nodes`.
        """
        link = self.standby.take(peer.id)
        if link is None:
            link = self._connect(peer, timeout, now, in_all=in_all, patience=patience)
        elif link.phase is Phase.STANDBY:
            link.phase, link.was_standby = Phase.GREETING, True
            link.deadline = now + self._settings.timing.join_timeout + self.patience
        else:  # its patience is that of a standby session
            timeout = timeout if in_all else self._for_each(timeout, self._book.order(peer))
            link.deadline = min(link.deadline, now + timeout + (self.patience if patience is None else patience))
        link.peer = peer
        self.link = link
        return link

    def yield_on(self, link: Link, message: Join, now: float) -> None:
        """Send JOIN on the session on which this master has lost a merge."""
        link.yields = True
        link.deadline = now + self._settings.timing.join_timeout + self.patience
        self.greet(link, message)

    def _connect_standby(self, peer: Member, patience: float, now: float) -> Link:
        return self._connect(peer, self._settings.timing.successor_timeout, now, patience=patience)

    def _connect(
        self, peer: Member, timeout: float, now: float, *, in_all: bool = False, patience: float | None = None
    ) -> Link:
        session = Session(Direction.OUTBOUND, next(self._numbers))
        addresses = self._book.order(peer)
        if patience is None:
            patience = self.patience
        if not in_all:
            timeout = self._for_each(timeout, addresses)
        self._out.append(Connect(session, peer.id, addresses, peer.port, timeout, patience))
        # The key client observes the time-out and reports the error. This deadline is only a backup.
        return Link(session, peer, now + (timeout + patience) * BACKED_UP_AFTER)

    @staticmethod
    def _for_each(timeout: float, addresses: Sequence[str]) -> float:
        """Return the time-out of all addresses, which are tried one after the other, with this time-out for each."""
        return timeout + STAGGER * max(0, len(addresses) - 1)

    @property
    def patience(self) -> float:
        """Return the seconds for which to wait for a peer that is alive, and may be busy with as many as `nodes`."""
        return min(MAX_PATIENCE, HANDSHAKE_TIME * self.nodes)

    def at(self, session: Session) -> Link | None:
        """Return the link of a session, None if the session is closed. A closed session may still have messages."""
        links = (self.link, self._second)
        return next((link for link in links if link is not None and link.session == session), None)

    def opened(self, session: Session, psk: PskName, address: str, now: float) -> Link | None:
        """Move the link of a new session to GREETING, and return it; None if it is closed already, or for standby.

        The peer has answered at `address`.
        """
        is_standby = self.standby.has(session)
        link = self.standby.opened(session, now) if is_standby else self.at(session)
        if link is None:
            return None
        self._book.note_answer(link.peer.id, address)
        link.address = address
        link.psk = psk
        if is_standby:
            return None
        link.phase = Phase.GREETING
        link.deadline = now + self._settings.timing.join_timeout + self.patience
        return link

    def greet(self, link: Link, message: Join | Merge) -> None:
        """Send the first message on a link, or a changed JOIN on a joined link."""
        link.joined_as = message if isinstance(message, Join) else None
        self._out.append(Send(link.session, message))

    def welcomed(self, link: Link, now: float) -> None:
        """Move a link to JOINED. From now on both ends send heartbeats. A second link replaces the first one."""
        if link is self._second and self.link is not None:
            self._out.append(Disconnect(self.link.session))
            link.joined_at = self.link.joined_at
            self.link, self._second = link, None
        else:
            link.joined_at = now
            self._renewal.peer_changed()
        link.phase, link.yields = Phase.JOINED, False
        link.deadline = now + self._dead_after(link)
        self._beat(link, now)  # it confirms to the master that GROUP has arrived

    def set_peer_times(self, link: Link, times: Times, now: float) -> None:
        """Set the times of the peer, and extend the deadline of the link by them."""
        link.peer_times = times
        self.extend_deadline(link.session, now)

    def extend_deadline(self, session: Session, now: float) -> None:
        """Extend the deadline of a session, because a message proves that the peer lives.

        A peer that is not master yet has `takeover_patience` to become it.
        """
        link = self.at(session)
        if link is None:
            self.standby.extend_deadline(session, now)
        elif link.phase is Phase.JOINED:
            link.deadline = now + self._dead_after(link)
        elif link.phase is Phase.GREETING and not link.has_patience:
            link.has_patience = True
            link.deadline = max(link.deadline, now + self._settings.timing.takeover_patience)

    def answer(self, session: Session, now: float) -> None:
        """Answer a heartbeat of the master at once. So each end wakes up only once for the two heartbeats.

        Two answers are at least half an interval apart, even if the master sends heartbeats more often.
        """
        link, interval = self.at(session), self._settings.timing.heartbeat_interval
        may_answer_at = -inf if link is None else link.next_heartbeat - (UNANSWERED_AFTER - 0.5) * interval
        if link is not None and link.phase is Phase.JOINED and now >= may_answer_at:
            self._beat(link, now)

    def beat(self, now: float) -> None:
        """Make the next heartbeat due now. Its interval may have changed."""
        if self.link is not None:
            self.link.next_heartbeat = now

    def drop(self) -> None:
        """Close the session, if there is one, and end the attempt to renew it."""
        if self.link is not None:
            self._out.append(Disconnect(self.link.session))
        self.forget()

    def forget(self) -> Link | None:
        """Forget a session that is over, and return its link. End the attempt to renew it."""
        self._drop_second()
        link, self.link = self.link, None
        return link

    def next_deadline(self) -> float | None:
        """Return when `tick` must be called next."""
        link, times = self.link, [self.standby.next_deadline()]
        if link is not None:
            times.append(link.deadline)
        if link is not None and link.phase is Phase.JOINED:
            renews_at = self._second.deadline if self._second is not None else self._renewal.due_at(link.psk)
            times += [link.next_heartbeat, renews_at]
        return min((time for time in times if time is not None), default=None)

    def tick(self, now: float, read_until: float) -> Loss | None:
        """Do what is due at `now`. If the session is over, return the cause, else None.

        This node has read what had arrived before `read_until`.
        """
        link, second = self.link, self._second
        self.standby.tick(now, read_until)
        if link is None:
            return None
        if read_until >= link.deadline:
            self._out.append(Disconnect(link.session))
            return self._explain_silence(link)
        if link.phase is not Phase.JOINED:
            return None
        if now >= link.next_heartbeat:
            self._beat(link, now)
        if second is not None and read_until >= second.deadline:
            self._out.append(Disconnect(second.session))
            return self._not_renewed(f"no answer while {second.phase}", now)
        renews_at = self._renewal.due_at(link.psk)
        if second is None and renews_at is not None and now >= renews_at:
            self._second = self._connect(link.peer, RENEWAL_TIMEOUT, now)
        return None

    def _dead_after(self, link: Link) -> float:
        """Return the seconds of silence after which the session of `link` ends: the longer time of its two ends."""
        ours = self._settings.timing.dead_after
        return ours if link.peer_times is None else max(ours, link.peer_times.dead_after)

    def _explain_silence(self, link: Link) -> Loss:
        if link.phase is Phase.JOINED:
            return Loss("timeout", "it fell silent")
        if link.joined_as is None:
            return Loss("timeout", f"no answer while {link.phase}")
        return Loss(NO_GROUP, "it accepted the session, but its answer to JOIN did not arrive")

    # --- another PSK --------------------------------------------------------------------------------------------

    def psk_changed(self, active: PskName, accepted: Set[PskName], now: float) -> None:
        """Record the new PSKs, and end a renewal that is still connecting. `tick` begins the next one."""
        self.standby.psk_changed(now)
        self._renewal.psk_changed(active, accepted)
        if self._second is not None and self._second.phase is Phase.CONNECTING:
            self._drop_second()

    def ended(self, session: Session, code: str, reason: str, now: float) -> Loss | None:
        """Process the end of a session. If the link is lost, return the cause, else None."""
        link, second = self.link, self._second
        if self.standby.has(session):
            self.standby.lost(session, now, code)
            return None
        if second is not None and second.session == session:
            return self._not_renewed(reason, now)
        if link is None or link.session != session:
            return None
        if second is None or second.phase is Phase.CONNECTING:
            return Loss(code, reason)
        # JOIN was sent on the second session. So the master may live, and may have closed the first session itself.
        second.deadline = min(second.deadline, now + self._dead_after(link))
        self.link, self._second = second, None
        return None

    def _not_renewed(self, reason: str, now: float) -> Loss | None:
        """Process a failed attempt to renew the link. If the link is over too, return the cause, else None."""
        self._second = None
        is_first = self._renewal.failed(now)
        if (link := self.link) is None:
            return None
        if self._renewal.is_removed(link.psk):
            self._out.append(Disconnect(link.session))
            removed = f"its PSK, identity {link.psk.identity!a}, was removed from our PSK file: {reason}"
            return Loss("psk_removed", removed)
        if is_first:
            self._out.append(notices.RenewalFailed(link.peer, link.psk.identity, reason))
        return None

    def _drop_second(self) -> None:
        if self._second is not None:
            self._out.append(Disconnect(self._second.session))
            self._second = None

    def _beat(self, link: Link, now: float) -> None:
        link.next_heartbeat = now + UNANSWERED_AFTER * self._settings.timing.heartbeat_interval
        self._out.append(Send(link.session, Heartbeat()))


def as_member(advert: Advert) -> Member:
    """Return the node that an advert describes, as a member."""
    known = (advert.id, advert.name, advert.addresses, advert.port, advert.priority, advert.eligible)
    return Member(*known, speaks=advert.speaks)
