"""Two masters, after a split for instance: which of them asks, and which of them yields for good.

1. The master that is worse by `rank.candidate_order` asks with MERGE. The better one decides alone, for both.
2. If both are still master after `join_timeout` + `dead_after`, the better one asks: the worse one may be unable to
   connect.
3. A rival that only a hint calls master is asked after this time too, one of them every HINTS_SPACING: the hint may be
   an old advert of a dead master. Where multicast passes one way only, a proof never comes.
"""

from dataclasses import dataclass
from typing import Final

from pskkey.core.key_slots import latest
from pskkey.core.peers import Peers
from pskkey.core.rank import candidate_order, merge_order
from pskkey.core.settings import Settings
from pskkey.model import Advert, Merge

HINTS_SPACING: Final = 10.0
"""Seconds between two attempts of a master to ask a rival that only a hint calls master."""


def winner(mine: Merge, other: Merge, *, is_out_of_reach: bool) -> str:
    """Return the id of the master that stays: by members served, then priority, then id (`rank.merge_order`).

    If the other master `is_out_of_reach`, this one stays, because its members could not join the other.
    """
    if is_out_of_reach:
        return mine.master.id

    def order(merge: Merge) -> tuple[int, int, str]:
        return merge_order(merge.members, merge.master.priority, merge.master.id)

    return min(mine, other, key=order).master.id


def above_both(mine: Merge, other: Merge) -> tuple[int, int]:
    """Return the highest term and the highest epoch of both masters. The winner goes above them."""
    return max(mine.term, other.term), latest((mine.epoch, other.epoch))


@dataclass(slots=True)
class _Rival:
    """The times (seconds) at which a rival was first heard and last asked."""

    since: float
    asked: float = float("-inf")


class Rivals:
    """The other masters that this master knows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rivals: dict[str, _Rival] = {}
        self._hint_asked_at = float("-inf")

    def to_ask(self, peers: Peers, members: frozenset[str], now: float) -> Advert | None:
        """Return the rival to ask now; None: none. A member of ours is no rival, even if an old advert calls it master.

        Proven masters come before hints; within each kind, the rival that was asked the longest ago comes first.
        """
        self._rivals = {i: r for i, r in self._rivals.items() if peers.claim_of(i, now) and i not in members}
        adverts = {a.id: a for a in peers.claims(now) if a.id not in members}
        for node in adverts:
            self._rivals.setdefault(node, _Rival(now))
        own_turn_after = self._settings.timing.join_timeout + self._settings.timing.dead_after
        for node in sorted(adverts, key=lambda i: (not peers.is_proven(i, now), self._rivals[i].asked)):
            rival, is_hint = self._rivals[node], not peers.is_proven(node, now)
            is_its_turn = now - rival.since > own_turn_after
            if is_hint and (not is_its_turn or now < self._hint_asked_at + HINTS_SPACING):
                continue
            if is_its_turn or candidate_order(adverts[node]) < candidate_order(self._settings.me):
                rival.asked = now
                if is_hint:
                    self._hint_asked_at = now
                return adverts[node]
        return None
