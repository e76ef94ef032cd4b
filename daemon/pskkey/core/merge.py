"""Two masters: which of them stays, and which goes to ask.

After a split, each part has a master; when the parts meet, one yields for good. The lower in the candidate order goes
to the higher and asks, and the asked one alone decides, so that there are not two answers. Where the higher one cannot
be reached that way, it goes itself after a while.
"""

from dataclasses import dataclass
from typing import Final

from pskkey.core.key_slots import latest
from pskkey.core.peers import Peers
from pskkey.core.rank import candidate_order, merge_order
from pskkey.core.settings import Settings
from pskkey.model import Advert, Merge

HINTS_SPACING: Final = 10.0
"""Seconds between two attempts of a master to reach a rival of which there is no proof."""


def winner(mine: Merge, other: Merge, *, is_out_of_reach: bool) -> str:
    """Return the id of the master that stays: by members served, then priority, then id.

    But we stay if the other `is_out_of_reach`: nobody would serve our members then.
    """
    if is_out_of_reach:
        return mine.master.id

    def order(merge: Merge) -> tuple[int, int, str]:
        return merge_order(merge.members, merge.master.priority, merge.master.id)

    return min(mine, other, key=order).master.id


def above_both(mine: Merge, other: Merge) -> tuple[int, int]:
    """Return the term and the epoch that whoever stays goes above."""
    return max(mine.term, other.term), latest((mine.epoch, other.epoch))


@dataclass(slots=True)
class _Rival:
    """When a rival was met, and when it was asked last."""

    since: float
    asked: float = float("-inf")


class Rivals:
    """The other masters that a master knows of."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rivals: dict[str, _Rival] = {}
        self._hint_asked_at = float("-inf")

    def to_ask(self, peers: Peers, members: frozenset[str], now: float) -> Advert | None:
        """Return the rival that we should go to now. A member of ours is none, whatever its old advert says.

        A rival of which there is proof comes first, then the one that was asked the longest ago. A mere hint is asked
        after a while only, and one every HINTS_SPACING: it may be an old advert of a dead master. But where multicast
        passes one way only, there is never a proof.
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
