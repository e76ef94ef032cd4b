"""The other nodes: what their adverts announce, and which of them are in hold-down.

An advert is a *proof* that its sender is master now, or only a *hint*, because it may be old (`freshness`). mDNS does
not notice a death, and anybody can replay an old advert. So a record can describe a node that is gone:

1. Hints do not change the record of a proven master. A proof counts for PROVEN_FOR, and so does a refusal in a session.
2. A claim to be master counts for MASTER_LIFE after it was heard. Any other advert counts for ADVERT_LIFE.
3. A goodbye has no effect, because it is not authenticated. The record of a node that has left expires.
4. A node that could not be joined is in *hold-down*: this node does not try it for a while. This time doubles with each
   failure. It ends early if the node proves a higher term than at the failure, or if its full group has a free place
   again, or if our pre-shared key (PSK) changes.
5. The table has at most MAX_PEERS records. The record that was updated the longest ago makes room for a new one.

Some nodes are heard but accept no connection, for instance behind a firewall. They can be members. Such a node is *out
of reach* of a master that has failed to hand over to it. The master then waits OUT_OF_REACH_MIN before it tries that
node again. This time doubles with each failure.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from pskkey.core.freshness import PROVEN_FOR
from pskkey.core.loss_codes import MAY_BE_BUSY, NO_COMMON_LEVEL, REFUSALS
from pskkey.core.rank import Candidate, candidate_order, merge_order
from pskkey.core.settings import Settings
from pskkey.model import Advert, Levels, Role

OUT_OF_REACH_MIN: Final = 60.0
OUT_OF_REACH_MAX: Final = 3600.0
"""Seconds without handovers to a node after a failed one: the first pause and the longest one."""

MASTER_LIFE: Final = 15.0
"""Seconds for which a claim to be master counts. A master repeats its advert every `beacon_interval`, but only a change
of the advert is an event. Its challenge changes every CHALLENGE_EVERY."""

ADVERT_LIFE: Final = 120.0
"""Seconds for which any other advert counts: the TTL of its DNS record."""

PATH_HOLD_MAX: Final = 5.0
"""Seconds of the longest hold-down of a proven master if the path does not carry an attempt to join it, or its answer.
An attempt costs it a handshake and one GROUP at most, and its members nothing. With the time of a failed attempt, it is
tried again within 8 s after the path has been mended."""

DEAD_FOR: Final = 300.0
"""Seconds for which a recorded claim is ignored after nothing listened at its address. The node may start again."""

MAX_PEERS: Final = 2048
"""Records in the table: twice the default `max_members`. A holder of the PSK can invent any number of nodes."""

MAX_CLAIMS: Final = 64
"""Nodes that may claim to be master at once. A master examines all of them at each event."""

MAX_COURTESY: Final = 3
"""Better candidates for which a candidate waits one `claim_step` each. If it knows more of them, it waits MAX_COURTESY
steps, and up to as many steps again by its id, so that claims differ in time. So invented candidates cannot delay a
claim further."""


@dataclass(slots=True)
class Backoff:
    """A pause after a failure, twice as long each time. Times are in seconds."""

    until: float = float("-inf")
    length: float = 0.0

    def failed(self, now: float, first: float, longest: float) -> None:
        """Begin a pause at `now`: `first` seconds, later twice the last length, `longest` at most."""
        self.length = min(self.length * 2 or first, longest)
        self.until = now + self.length

    def end(self) -> None:
        """End the pause, but keep its length for the next failure."""
        self.until = float("-inf")

    def is_on(self, now: float) -> bool:
        """Return whether the pause lasts at `now`."""
        return now < self.until


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt to join a node, or to merge with it. `code` and `reason` are as in `attempts.Loss`."""

    code: str
    reason: str
    address: str
    at: float
    """The time of the first failure since the last success, in seconds."""


