"""The adverts of this node: what they contain, and when the node announces one.

1. Every node of the link receives each announcement. So a node announces only what others must know: that it listens,
   that it is master or was master until now, and its own facts, such as its addresses, when they change. In a failover
   only the new master announces itself, whatever the number of members.
2. Other changes of its advert are no news. The node does not announce them, but answers questions with them. The
   number of members of a master, and its own challenge, come with its next beacon.
3. News is announced at once.
4. A master repeats its advert every `beacon_interval`, because mDNS does not repeat it for a node that was
   disconnected. It announces itself earlier to answer a challenge (`freshness`).
5. Many masters at once, for instance when many devices boot, share the rate of one: each announces itself the more
   seldom the more other masters it knows. Each of them receives the adverts of all others.
"""

from dataclasses import replace
from typing import Final

from pskkey.core.actions import Action, Advertise
from pskkey.core.freshness import Freshness
from pskkey.core.settings import Settings
from pskkey.model import Advert, Member, Role

BEACON_SHARE: Final = 0.1
"""Seconds between the beacons of two masters, at least."""


class Announcements:
    """The adverts of this node. Methods append actions to `out`."""

    def __init__(self, settings: Settings, freshness: Freshness, out: list[Action]) -> None:
        self._settings = settings
        self._freshness = freshness
        self._out = out
        self._announced: Advert | None = None
        """The last advert, without answers to challenges."""
        self._next_beacon = 0.0
        self.masters = 0
        """The number of other masters, as far as they are proven."""

    def announce(self, me: Member, role: Role, term: int, members: int, now: float, *, is_full: bool) -> None:
        """Announce the node if its advert has news, or must be repeated.

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
        is_news = _has_news(advert, self._announced) or (role is Role.MASTER and now >= self.due_as_master())
        if is_news or (role is not Role.MASTER and advert != self._announced):
            self._announced = advert
            self._next_beacon = now + max(self._settings.timing.beacon_interval, BEACON_SHARE * self.masters)
            answers = self._freshness.take_answers(now, self.masters) if role is Role.MASTER else ()
            self._out.append(Advertise(replace(advert, answers=answers), is_news))

    def announce_again(self) -> None:
        """Let `announce` announce the node in any case."""
        self._announced = None

    def due_as_master(self) -> float:
        """Return when a master must announce itself again: at the next beacon, or earlier to answer a challenge."""
        answer_due = self._freshness.answer_due()
        return self._next_beacon if answer_due is None else min(self._next_beacon, answer_due)


def _has_news(advert: Advert, former: Advert | None) -> bool:
    """Return whether other nodes must know `advert`, if they know the `former` one; None: they know none."""
    if former is None or _facts(advert) != _facts(former):
        return True
    if advert.role is Role.LISTENING:
        return advert != former
    if Role.MASTER not in (advert.role, former.role):
        return False
    return (advert.role, advert.term, advert.is_full) != (former.role, former.term, former.is_full)


def _facts(advert: Advert) -> tuple[object, ...]:
    """Return what does not depend on the role. It is compared at each event, so it is no copy of the advert."""
    a = advert
    return (a.group, a.id, a.name, a.priority, a.eligible, a.addresses, a.port, a.speaks)
