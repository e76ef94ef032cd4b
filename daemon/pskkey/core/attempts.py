"""What a node is in the middle of, and until when: listening, or an outbound session."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Final

from pskkey.core.actions import Action, Connect, Disconnect, Send
from pskkey.core.events import Direction, Session
from pskkey.core.settings import Settings
from pskkey.model import Advert, Heartbeat, Member

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
    """The one outbound session: to join `peer`, or, from a master, to settle with it."""

    session: Session
    peer: Member
    deadline: float
    phase: Phase = Phase.CONNECTING
    next_heartbeat: float = 0.0


class Outbound:
    """Opens, watches and ends the one outbound session; what came of it is for the election to judge."""

    def __init__(self, settings: Settings, out: list[Action]) -> None:
        self._settings = settings
        self._out = out
        self._numbers = count(1)
        self.link: Link | None = None

    def open(self, peer: Member, timeout: float, now: float) -> None:
        """Begin to connect to `peer`."""
        session = Session(Direction.OUTBOUND, next(self._numbers))
        # The key client keeps the time-out itself and says what went wrong; ours only backs it up.
        self.link = Link(session, peer, now + timeout * BACKED_UP_AFTER)
        self._out.append(Connect(session, peer.id, peer.addresses, peer.port, timeout))

    def at(self, session: Session) -> Link | None:
        """Return the link if `session` is the one in use; others are closed already and only still talking."""
        return self.link if self.link is not None and self.link.session == session else None

    def opened(self, session: Session, now: float) -> bool:
        """The session is open, and it is our turn to speak; return False when it is of no more use to us."""
        link = self.at(session)
        if link is None:
            return False
        link.phase = Phase.GREETING
        link.deadline = now + self._settings.timing.join_timeout
        return True

    def welcomed(self, link: Link, now: float) -> None:
        """The peer took us in: from now on it must be heard, and hears us."""
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
            self.link = None

    def next_deadline(self) -> float | None:
        """Return when `tick` must be called next."""
        link = self.link
        if link is None:
            return None
        return min(link.deadline, link.next_heartbeat) if link.phase is Phase.JOINED else link.deadline

    def tick(self, now: float) -> str | None:
        """Send a heartbeat when it is due; return what is wrong when the peer's time is over."""
        link = self.link
        if link is None:
            return None
        if now >= link.deadline:
            return "it fell silent" if link.phase is Phase.JOINED else f"no answer while {link.phase}"
        if link.phase is Phase.JOINED and now >= link.next_heartbeat:
            self._beat(link, now)
        return None

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
