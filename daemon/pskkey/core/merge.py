"""Two masters at once, for instance after a split of the network: which one asks the other, and which one yields.

A *rival* of a master is another master that it has heard. A *merge* leaves one of the two masters. One of them asks: it
sends MERGE to the other. The other one decides which of the two wins, and answers with MERGE. The winner stays master.
The loser *yields*: it joins the winner, and then hands over its members.

1. The worse master by `rank.candidate_order` asks the better one.
2. If both are still masters after `join_timeout` + `dead_after`, the better one asks too. The worse one may be unable
   to connect.
3. An advert is a *proof* that its sender is master now, or only a *hint*, which may be an old advert of a dead master
   (`freshness`). A rival without a proof is asked only after the time of rule 2, and at most one such rival in
   HINTS_SPACING seconds. It is asked because some rivals can never send a proof: where multicast works in one direction
   only, a rival does not receive our challenge. If nothing listens at its address, it is not asked again for DEAD_FOR,
   unless it proves itself or has a higher term.
4. The loser stays master until GROUP of the winner has arrived. If GROUP does not arrive, only small packets get
   through. Then the loser tries that winner again after a hold-down, whatever the term of the winner is. Meanwhile it
   answers MERGE of the winner with the ERROR `cannot_join`.
5. The winner changes no key before the loser has confirmed GROUP by its next message. Its term rises only above the
   term in JOIN. So a loser that cannot receive GROUP costs the members of the winner at most one term, and no key.
6. If the loser cannot connect to the winner, it is the winner of the next merge: its members could not join the other
   one either. But if TCP opens, and the handshake gets no answer, then perhaps only small packets of the loser get
   through, and the members of the other one could not join it. So it does as in rule 4.
7. If the winner refuses the loser, for instance because its group is full, the loser yields all the same: two masters
   would have two keys. Two groups without a common protocol level stay two groups.
"""

from dataclasses import dataclass
from typing import Final

from pskkey.core.links import Link, Phase
from pskkey.core.loss_codes import CANNOT_JOIN, NO_COMMON_LEVEL, NO_GROUP, NO_HANDSHAKE, REFUSALS
from pskkey.core.peers import PATH_HOLD_MAX, Peers
from pskkey.core.rank import candidate_order, merge_order
from pskkey.core.settings import Settings, Timing
from pskkey.model import Advert, Merge

HINTS_SPACING: Final = 10.0
"""Seconds between two attempts of a master to ask a rival without a proof."""


def choose_winner(mine: Merge, other: Merge, *, is_out_of_reach: bool) -> str:
    """Return the id of the master that stays. More members win, then the higher priority, then the lower id.

    `mine` is the MERGE of this master, and `other` that of the other one. If this master could not connect to the other
    one, `is_out_of_reach` is true. Then this master stays, because its members could not join the other one either.
    """
    if is_out_of_reach:
        return mine.master.id

    def order(merge: Merge) -> tuple[int, int, str]:
        return merge_order(merge.members, merge.master.priority, merge.master.id)

    return min(mine, other, key=order).master.id


def hold_rival_down(peers: Peers, link: Link, code: str, term: int, timing: Timing, now: float) -> bool:
    """Begin the hold-down of a rival that this master of `term` could not ask or join. `code` is as in `attempts.Loss`.

    Return whether this master must yield all the same, because the winner of the merge is alive and has refused it.
    """
    rival = link.peer.id
    if code in REFUSALS and link.yields:
        peers.hold_down(rival, now, timing.hold_down_max, code)
        return True
    if code == NO_COMMON_LEVEL:
        peers.hold_down(rival, now, timing.hold_down_max, code)
    elif code in (NO_GROUP, CANNOT_JOIN):
        peers.hold_down(rival, now, PATH_HOLD_MAX, whatever_term=True)
    elif code == "refused" and not (link.yields or peers.is_proven(rival, now) or peers.has_newer_term(rival, term)):
        peers.note_dead(rival, now)
    else:
        peers.hold_down(rival, now, timing.rival_hold_max, whatever_term=code == NO_HANDSHAKE)
        if link.yields and link.phase is Phase.CONNECTING and code != NO_HANDSHAKE:
            peers.handover_failed(rival, now)
    return False


@dataclass(slots=True)
class _Rival:
    """The times (seconds) at which this master first heard a rival, and last asked it."""

    since: float
    asked: float = float("-inf")


class Rivals:
    """The other masters that this master knows."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rivals: dict[str, _Rival] = {}
        self._hint_asked_at = float("-inf")

    def choose_rival(self, peers: Peers, members: frozenset[str], now: float) -> Advert | None:
        """Return the rival to ask now, None if there is none. `members` are the ids of our members.

        A member is not a rival, even if an old advert calls it master. Rivals with a proof come before rivals without
        one. Among rivals of the same kind, the one that this master asked the longest ago comes first.
        """
        self._rivals = {i: r for i, r in self._rivals.items() if peers.claim_of(i, now) and i not in members}
        adverts = {a.id: a for a in peers.claims(now) if a.id not in members}
        for node in adverts:
            self._rivals.setdefault(node, _Rival(now))
        patience = self._settings.timing.join_timeout + self._settings.timing.dead_after
        for node in sorted(adverts, key=lambda i: (not peers.is_proven(i, now), self._rivals[i].asked)):
            rival, is_hint = self._rivals[node], not peers.is_proven(node, now)
            is_overdue = now - rival.since > patience
            if is_hint and (not is_overdue or now < self._hint_asked_at + HINTS_SPACING):
                continue
            if is_overdue or candidate_order(adverts[node]) < candidate_order(self._settings.me):
                rival.asked = now
                if is_hint:
                    self._hint_asked_at = now
                return adverts[node]
        return None
