"""The adverts of this node: what they contain, and when the node announces one.

1. A changed advert is announced at once.
2. A master repeats its advert every `beacon_interval`, because mDNS does not repeat it for a node that was
   disconnected. It announces itself earlier to answer a challenge (`freshness`).
"""

from dataclasses import replace

from pskkey.core.actions import Action, Advertise
from pskkey.core.freshness import Freshness
from pskkey.core.settings import Settings
from pskkey.model import Advert, Member, Role


class Announcements:
    """The adverts of this node. Methods append actions to `out`."""

    def __init__(self, settings: Settings, freshness: Freshness, out: list[Action]) -> None:
        self._settings = settings
        self._freshness = freshness
        self._out = out
        self._announced: Advert | None = None
        """The last advert, without answers to challenges."""
        self._next_beacon = 0.0

    def announce(self, me: Member, role: Role, term: int, members: int, now: float, *, is_full: bool) -> None:
        """Announce the node if its advert has changed, or must be repeated.

        `me` is this node; as master it has the protocol levels of its group. `members` is the number of members, and
        `is_full` whether no place is free, if this node is master.
        """
        advert = Advert(
            group=self._settings.group,
            id=me.id,
            name=me.name,
            priority=me.priority,
            eligible=me.eligible,
            role=role,
            term=term,
            members=members,
            addresses=me.addresses,
            port=me.port,
            is_full=is_full,
            speaks=me.speaks,
            challenge=self._freshness.challenge(now) if role in (Role.LISTENING, Role.MASTER) else "",
        )
        is_due = role is Role.MASTER and now >= self.due_as_master()
        if advert != self._announced or is_due:
            self._announced = advert
            self._next_beacon = now + self._settings.timing.beacon_interval
            answers = self._freshness.take_answers(now) if role is Role.MASTER else ()
            self._out.append(Advertise(replace(advert, answers=answers)))

    def announce_again(self) -> None:
        """Let `announce` announce the node in any case."""
        self._announced = None

    def due_as_master(self) -> float:
        """Return when a master must announce itself again: at the next beacon, or earlier to answer a challenge."""
        answer_due = self._freshness.answer_due()
        return self._next_beacon if answer_due is None else min(self._next_beacon, answer_due)
