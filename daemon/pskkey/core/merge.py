"""Two masters: which of them stays, and which goes to ask.

After a split, each part has a master; when the parts meet, one yields for good. The lower in the candidate order goes
to the higher and asks, and the asked one alone decides, so that there are not two answers. Where the higher one cannot
be reached that way, it goes itself after a while.
"""

from typing import Final

from pskkey.core.held import latest
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


class Rivals:
    """The other masters that a master knows of, and since when."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since: dict[str, float] = {}
        self._asked: dict[str, float] = {}
        self._hint_asked_at = float("-inf")

    def to_ask(self, peers: Peers, members: frozenset[str], now: float) -> Advert | None:
        """Return the rival that we should go to now. A member of ours is none, whatever its old advert says.

        A rival of which there is proof comes first, then the one that was asked the longest ago. A mere hint is asked
        after a while only, and one every HINTS_SPACING: it may be an old advert of a dead master. But where multicast
        passes one way only, there is never a proof.
        """
        known = [i for i in self._since.keys() | self._asked.keys() if peers.claim_of(i, now) and i not in members]
        self._since = {i: self._since[i] for i in known if i in self._since}
        self._asked = {i: self._asked[i] for i in known if i in self._asked}
        own_turn_after = self._settings.timing.join_timeout + self._settings.timing.dead_after
        rivals = [(not peers.is_proven(a.id, now), a) for a in peers.claims(now) if a.id not in members]
        for is_hint, rival in sorted(rivals, key=lambda r: (r[0], self._asked.get(r[1].id, float("-inf")))):
            since = self._since.setdefault(rival.id, now)
            is_higher = candidate_order(rival) < candidate_order(self._settings.me)
            is_its_turn = now - since > own_turn_after
            if is_hint and (not is_its_turn or now < self._hint_asked_at + HINTS_SPACING):
                continue
            if is_higher or is_its_turn:
                self._asked[rival.id] = now
                if is_hint:
                    self._hint_asked_at = now
                return rival
        return None
