"""What a node is in the middle of, and until when: listening, or an outbound session."""

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple

from pskkey.core import notices
from pskkey.core.actions import Action, Connect, Disconnect, Send
from pskkey.core.events import Direction, Session
from pskkey.core.renewal import RENEWAL_TIMEOUT, Renewal
from pskkey.core.settings import Settings
from pskkey.model import UNNAMED_PSK, Advert, Heartbeat, Join, Member, Merge, PskName

UNANSWERED_AFTER: Final = 1.5
"""Heartbeat intervals after which ours goes out though the peer's, which it would have answered, has not come."""


BACKED_UP_AFTER: Final = 1.5
"""Time-outs of an attempt to connect after which it is over even if the key client has not reported so."""


class Phase(StrEnum):
    """How far an outbound session has come."""

    CONNECTING = "connecting"
    GREETING = "greeting"
    JOINED = "joined"


@dataclass(slots=True)
class Link:
    """An outbound session: to join `peer`, or, from a master, to settle with it."""

    session: Session
    peer: Member
    deadline: float
    phase: Phase = Phase.CONNECTING
    next_heartbeat: float = 0.0
    psk: PskName = UNNAMED_PSK
    """The PSK that it was opened with, once it is open."""
    joined_as: Join | None = None
    """The JOIN that was sent on it last."""
    acked: str = ""
    """The fingerprint of the key that was acknowledged on it last."""


class Loss(NamedTuple):
    """Why a session is over: `code` is of an ERROR packet, or ours; `reason` is for people."""

    code: str
    reason: str


