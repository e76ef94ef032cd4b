"""The other nodes as their adverts describe them, and which of them to leave alone for a while.

An advert is a hint, unless it is a proof (`freshness`). mDNS does not notice a death, and anybody can send an old
advert again, so what stands here may be long gone:

1. Of a node that is proven to be master only another proof changes what is known, until the proof is PROVEN_FOR old.
2. A claim to be master that is not repeated within MASTER_LIFE counts no more, any other advert after ADVERT_LIFE.
3. A goodbye is not authenticated, so there is none: a node that left is one that is not heard any more.
4. A node that could not be joined is in hold-down, which doubles. It ends early by the proof of a higher term, or by
   a change of our PSK.
5. The table has MAX_PEERS records; the one that was heard the longest ago makes room.

There are nodes that everybody hears and nobody can connect to: behind a firewall, for instance, that lets out and not
in. They can be members. A master hands over to such a node less and less often.
"""

from dataclasses import dataclass, field
from typing import Final

from pskkey.core.freshness import PROVEN_FOR
from pskkey.core.rank import Candidate, candidate_order, merge_order
from pskkey.core.settings import Settings
from pskkey.model import Advert, Role

OUT_OF_REACH_MIN: Final = 60.0
OUT_OF_REACH_MAX: Final = 3600.0
"""Seconds for which nothing is handed over to a node after that has failed; doubling."""

MASTER_LIFE: Final = 15.0
"""Seconds for which a claim to be master counts. A master repeats it every `beacon_interval`, with another challenge
every CHALLENGE_EVERY."""

ADVERT_LIFE: Final = 120.0
"""Seconds for which any other advert counts: the TTL of its record."""

MAX_PEERS: Final = 2048
"""Nodes that are remembered: twice as many as a group has by default. A holder of the PSK can invent any number."""

MAX_CLAIMS: Final = 64
"""Nodes that may claim to be master at once; they are looked at in each event of a master."""

MAX_COURTESY: Final = 3
"""Steps that a candidate waits for better ones at most, and as many more by its id, so that not all of those who have
waited the longest claim at once. Somebody who invents better candidates cannot put off the claim any longer."""


@dataclass(slots=True)
class Backoff:
    """How long to leave a peer alone after a failure: twice as long each time."""

    until: float = float("-inf")
    length: float = 0.0

    def failed(self, now: float, first: float, longest: float) -> None:
        """Begin anew at `now`: with `first` seconds, or with twice the last ones, but with `longest` at most."""
        self.length = min(self.length * 2 or first, longest)
        self.until = now + self.length

    def end(self) -> None:
        """Let it be over, but remember the length."""
        self.until = float("-inf")

    def is_on(self, now: float) -> bool:
        """Whether the peer is left alone."""
        return now < self.until


@dataclass(slots=True)
class _Peer:
    """What is known of one node."""

    advert: Advert | None = None
    heard_at: float = 0.0
    proven_until: float = float("-inf")
    listening_since: float | None = None
    hold_down: Backoff = field(default_factory=Backoff)
    hold_term: int = 0
    has_refused_us: bool = False
    out_of_reach: Backoff = field(default_factory=Backoff)


