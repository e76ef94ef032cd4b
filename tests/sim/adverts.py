"""mDNS as the nodes see it: adverts are datagrams, delayed, lost, repeated, overtaken, and replayed by anybody.

A receiver notices one only where it differs from what it has cached, or comes from a node that listens. Nothing tells
of a death, and a goodbye has no effect.
"""

from collections.abc import Callable
from functools import partial

from pskkey.core.events import AdvertReceived, Event
from pskkey.model import Advert, Role
from tests.sim.host import Conditions, Host
from tests.sim.reach import Reach
from tests.sim.schedule import Schedule

HISTORY = 64
"""How many adverts an eavesdropper keeps for a replay."""


class Adverts:
    """All that is said over mDNS."""

    def __init__(
        self,
        schedule: Schedule,
        hosts: list[Host],
        reach: Reach,
        conditions: Conditions,
        give: Callable[[Host, Event], None],
    ) -> None:
        self._schedule = schedule
        self._hosts = hosts
        self._reach = reach
        self._conditions = conditions
        self._give = give
        self._heard: list[Advert] = []

    def say(self, sender: Host, advert: Advert) -> None:
        """Announce `advert` to everybody."""
        sender.said = advert
        self._heard.append(advert)
        if len(self._heard) > HISTORY:
            # What is thrown away is drawn too, so that some of the oldest stay.
            self._heard.pop(self._schedule.random.randrange(HISTORY))
        for other in self._hosts:
            if other is not sender:
                self._send(sender, other, advert)

    def query(self, host: Host) -> None:
        """Ask who is there, as a process does when it starts: everybody who hears it answers."""
        host.cache.clear()
        for other in self._hosts:
            if other is not host and other.lives and other.said and self._reach.passes(host, other):
                self._send(other, host, other.said)

    def record(self, advert: Advert) -> None:
        """Let an eavesdropper have heard this at some former time."""
        self._heard.append(advert)

    def replay(self, to: Host) -> None:
        """Let an eavesdropper send `to` once more what somebody said before."""
        if self._heard:
            self._arrives(to, self._schedule.random.choice(self._heard), None)

    def _send(self, sender: Host, receiver: Host, advert: Advert) -> None:
        random, conditions = self._schedule.random, self._conditions
        times = 2 if conditions.advert_twice and random.random() < conditions.advert_twice else 1
        for _ in range(times):
            if not self._reach.passes(sender, receiver):
                continue
            if conditions.advert_loss and random.random() < conditions.advert_loss:
                continue
            delay = self._delay()
            if conditions.advert_late and random.random() < conditions.advert_late:
                delay += random.uniform(0.0, 0.5)
            self._schedule.at(self._schedule.now + delay, partial(self._arrives, receiver, advert, sender.psks[0]))

    def _arrives(self, host: Host, advert: Advert, signed_by: str | None) -> None:
        """An advert comes; None: it is taken whatever has signed it."""
        if host.mind is None or (signed_by is not None and signed_by not in host.psks):
            return
        if host.cache.get(advert.id) != advert or advert.role is Role.LISTENING:
            host.cache[advert.id] = advert
            self._give(host, AdvertReceived(advert))

    def _delay(self) -> float:
        return self._schedule.random.uniform(*self._conditions.delay)
