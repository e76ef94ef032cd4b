"""The other nodes as their adverts tell of them, and which of them not to bother for a while.

An advert is a hint. mDNS does not notice a death, so what stands here may be long gone: `hold_down` remembers that a
join failed, and doubles the wait each time, so that a dead node costs less and less and a live one is never given up.

There are nodes that everybody hears of and nobody can connect to: behind a firewall, say, that lets out and not in.
They can be members, but to hand a group over to one is in vain, and so it is done less and less often.
"""

from dataclasses import dataclass
from typing import Final

from pskkey.core.rank import Candidate, candidate_order, merge_order
from pskkey.core.settings import Timing
from pskkey.model import Advert, Role

OUT_OF_REACH_MIN: Final = 60.0
OUT_OF_REACH_MAX: Final = 3600.0
"""Seconds for which nothing is handed over to a node after that was in vain; doubling."""


@dataclass(slots=True)
class _HoldDown:
    until: float
    length: float
    term: int
    refused: bool


class Peers:
    """The table of adverts, and of hold-downs by node id."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._adverts: dict[str, Advert] = {}
        self._masters: dict[str, Advert] = {}
        """Those of nodes that say they are master."""
        self._listening_since: dict[str, float] = {}
        """Of nodes that look for a master: when we first heard that they do."""
        self._holds: dict[str, _HoldDown] = {}
        self._out_of_reach: dict[str, tuple[float, float]] = {}
        """Of nodes that we have handed over to in vain: until when that counts, and for how long."""

    def learn(self, advert: Advert, now: float) -> None:
        """Take the newest word of a node. A claim of a higher term ends its hold-down: there is news to check.

        Nothing less does, because anybody may send an old advert again.
        """
        held = self._holds.get(advert.id)
        if held is not None and advert.role is Role.MASTER and advert.term > held.term:
            held.until, held.term = 0.0, advert.term
        self._adverts[advert.id] = advert
        if advert.role is Role.LISTENING:
            self._listening_since.setdefault(advert.id, now)
        else:
            self._listening_since.pop(advert.id, None)
        self._masters.pop(advert.id, None)
        if advert.role is Role.MASTER:
            self._masters[advert.id] = advert

    def forget(self, node_id: str) -> None:
        """Drop a node that said goodbye."""
        self._out_of_reach.pop(node_id, None)
        self._adverts.pop(node_id, None)
        self._masters.pop(node_id, None)
        self._listening_since.pop(node_id, None)
        self._holds.pop(node_id, None)

    def is_master(self, node_id: str) -> bool:
        """Tell whether a node says that it is master."""
        return node_id in self._masters

    def was_refused(self) -> bool:
        """Tell whether somebody who says that it is master has refused us as a member."""
        return any(held.refused and self.is_master(node_id) for node_id, held in self._holds.items())

    def hold_down(self, node_id: str, now: float, longest: float, *, refused: bool = False) -> None:
        """Leave a node alone for a while, `longest` seconds at most: it could not be joined, or has `refused` us."""
        held = self._holds.get(node_id)
        length = min(self._timing.hold_down_min if held is None else held.length * 2, longest)
        advert = self._adverts.get(node_id)
        self._holds[node_id] = _HoldDown(now + length, length, advert.term if advert else 0, refused)

    def handed_over_in_vain(self, node_id: str, now: float) -> None:
        """We have handed our part over to a node, and cannot connect to it."""
        _, length = self._out_of_reach.get(node_id, (0.0, OUT_OF_REACH_MIN / 2))
        length = min(2 * length, OUT_OF_REACH_MAX)
        self._out_of_reach[node_id] = (now + length, length)

    def out_of_reach(self, now: float) -> frozenset[str]:
        """Return those to whom it would be in vain to hand over, as far as we know."""
        return frozenset(node_id for node_id, (until, _) in self._out_of_reach.items() if now < until)

    def absolve(self, node_id: str) -> None:
        """Forget the failures of a node that was joined after all, or is to be joined in any case."""
        self._holds.pop(node_id, None)

    def reached(self, node_id: str) -> None:
        """We have joined a node: it can be connected to."""
        self.absolve(node_id)
        self._out_of_reach.pop(node_id, None)

    def is_held(self, node_id: str, now: float) -> bool:
        """Tell whether a node is in hold-down."""
        held = self._holds.get(node_id)
        return held is not None and now < held.until

    def next_release(self, now: float) -> float | None:
        """Return when the next hold-down of a node that claims to be master ends."""
        ends = [held.until for node_id, held in self._holds.items() if held.until > now and node_id in self._masters]
        return min(ends, default=None)

    def masters(self, now: float) -> list[Advert]:
        """Return those that say they are master and are not held, the one to join first (as a merge would end)."""
        found = [a for a in self._masters.values() if not self.is_held(a.id, now)]
        return sorted(found, key=lambda a: merge_order(a.members, a.priority, a.id))

    def claim_at(self, me: Candidate, now: float) -> float:
        """Return when `me`, which has listened until now, should become master if nobody else does.

        Every better candidate has time to claim before, and no two claim at the same moment: who began to listen a
        little later than we claims a little later too.
        """
        mine, step = candidate_order(me), self._timing.claim_step
        better = [a for a in self._adverts.values() if a.eligible and candidate_order(a) < mine]
        better = [a for a in better if not self.is_held(a.id, now)]
        at = now + len(better) * step
        heard = sorted(self._listening_since[a.id] for a in better if a.id in self._listening_since)
        for theirs in (since + self._timing.discovery_window for since in heard):
            if at - step < theirs < at + step:
                at = theirs + step
        return at