class Peers:
    """The table of the other nodes, by id."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._peers: dict[str, _Peer] = {}
        """The one that was heard the longest ago comes first."""
        self._masters: dict[str, Advert] = {}
        """The adverts of those that claim to be master: they are asked for at each event."""

    # --- adverts ------------------------------------------------------------------------------------------------

    def learn(self, advert: Advert, now: float, *, is_proof: bool) -> None:
        """Take an advert, unless it is a hint about a node of which there is proof."""
        known = self._peers.get(advert.id)
        if known is not None and not is_proof and now < known.proven_until:
            return
        peer = self._peer(advert.id)
        if advert.role is Role.MASTER and is_proof:
            peer.proven_until = now + PROVEN_FOR
            if advert.term > peer.hold_term:
                peer.hold_down.end()
        peer.advert, peer.heard_at = advert, now
        if advert.role is not Role.LISTENING:
            peer.listening_since = None
        elif peer.listening_since is None:
            peer.listening_since = now
        self._masters.pop(advert.id, None)
        if advert.role is Role.MASTER:
            self._masters[advert.id] = advert
            if len(self._masters) > MAX_CLAIMS:
                del self._masters[next(iter(self._masters))]

    def psk_changed(self) -> None:
        """Forget what was heard, which may be signed with a removed PSK; and what failed may not fail any more.

        A node that has refused us did so in a session, so it is there. That counts until its proof is over.
        """
        for node_id, peer in self._peers.items():
            peer.hold_down.end()
            if not peer.has_refused_us:
                self._masters.pop(node_id, None)
                peer.advert = peer.listening_since = None
                peer.proven_until = float("-inf")

    def is_not_master(self, node_id: str) -> None:
        """A node has answered, in a session, that it is no master."""
        self._masters.pop(node_id, None)
        if (peer := self._peers.get(node_id)) is not None:
            peer.advert = None
            peer.proven_until = float("-inf")

    def is_proven(self, node_id: str, now: float) -> bool:
        """Return whether there is proof that a node is master."""
        peer = self._peers.get(node_id)
        return peer is not None and now < peer.proven_until

    def claims(self, now: float) -> list[Advert]:
        """Return the adverts of those that claim to be master and are not in hold-down.

        The one to join first comes first: those of which there is proof, in the order in which a merge would end.
        """
        found = [a for a in self._masters.values() if not self.is_held(a.id, now) and self._counts(a.id, now)]
        return sorted(found, key=lambda a: (not self.is_proven(a.id, now), *merge_order(a.members, a.priority, a.id)))

    def proven_masters(self, now: float) -> list[Advert]:
        """Return those of `claims` of which there is proof."""
        return [a for a in self.claims(now) if self.is_proven(a.id, now)]

    def claim_of(self, node_id: str, now: float) -> Advert | None:
        """Return the advert of a node that claims to be master; None: it does not."""
        return self._masters.get(node_id) if self._counts(node_id, now) else None

    def was_refused(self, now: float) -> bool:
        """Return whether a node that is proven to be master has refused us as a member."""
        return any(
            self._peers[node_id].has_refused_us and self.is_proven(node_id, now)
            for node_id in self._masters
            if node_id in self._peers
        )

    def claim_at(self, me: Candidate, now: float) -> float:
        """Return when `me`, which has listened until now, should become master if nobody else does.

        Every better candidate has time to claim before, and no two claim at the same moment: a node that began to
        listen a little later than we claims a little later too. One that claims to be master, without a proof, is none.
        """
        mine, step = candidate_order(me), self._settings.timing.claim_step
        better = [
            peer
            for node_id, peer in self._peers.items()
            if (a := peer.advert) and a.eligible and candidate_order(a) < mine and a.role is not Role.MASTER
            if not self.is_held(node_id, now) and self._counts(node_id, now)
        ]
        if len(better) > MAX_COURTESY:
            return now + MAX_COURTESY * step * (1 + int(me.id[:4], 16) / 0x10000)
        at = now + len(better) * step
        for since in sorted(peer.listening_since for peer in better if peer.listening_since is not None):
            theirs = since + self._settings.timing.discovery_window
            if at - step < theirs < at + step:
                at = theirs + step
        return at

    # --- whom to leave alone ------------------------------------------------------------------------------------

    def hold_down(self, node_id: str, now: float, longest: float, *, refused: bool = False) -> None:
        """Leave a node alone for a while, `longest` seconds at most: it could not be joined, or has `refused` us."""
        peer = self._peer(node_id)
        peer.hold_down.failed(now, self._settings.timing.hold_down_min, longest)
        peer.hold_term = peer.advert.term if peer.advert else 0
        peer.has_refused_us = refused
        if refused:  # in a session, so it is there
            peer.proven_until = max(peer.proven_until, now + PROVEN_FOR)

    def clear_hold_down(self, node_id: str) -> None:
        """Forget the failures of a node that was joined after all, or is to be joined in any case."""
        if (peer := self._peers.get(node_id)) is not None:
            peer.hold_down, peer.has_refused_us = Backoff(), False

    def is_held(self, node_id: str, now: float) -> bool:
        """Return whether a node is in hold-down."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.hold_down.is_on(now)

    def next_release(self, now: float) -> float | None:
        """Return when the next hold-down of a node that claims to be master ends."""
        ends = [peer.hold_down.until for node_id in self._masters if (peer := self._peers.get(node_id)) is not None]
        return min((end for end in ends if end > now), default=None)

    def joined(self, node_id: str) -> None:
        """We have joined a node: it can be connected to."""
        self.clear_hold_down(node_id)
        if (peer := self._peers.get(node_id)) is not None:
            peer.out_of_reach = Backoff()

    def handover_failed(self, node_id: str, now: float) -> None:
        """We have handed over to a node, and cannot connect to it."""
        self._peer(node_id).out_of_reach.failed(now, OUT_OF_REACH_MIN, OUT_OF_REACH_MAX)

    def is_out_of_reach(self, node_id: str, now: float) -> bool:
        """Return whether we do not hand over to a node for now."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.out_of_reach.is_on(now)

    # ------------------------------------------------------------------------------------------------------------

    def _counts(self, node_id: str, now: float) -> bool:
        peer = self._peers.get(node_id)
        if peer is None or peer.advert is None:
            return False
        return now < peer.heard_at + (MASTER_LIFE if peer.advert.role is Role.MASTER else ADVERT_LIFE)

    def _peer(self, node_id: str) -> _Peer:
        """Return the record of a node, as the one that was heard last."""
        peer = self._peers.pop(node_id, None) or _Peer()
        while len(self._peers) >= MAX_PEERS:
            oldest = next(iter(self._peers))
            del self._peers[oldest]
            self._masters.pop(oldest, None)
        self._peers[node_id] = peer
        return peer