class Outbound:
    """Opens, watches and ends the one outbound session; what came of it is for the election to judge.

    As a member there may be a second one, to renew it (`renewal`). The election sees them as one session.
    """

    def __init__(self, settings: Settings, out: list[Action]) -> None:
        self._settings = settings
        self._out = out
        self._numbers = count(1)
        self._renewal = Renewal(settings)
        self.link: Link | None = None
        self._second: Link | None = None
        """The attempt to renew the link, which is JOINED as long as this is here."""

    def open(self, peer: Member, timeout: float, now: float) -> None:
        """Begin to connect to `peer`."""
        self.link = self._connect(peer, timeout, now)

    def _connect(self, peer: Member, timeout: float, now: float) -> Link:
        session = Session(Direction.OUTBOUND, next(self._numbers))
        self._out.append(Connect(session, peer.id, peer.addresses, peer.port, timeout))
        # The key client keeps the time-out itself and says what went wrong; ours only backs it up.
        return Link(session, peer, now + timeout * BACKED_UP_AFTER)

    def at(self, session: Session) -> Link | None:
        """Return the link if `session` is one in use; others are closed already and only still talking."""
        links = (self.link, self._second)
        return next((link for link in links if link is not None and link.session == session), None)

    def opened(self, session: Session, psk: PskName, now: float) -> Link | None:
        """The session is open, and it is our turn to speak; return None when it is of no more use to us."""
        link = self.at(session)
        if link is not None:
            link.phase = Phase.GREETING
            link.deadline = now + self._settings.timing.join_timeout
            link.psk = psk
        return link

    def greet(self, link: Link, message: Join | Merge) -> None:
        """Send why we came, or, on a link that is joined, the JOIN that has changed."""
        link.joined_as = message if isinstance(message, Join) else None
        self._out.append(Send(link.session, message))

    def welcomed(self, link: Link, now: float) -> None:
        """The peer took us in: from now on it must be heard, and hears us."""
        if link is self._second and self.link is not None:
            self._out.append(Disconnect(self.link.session))
            self.link, self._second = link, None
        link.phase = Phase.JOINED
        link.deadline = now + self._settings.timing.dead_after
        link.next_heartbeat = now + UNANSWERED_AFTER * self._settings.timing.heartbeat_interval

    def heard(self, session: Session, now: float) -> None:
        """Any message at all came from the peer: it lives."""
        link = self.at(session)
        if link is not None and link.phase is Phase.JOINED:
            link.deadline = now + self._settings.timing.dead_after

    def answer(self, session: Session, now: float) -> None:
        """A heartbeat came, so ours goes out with it: each end wakes up once for the two of them.

        However often it comes, ours goes out at most twice in an interval.
        """
        link, interval = self.at(session), self._settings.timing.heartbeat_interval
        if link is not None and link.phase is Phase.JOINED and now >= link.next_heartbeat - interval:
            self._beat(link, now)

    def beat(self, now: float) -> None:
        """Let the next heartbeat be due: how often they come may have changed."""
        if self.link is not None:
            self.link.next_heartbeat = now

    def drop(self) -> None:
        """End the session, if there is one."""
        if self.link is not None:
            self._out.append(Disconnect(self.link.session))
        self.lost()

    def lost(self) -> Link | None:
        """The session is over: return what it was, and end the attempt to renew it."""
        self._drop_second()
        link, self.link = self.link, None
        return link

    def next_deadline(self) -> float | None:
        """Return when `tick` must be called next."""
        link = self.link
        if link is None:
            return None
        if link.phase is not Phase.JOINED:
            return link.deadline
        renews_at = self._second.deadline if self._second is not None else self._renewal.due_at(link.psk)
        times = (link.deadline, link.next_heartbeat, renews_at)
        return min(time for time in times if time is not None)

    def tick(self, now: float) -> Loss | None:
        """Do what the time has come for; return why the session is over, None while it goes on."""
        link, second = self.link, self._second
        if link is None:
            return None
        if now >= link.deadline:
            self._out.append(Disconnect(link.session))
            return Loss("timeout", "it fell silent" if link.phase is Phase.JOINED else f"no answer while {link.phase}")
        if link.phase is not Phase.JOINED:
            return None
        if now >= link.next_heartbeat:
            self._beat(link, now)
        if second is not None and now >= second.deadline:
            self._out.append(Disconnect(second.session))
            return self._not_renewed(f"no answer while {second.phase}", now)
        renews_at = self._renewal.due_at(link.psk)
        if second is None and renews_at is not None and now >= renews_at:
            self._second = self._connect(link.peer, RENEWAL_TIMEOUT, now)
        return None

    # --- another PSK --------------------------------------------------------------------------------------------

    def psk_changed(self, active: PskName, accepted: Set[PskName]) -> None:
        """Sessions are opened with another PSK from now on: what is outdated by it is renewed at the next `tick`."""
        self._renewal.psk_changed(active, accepted)
        if self._second is not None and self._second.phase is Phase.CONNECTING:
            self._drop_second()

    def ended(self, session: Session, code: str, reason: str, now: float) -> Loss | None:
        """One of our sessions is over, or of no more use; return why the link is lost, None if it goes on."""
        link, second = self.link, self._second
        if second is not None and second.session == session:
            return self._not_renewed(reason, now)
        if link is None or link.session != session:
            return None
        if second is None or second.phase is Phase.CONNECTING:
            return Loss(code, reason)
        # The master has taken our JOIN on the second one, as far as we know. It is alive, or was so a moment ago.
        second.deadline = min(second.deadline, now + self._settings.timing.dead_after)
        self.link, self._second = second, None
        return None

    def _not_renewed(self, reason: str, now: float) -> Loss | None:
        """The attempt to renew the link has failed; return why the link is over as well, None if it goes on."""
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


HINTS_FOR: Final = 0.3
"""Seconds for which a candidate tries to join those that only hints call master, before it claims."""


@dataclass(slots=True)
class Listening:
    """Looking for a master until `until`; then the wait of the k-th best candidate, until `claim_at`.

    A join that fails opens the window again, but not beyond `latest`: somebody who makes joins fail must not put off
    the claim for ever. A master of which there is proof is joined at once. Mere hints are tried when the window is
    over, until `claim_at`, which they put off by HINTS_FOR at most.
    """

    until: float
    latest: float
    claim_at: float | None = None


def as_member(advert: Advert) -> Member:
    """Return whom an advert speaks of."""
    return Member(advert.id, advert.name, advert.addresses, advert.port, advert.priority, advert.eligible)