@dataclass(slots=True)
class _Peer:
    """The record of one node."""

    advert: Advert | None = None
    heard_at: float = 0.0
    proven_until: float = float("-inf")
    proven_at: float = float("-inf")
    """The time of its last proof."""
    listening_since: float | None = None
    hold_down: Backoff = field(default_factory=Backoff)
    hold_term: float = 0
    """The term above which a proof ends the hold-down."""
    dead_term: int = -1
    dead_until: float = float("-inf")
    """Until when hints of no higher term than `dead_term` are ignored, because nothing listened at its address."""
    failure: Failure | None = None
    """The last failed attempt to join it or to merge with it, until one succeeds."""
    is_full: bool = False
    """Whether its last proof was of a full group."""
    has_refused_us: bool = False
    out_of_reach: Backoff = field(default_factory=Backoff)


class Peers:
    """The table of the other nodes, by id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._peers: dict[str, _Peer] = {}
        """By node id. The record that was updated the longest ago comes first."""
        self._masters: dict[str, Advert] = {}
        """The adverts of the nodes that claim to be master, by node id: a master reads them at each event."""
        self._differing: dict[str, Advert] = {}
        """The adverts of the nodes that speak other protocol levels than we do, by node id."""

    def __len__(self) -> int:
        return len(self._peers)

    # --- adverts ------------------------------------------------------------------------------------------------

    def learn(self, advert: Advert, now: float, *, is_proof: bool) -> None:
        """Record an advert, unless it is a hint about a node that is proven to be master."""
        known = self._peers.get(advert.id)
        if known is not None and not is_proof and now < known.proven_until:
            return
        peer = self._peer(advert.id)
        if advert.role is Role.MASTER and is_proof:
            peer.proven_at, peer.proven_until = now, now + PROVEN_FOR
            if advert.term > peer.hold_term or (peer.is_full and not advert.is_full):
                peer.hold_down.end()
            peer.is_full, peer.dead_term = advert.is_full, -1
        elif advert.role is Role.MASTER and advert.term <= peer.dead_term and now < peer.dead_until:
            return
        peer.advert, peer.heard_at = advert, now
        if advert.role is not Role.LISTENING:
            peer.listening_since = None
        elif peer.listening_since is None:
            peer.listening_since = now
        self._masters.pop(advert.id, None)
        self._differing.pop(advert.id, None)
        if advert.role is not Role.MASTER:
            peer.failure = None
        else:
            self._masters[advert.id] = advert
            if len(self._masters) > MAX_CLAIMS:
                del self._masters[next(iter(self._masters))]
        if advert.speaks != self._settings.me.speaks:
            self._differing[advert.id] = advert

    def psk_changed(self) -> None:
        """Forget the adverts, because their PSK may be removed. End the hold-downs, because a join may succeed now.

        The claim of a node that has refused us stays until its proof expires, because the refusal came in a session.
        """
        for node_id, peer in self._peers.items():
            peer.hold_down.end()
            if not peer.has_refused_us:
                self._masters.pop(node_id, None)
                peer.advert = peer.listening_since = None
                peer.proven_until = float("-inf")

    def forget_claim(self, node_id: str) -> None:
        """Forget the claim of a node that has answered `not_master` in a session."""
        self._masters.pop(node_id, None)
        if (peer := self._peers.get(node_id)) is not None:
            peer.advert = peer.failure = None
            peer.proven_until = float("-inf")

    def is_proven(self, node_id: str, now: float) -> bool:
        """Return whether a node is proven to be master."""
        peer = self._peers.get(node_id)
        return peer is not None and now < peer.proven_until

    def claims(self, now: float) -> list[Advert]:
        """Return the adverts of the nodes that claim to be master and that we may join. The best one comes first.

        Proven masters come before hints. Within each kind, the order is that of a merge (`merge_order`).
        """
        found = [a for a in self._masters.values() if self.may_join(a, now) and self._counts(a.id, now)]
        return sorted(found, key=lambda a: (not self.is_proven(a.id, now), *merge_order(a.members, a.priority, a.id)))

    def may_join(self, advert: Advert, now: float) -> bool:
        """Return whether a node is not in hold-down, and has a protocol level in common with us."""
        speaks_with_us = advert.speaks.common(self._settings.me.speaks) is not None
        return speaks_with_us and not self.is_in_hold_down(advert.id, now)

    def strangers(self, speaks: Levels, now: float) -> Iterator[Advert]:
        """Yield the adverts of the nodes that speak no level of the range `speaks`."""
        for node_id, advert in sorted(self._differing.items()):
            if advert.speaks.common(speaks) is None and self._counts(node_id, now):
                yield advert

    def proven_masters(self, now: float) -> list[Advert]:
        """Return the `claims` of proven masters, in the same order."""
        return [a for a in self.claims(now) if self.is_proven(a.id, now)]

    def has_rival(self, members: frozenset[str], since: float, now: float) -> bool:
        """As master since the time `since`, return whether another master has proved itself, and a merge is to come.

        `members` are the ids of our members. Meanwhile a new key is not used before its deadline, because the nodes of
        the other master do not have it yet.
        """
        return any(a.id not in members and self._peers[a.id].proven_at > since for a in self.claims(now))

    def count_proven_masters(self, now: float) -> int:
        """Return how many other nodes are proven to be masters."""
        return sum(self.is_proven(node_id, now) for node_id in self._masters)

    def claim_of(self, node_id: str, now: float) -> Advert | None:
        """Return the advert by which a node claims to be master, even in hold-down; None without a claim."""
        return self._masters.get(node_id) if self._counts(node_id, now) else None

    def was_refused(self, now: float) -> bool:
        """Return whether a node that is proven to be master has refused us as a member."""
        return any(
            self._peers[node_id].has_refused_us and self.is_proven(node_id, now)
            for node_id in self._masters
            if node_id in self._peers
        )

    def claim_at(self, me: Candidate, now: float) -> float:
        """Return when `me`, whose discovery window ends now, claims mastership if no other node does.

        Each better candidate, up to MAX_COURTESY of them, has one step to claim first. A node that claims to be master
        is not a candidate. Our time is at least one step away from the end of each better candidate's window, so that
        the claims differ in time.
        """
        mine, step = candidate_order(me), self._settings.timing.claim_step
        better = [
            peer
            for node_id, peer in self._peers.items()
            if (a := peer.advert) and a.eligible and candidate_order(a) < mine and a.role is not Role.MASTER
            if not self.is_in_hold_down(node_id, now) and self._counts(node_id, now)
        ]
        if len(better) > MAX_COURTESY:
            return now + MAX_COURTESY * step * (1 + int(me.id[:4], 16) / 0x10000)
        at = now + len(better) * step
        for since in sorted(peer.listening_since for peer in better if peer.listening_since is not None):
            window_end = since + self._settings.timing.discovery_window
            if at - step < window_end < at + step:
                at = window_end + step
        return at

    # --- hold-down ----------------------------------------------------------------------------------------------

    def hold_down(
        self, node_id: str, now: float, longest: float, code: str = "", *, whatever_term: bool = False
    ) -> None:
        """Begin the hold-down of a node, for at most `longest` seconds. `code` is as in `attempts.Loss`.

        A proven master is in hold-down for at most PATH_HOLD_MAX, unless it has refused us in a session, or has no
        level in common with us. A higher term of the node does not end the hold-down if it holds for `whatever_term`.
        """
        refused = code in REFUSALS
        if not refused and code != NO_COMMON_LEVEL and self.is_proven(node_id, now):
            longest = min(longest, PATH_HOLD_MAX)
        peer = self._peer(node_id)
        peer.hold_down.failed(now, self._settings.timing.hold_down_min, longest)
        peer.hold_term = inf if whatever_term else peer.advert.term if peer.advert else 0
        peer.has_refused_us = refused
        if refused:  # the refusal came in a session, so the node is alive
            peer.proven_until = max(peer.proven_until, now + PROVEN_FOR)

    def clear_hold_down(self, node_id: str) -> None:
        """Forget the hold-down and the refusal of a node that this node has joined, or that is the next master."""
        if (peer := self._peers.get(node_id)) is not None:
            peer.hold_down, peer.has_refused_us = Backoff(), False

    def is_in_hold_down(self, node_id: str, now: float) -> bool:
        """Return whether a node is in hold-down."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.hold_down.is_on(now)

    def next_release(self, now: float) -> float | None:
        """Return when the next hold-down of a node that claims to be master ends; None if there is none."""
        ends = [peer.hold_down.until for node_id in self._masters if (peer := self._peers.get(node_id)) is not None]
        return min((end for end in ends if end > now), default=None)

    def forget_failures(self, node_id: str) -> None:
        """Forget the failures of a node that this node has joined: it accepts connections."""
        self.clear_hold_down(node_id)
        if (peer := self._peers.get(node_id)) is not None:
            peer.out_of_reach, peer.failure = Backoff(), None

    def forget_failure(self, node_id: str) -> None:
        """Forget the last failed attempt with a node, because one has succeeded."""
        if (peer := self._peers.get(node_id)) is not None:
            peer.failure = None

    def is_in_lasting_hold_down(self, node_id: str, now: float) -> bool:
        """Return whether a node is in a hold-down that a higher term does not end."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.hold_down.is_on(now) and peer.hold_term == inf

    def has_newer_term(self, node_id: str, term: int) -> bool:
        """Return whether the last advert of a node has a higher term than `term`."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.advert is not None and peer.advert.term > term

    def note_failure(self, node_id: str, failure: Failure) -> bool:
        """Record a failed attempt. Return whether the last one did not fail for the same reason."""
        peer = self._peer(node_id)
        before = peer.failure
        peer.failure = failure if before is None else replace(failure, at=before.at)
        return before is None or before.code != failure.code

    def failure_of(self, node_id: str) -> Failure | None:
        """Return the last failed attempt to join a node or to merge with it; None: there is none, or one succeeded."""
        return peer.failure if (peer := self._peers.get(node_id)) is not None else None

    def has_proved_lately(self, node_id: str, failure: Failure, now: float) -> bool:
        """Return whether a node has proved to be master since a failure, within MASTER_LIFE. Else it may be dead."""
        peer = self._peers.get(node_id)
        return peer is not None and max(failure.at, now - MASTER_LIFE) < peer.proven_at

    def count_busy_masters(self, now: float) -> int:
        """Return how many nodes are proven to be master, and may only have been too busy for this node."""
        failures = (self.failure_of(node_id) for node_id in self._masters if self.is_proven(node_id, now))
        return sum(failure is not None and failure.code in MAY_BE_BUSY for failure in failures)

    def failures(self, now: float) -> Iterator[tuple[Advert, Failure]]:
        """Yield the adverts of the nodes that claim to be master and could not be joined, with the failures."""
        for node_id, advert in sorted(self._masters.items()):
            failure = self.failure_of(node_id)
            if failure is not None and self._counts(node_id, now):
                yield advert, failure

    def knows_eligible(self, now: float) -> bool:
        """Return whether another node is known that may become master."""
        return any(p.advert is not None and p.advert.eligible and self._counts(i, now) for i, p in self._peers.items())

    def note_dead(self, node_id: str, now: float) -> None:
        """Forget the claim of a node where nothing listens, and ignore it for DEAD_FOR."""
        peer = self._peer(node_id)
        peer.dead_term, peer.dead_until = peer.advert.term if peer.advert else -1, now + DEAD_FOR
        self.forget_claim(node_id)

    def handover_failed(self, node_id: str, now: float) -> None:
        """Stop handovers to a node for a while: this node has yielded to it, and could not connect to it."""
        self._peer(node_id).out_of_reach.failed(now, OUT_OF_REACH_MIN, OUT_OF_REACH_MAX)

    def is_out_of_reach(self, node_id: str, now: float) -> bool:
        """Return whether handovers to a node are stopped at `now`."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.out_of_reach.is_on(now)

    # ------------------------------------------------------------------------------------------------------------

    def _counts(self, node_id: str, now: float) -> bool:
        peer = self._peers.get(node_id)
        if peer is None or peer.advert is None:
            return False
        return now < peer.heard_at + (MASTER_LIFE if peer.advert.role is Role.MASTER else ADVERT_LIFE)

    def _peer(self, node_id: str) -> _Peer:
        """Return the record of a node, new or old, and move it to the end of the table."""
        peer = self._peers.pop(node_id, None) or _Peer()
        while len(self._peers) >= MAX_PEERS:
            oldest = next(iter(self._peers))
            del self._peers[oldest]
            self._masters.pop(oldest, None)
            self._differing.pop(oldest, None)
        self._peers[node_id] = peer
        return peer
