"""Two masters: which of them stays, and which goes to ask.

After a split, each part has a master; when the parts meet, one yields for good. The lower in the candidate order goes
to the higher and asks, and the asked one alone decides, so that there are not two answers. Where the higher one cannot
be reached that way, it goes itself after a while.
"""

from typing import NamedTuple

from pskkey.core.held import latest
from pskkey.core.peers import Peers
from pskkey.core.rank import candidate_order, merge_order
from pskkey.core.settings import Settings
from pskkey.model import Advert, Merge


class Won(NamedTuple):
    """What a master that stays has to do: roll above `epoch`, and wait for the `members` of the other half."""

    epoch: int
    members: int


def winner(mine: Merge, other: Merge, out_of_reach: frozenset[str]) -> str:
    """Return the id of the master that stays: by members served, then priority, then id.

    But we stay if it would be in vain to go to the other: nobody would serve our members then.
    """
    if other.master.id in out_of_reach:
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

    def to_ask(self, peers: Peers, members: frozenset[str], now: float) -> Advert | None:
        """Return the rival that we should go to now. A member of ours is none, whatever its old advert says.

        The one that was asked longest ago comes first: old adverts of dead masters must not stand before a live one.
        """
        known = [i for i in self._since.keys() | self._asked.keys() if peers.is_master(i) and i not in members]
        self._since = {i: self._since[i] for i in known if i in self._since}
        self._asked = {i: self._asked[i] for i in known if i in self._asked}
        own_turn_after = self._settings.timing.join_timeout + self._settings.timing.dead_after
        rivals = [a for a in peers.masters(now) if a.id not in members]
        for rival in sorted(rivals, key=lambda a: self._asked.get(a.id, float("-inf"))):
            since = self._since.setdefault(rival.id, now)
            is_higher = candidate_order(rival) < candidate_order(self._settings.me)
            if is_higher or now - since > own_turn_after:
                self._asked[rival.id] = now
                return rival
        return None
