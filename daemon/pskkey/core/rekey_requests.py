"""Requests for a new key. No request is lost, and no requester causes too many new keys.

A *requester* is the operator of this node, or a local user. For a master, a member together with a reason is one too.
All session managers of a user are one requester, because after a crash a session manager is a new process.

1. A request is open until a key *serves* it. This is a key with which no node had sent when the request was made. A
   requester has at most one open request. One key serves all open requests.
2. A requester need not repeat its request: the command of the operator ends, and a session manager sends KEY_NEW once.
   So the node keeps the request when the master changes. A member repeats a due request until a key serves it, and
   sends it at once to a new master.
3. The first request of a requester is due at once.
4. A further request is due one pause after the last one was due. The pause begins with FIRST_PAUSE and doubles with
   each request, up to LONGEST_PAUSE. The limit of the operator is LONGEST_OPERATORS_PAUSE. The pause halves for each
   CALM in which no request was due.
5. A request that is not due yet is postponed. If a key serves it before it is due, the pause does not become longer.
6. No requester waits for the pause of another one.
7. The node remembers the pauses of REQUESTERS requesters, and keeps as many open requests. Beyond that it forgets the
   pause that began first, and drops the open request that is due last.
"""

from dataclasses import dataclass
from math import inf

from pskkey.core.keyring import Keyring
from pskkey.core.settings import Settings
from pskkey.model import KeyNewReason

FIRST_PAUSE = 1.0
"""Seconds from the first request of a requester to the time when its second request is due."""

LONGEST_PAUSE = 30.0
"""Maximum seconds between two requests of a requester that asks all the time. A rekey costs each node a few packets,
and each session manager a key derivation. A sender that crashes again and again cannot send for this time."""

LONGEST_OPERATORS_PAUSE = 1.0
"""Maximum seconds between two requests of the operator of this node, who could stop the daemon too. For a master on
another node they are requests of a member."""

CALM = 60.0
"""Seconds without a due request after which the pause of a requester is halved."""

REQUESTERS = 256
"""Maximum number of requesters whose pauses the node remembers, and of open requests."""

OPERATOR = "the operator"


def local_user(uid: int) -> str:
    """Return the requester for all session managers of a user."""
    return f"user {uid}"


def member(node: str, reason: KeyNewReason) -> str:
    """Return the requester for a member and a reason. So requests for one reason do not delay those for another."""
    return f"member {node} ({reason.name.lower()})"


@dataclass(slots=True)
class _Pace:
    """The time when the last request of a requester was due, and the pause after it (seconds)."""

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
    """The fingerprints of the keys that nodes had sent with when the request was made. Any other key serves it."""
    is_counted: bool = False
    met_master: bool = False
    """As a member: whether the node has had a master since the request was made."""
    next_sending: float = -inf


class RekeyRequests:
    """The open requests of a node, and the pace of its requesters."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self._open: dict[str, _Request] = {}
        self._paces: dict[str, _Pace] = {}

    def ask(self, requester: str, reason: KeyNewReason, now: float) -> float | None:
        """Open a request. Return when it is due, None if the requester has an open request already."""
        self._close_served()
        if requester in self._open:
            return None
        pace = self._paces.get(requester)
        due = now if pace is None else pace.next_due(now)
        self._open[requester] = _Request(reason, due, self._keys_sent_with())
        if len(self._open) > REQUESTERS:
            del self._open[max(self._open, key=lambda one: self._open[one].due)]
        return due

    def must_rekey(self, now: float) -> bool:
        """Return whether a request is due, so that a master must make a key."""
        self._close_served()
        return bool(self._due(now))

    def to_send(self, now: float) -> list[KeyNewReason]:
        """Return the reasons for which a member asks its master now."""
        for request in self._open.values():
            if not (request.met_master and request.before):
                # A key that this node receives when it joins is not new to the group, so it serves no request.
                request.before, request.met_master = self._keys_sent_with(), True
        self._close_served()
        sending = [request for request in self._due(now) if now >= request.next_sending]
        for request in sending:
            request.next_sending = now + self._settings.timing.request_interval
        return list(dict.fromkeys(request.reason for request in sending))

    def master_lost(self) -> None:
        """Let `to_send` return all due requests again, because the next master has received none of them."""
        for request in self._open.values():
            request.next_sending = -inf

    def pending(self) -> list[tuple[KeyNewReason, float]]:
        """Return the reason of each open request, and when the request is due."""
        self._close_served()
        return [(request.reason, request.due) for request in self._open.values()]

    def next_deadline(self, now: float) -> float | None:
        """Return when the next postponed request is due, None if there is none."""
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

    def _keys_sent_with(self) -> frozenset[str]:
        coming = self._keyring.next
        return frozenset(e.key.fingerprint for e in self._keyring.entries if e is not coming and not e.unused)
