"""Requests for a new key: who may have the group rekey how often, and that none is lost.

A requester is the operator of this node, a local user (all session managers of that user are one, for one that crashes
begins with a new process), or, at the master, a member together with its reason.

1. A request is open until there is a key that is newer than all that were in use when it was made. Requests of one
   requester are one while it is open, and one key serves all that are open.
2. The requester does not ask again: the operator's command has ended, and a session manager asks once for each key. So
   the request is ours, whatever becomes of the master: a client sends it again, and to each master that comes.
3. The first request of a requester is due at once.
4. A further one is due a pause after the last one was. The pause is FIRST_PAUSE, and doubles each time, up to
   LONGEST_PAUSE (an operator's: LONGEST_OPERATORS_PAUSE). It halves with each CALM in which nothing was due.
5. What is not due yet is postponed and not lost. A key that comes meanwhile serves it, and then it does not count.
6. Nobody's request waits for a pause of another requester.
7. Of REQUESTERS the pauses are known, and as many requests are open. Beyond that the pause that began first is
   forgotten, and of open requests the one that is due last makes way.
"""

from dataclasses import dataclass
from math import inf

from pskkey.core.keyring import Keyring
from pskkey.core.settings import Settings
from pskkey.model import KeyNewReason

FIRST_PAUSE = 1.0
"""Seconds from a requester's first request to when its second one is due."""

LONGEST_PAUSE = 30.0
"""Seconds between two requests of a requester that asks all the time. A rekey costs every node of the group a few
packets and every session manager a key derivation, and this long a sender that crashes again and again is mute."""

LONGEST_OPERATORS_PAUSE = 1.0
"""Seconds between two of this node's operator, who may stop the daemon as well. To the master of another node they are
requests of a member."""

CALM = 60.0
"""Seconds without a request that is due, after which the pause of a requester is half as long."""

REQUESTERS = 256
"""How many requesters are remembered, and how many may have an open request."""

OPERATOR = "the operator"


def local_user(uid: int) -> str:
    """Return the requester that all session managers of a user are."""
    return f"user {uid}"


def member(node: str, reason: KeyNewReason) -> str:
    """Return the requester that a member is to its master. A user of that node must not hold up another's reason."""
    return f"member {node} ({reason.name.lower()})"


@dataclass(slots=True)
class _Pace:
    """When the last request of a requester was due, and how long after that the next one is."""

    last: float
    pause: float

    def next_due(self, now: float) -> float:
        return max(now, self.last + self.pause)

    def next_pause(self, now: float, longest: float) -> float:
        calms = min(int((now - self.last) // CALM), 16)
        return min(max(FIRST_PAUSE, 2 * self.pause * 0.5**calms), longest)


@dataclass(slots=True)
class _Request:
    reason: KeyNewReason
    due: float
    before: frozenset[str]
    """The fingerprints of the keys that had had their turn when it was made: any other one is new."""
    is_counted: bool = False
    met_master: bool = False
    """As a client: whether a master whose keys we have was sent it, or would have been if it had been due."""
    next_sending: float = -inf


class RekeyRequests:
    """The open requests of a node, and the pace of its requesters."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self._open: dict[str, _Request] = {}
        self._paces: dict[str, _Pace] = {}

    def ask(self, requester: str, reason: KeyNewReason, now: float) -> float | None:
        """Open a request; return when it is due, or None if the requester has one open already."""
        self._close_served()
        if requester in self._open:
            return None
        pace = self._paces.get(requester)
        due = now if pace is None else pace.next_due(now)
        self._open[requester] = _Request(reason, due, self._had_their_turn())
        if len(self._open) > REQUESTERS:
            del self._open[max(self._open, key=lambda one: self._open[one].due)]
        return due

    def must_roll(self, now: float) -> bool:
        """Tell a master whether a key is to be made."""
        self._close_served()
        return bool(self._due(now))

    def to_send(self, now: float) -> list[KeyNewReason]:
        """Return the reasons with which a client has to ask its master now."""
        for request in self._open.values():
            if not (request.met_master and request.before):
                # What we come to hold by joining is new to us only.
                request.before, request.met_master = self._had_their_turn(), True
        self._close_served()
        sending = [request for request in self._due(now) if now >= request.next_sending]
        for request in sending:
            request.next_sending = now + self._settings.timing.request_interval
        return list(dict.fromkeys(request.reason for request in sending))

    def master_lost(self) -> None:
        """The next master has received nothing of it yet."""
        for request in self._open.values():
            request.next_sending = -inf

    def pending(self) -> list[tuple[KeyNewReason, float]]:
        """Return why a new key was asked for, and when that is due, for each open request."""
        self._close_served()
        return [(request.reason, request.due) for request in self._open.values()]

    def next_deadline(self, now: float) -> float | None:
        """Return when a postponed request is due."""
        return min((r.due for r in self._open.values() if r.due > now), default=None)

    def _due(self, now: float) -> list[_Request]:
        due = []
        for requester, request in self._open.items():
            if request.due <= now:
                due.append(request)
                if not request.is_counted:
                    request.is_counted = True
                    self._count(requester, now)
        return due

    def _count(self, requester: str, now: float) -> None:
        longest = LONGEST_OPERATORS_PAUSE if requester == OPERATOR else LONGEST_PAUSE
        last = self._paces.pop(requester, None)
        self._paces[requester] = _Pace(now, FIRST_PAUSE if last is None else last.next_pause(now, longest))
        if len(self._paces) > REQUESTERS:
            del self._paces[next(iter(self._paces))]

    def _close_served(self) -> None:
        newest = self._keyring.newest
        if newest is not None:
            fingerprint = newest.key.fingerprint
            self._open = {one: r for one, r in self._open.items() if fingerprint in r.before}

    def _had_their_turn(self) -> frozenset[str]:
        coming = self._keyring.next
        return frozenset(e.key.fingerprint for e in self._keyring.entries if e is not coming and not e.unused)
