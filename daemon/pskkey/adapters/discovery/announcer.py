"""Announces our advert over mDNS, signed, as the records of a DNS-SD service (RFC 6763).

The records are sent without probing, because the instance name contains our node id. They are sent at once when they
change, and twice more a little later, each time with their newest content. The repeats of python-zeroconf, and the
answers that it delays, would send the former content.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

from zeroconf import ServiceInfo, Zeroconf

from pskkey.model import Advert
from pskkey.secret import Secret
from pskkey.wire.advert import SERVICE_TYPE, advert_key, encode_advert, instance_name

RECORD_TTL = 120
"""Seconds that others may keep our records (RFC 6762 section 10)."""

REPEAT_AFTER = (0.25, 1.0)
"""Seconds after a change at which it is announced again, because packets get lost (RFC 6762 section 8.3)."""

REGISTERED_AFTER = 0.5
"""Seconds after which questions are answered with an advert that has no news. A failover changes it twice."""

BEACON_REPEATED_AFTER = 1.0
"""Seconds after a beacon of the master at which it is repeated. Beacons come every 2 s."""

_ALL_TYPES = "_services._dns-sd._udp.local."
"""A question for this name asks which services there are (RFC 6763 section 9)."""

OWN_SIGNATURES = 64
"""Signatures of ours that are remembered, to recognise our own adverts when we receive them."""


def forget_answers(zeroconf: Zeroconf) -> None:
    """Drop all answers that wait, which may be for more than a second (RFC 6762 section 6).

    An answer would follow a newer announcement or a goodbye, and bring the former records back.
    """
    zeroconf.out_queue.queue.clear()
    zeroconf.out_delay_queue.queue.clear()


class Announcer:
    """Sends our records through the Zeroconf that runs, if there is one."""

    def __init__(self, node_id: str) -> None:
        self._zeroconf: Zeroconf | None = None
        self._name = instance_name(node_id)
        names = (_ALL_TYPES, SERVICE_TYPE, f"{self._name}.{SERVICE_TYPE}", f"{self._name}.local.")
        self.names = frozenset(name.encode() for name in names)
        """The names of our records, in small letters, and those of the records that point to ours."""
        self._info: ServiceInfo | None = None
        self._broadcast: Callable[[], None] | None = None
        self._signed: tuple[Advert, Secret] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        """The times of the repeats, or the time at which an advert without news is registered."""
        self._own_signatures: deque[bytes] = deque(maxlen=OWN_SIGNATURES)

    def start(self, zeroconf: Zeroconf) -> None:
        """Send through this Zeroconf from now on. It has none of our records yet."""
        self._zeroconf = zeroconf

    def stop(self) -> None:
        """Send nothing until the next start. Zeroconf sends the goodbye when it is closed."""
        self._cancel_timers()
        self._zeroconf = self._info = self._broadcast = self._signed = None

    def advertise(self, advert: Advert, key: Secret, is_news: bool) -> None:
        """Answer questions with `advert`, signed with the PSK `key`, from now on. Send it now if it has news."""
        if self._zeroconf is None:
            return
        self._cancel_timers()
        if not is_news:
            later = partial(self._register, self._zeroconf, advert, key)
            self._timers = [asyncio.get_running_loop().call_later(REGISTERED_AFTER, later)]
        elif self._signed != (advert, key):
            self._register(self._zeroconf, advert, key)
            self._announce(*REPEAT_AFTER)
        else:
            self._announce(BEACON_REPEATED_AFTER)

    def is_ours(self, signature: bytes | None) -> bool:
        """Whether we have sent this signature ourselves lately."""
        return signature in self._own_signatures

    def _register(self, zeroconf: Zeroconf, advert: Advert, key: Secret) -> None:
        pairs = encode_advert(advert, advert_key(key))
        self._own_signatures.append(pairs["sig"].encode())
        info = ServiceInfo(
            SERVICE_TYPE,
            f"{self._name}.{SERVICE_TYPE}",
            addresses=[ip_address(a).packed for a in advert.addresses],
            port=advert.port,
            properties=dict(pairs),
            server=f"{self._name}.local.",
            host_ttl=RECORD_TTL,
            other_ttl=RECORD_TTL,
        )
        if self._info is None:
            zeroconf.registry.async_add(info)
        else:
            zeroconf.registry.async_update(info)
        forget_answers(zeroconf)  # a node that asked receives the new announcement
        self._info, self._signed = info, (advert, key)
        self._broadcast = partial(zeroconf.async_send, zeroconf.generate_service_broadcast(info, None))

    def _announce(self, *repeats: float) -> None:
        """Send our records now, and again after so many seconds."""
        self._send()
        loop = asyncio.get_running_loop()
        self._timers = [loop.call_later(delay, self._send) for delay in repeats]

    def _send(self) -> None:
        if self._broadcast is not None:
            self._broadcast()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
