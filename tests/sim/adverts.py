"""mDNS as the nodes see it: adverts are datagrams, delayed, lost, repeated, overtaken, and replayed by anybody.

A receiver notices an advert only if it differs from the cached one, or comes from a node that listens. Nothing
announces a death, and a goodbye has no effect.

A host announces each advert again, as the daemon does. A host with a processor pays for each packet, noticed or not.
"""

from collections.abc import Callable
from functools import partial

from pskkey.core.events import AdvertReceived, Event
from pskkey.model import Advert, Role
from tests.sim.host import Conditions, Host
from tests.sim.reach import Reach
from tests.sim.schedule import Schedule

HISTORY = 64
"""Adverts that an eavesdropper keeps for a replay, at most."""

REPEATED_AFTER, BEACON_REPEATED_AFTER = (0.25, 1.0), (1.0,)
"""Seconds after which the daemon announces a changed advert again, and after which it repeats a beacon."""


class Adverts:
    """All adverts of a world."""

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
        self._recorded: list[Advert] = []
        """The adverts that an eavesdropper has kept."""

    def announce(self, sender: Host, advert: Advert) -> None:
        """Announce `advert` to all other hosts."""
        repeats = BEACON_REPEATED_AFTER if advert == sender.announced else REPEATED_AFTER
        sender.announced = advert
        self._recorded.append(advert)
        if len(self._recorded) > HISTORY:
            # A random one is removed, so that some of the oldest stay.
            self._recorded.pop(self._schedule.random.randrange(HISTORY))
        self._send_to_all(sender, advert)
        for after in repeats:
            repeat = partial(self._repeat, sender, sender.incarnation, advert)
            self._schedule.at(self._schedule.now + after, repeat)

    def record(self, advert: Advert) -> None:
        """Give an eavesdropper this advert, as if it had heard it at some former time."""
        self._recorded.append(advert)

    def replay(self, to: Host) -> None:
        """Let an eavesdropper send one of the recorded adverts `to` a host."""
        if self._recorded:
            self._receive(to, self._schedule.random.choice(self._recorded), None, "10.66.6.6")

    def _send_to_all(self, sender: Host, advert: Advert) -> None:
        if sender.processor is not None:
            sender.processor.spend(sender.processor.costs.packet)
        for other in self._hosts:
            if other is not sender:
                self._send(sender, other, advert)

    def _repeat(self, sender: Host, incarnation: int, advert: Advert) -> None:
        if sender.incarnation == incarnation and sender.announced is advert and not sender.is_paused:
            self._send_to_all(sender, advert)

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
            self._schedule.at(
                self._schedule.now + delay, partial(self._receive, receiver, advert, sender.psks[0], sender.source)
            )

    def _receive(self, host: Host, advert: Advert, signed_by: str | None, source: str) -> None:
        """Let an advert arrive from an address. `signed_by`: the PSK that has signed it; None: any is accepted."""
        if host.processor is not None and not host.processor.is_running:
            work = partial(self._receive, host, advert, signed_by, source)
            is_known = host.cache.get(advert.id) is advert and advert.role is not Role.LISTENING
            host.processor.receive(None if is_known else work)
            return
        if host.program is None or (signed_by is not None and signed_by not in host.psks):
            return
        if host.cache.get(advert.id) != advert or advert.role is Role.LISTENING:
            host.cache[advert.id] = advert
            self._give(host, AdvertReceived(advert, source))

    def _delay(self) -> float:
        return self._schedule.random.uniform(*self._conditions.delay)
