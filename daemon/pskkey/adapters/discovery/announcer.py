"""What we say over mDNS: our advert, signed, as the records of a DNS-SD service (RFC 6763).

They are sent without probing (the instance name has our node id in it), at once when they change and twice more a
little later, always as they stand then: python-zeroconf's own repeats, and answers that it has put off, would send what
was true before.
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
"""Seconds after a change at which it is announced again, for those who missed it (RFC 6762 section 8.3)."""

SAID_AGAIN_AFTER = 1.0
"""Seconds after a beacon of the master at which it is repeated. Beacons come every 2 s."""

_ALL_TYPES = "_services._dns-sd._udp.local."
"""The question for it asks which services there are (RFC 6763 section 9)."""

OWN_SIGNATURES = 64
"""Signatures of ours that are remembered, to know our own adverts when they come back to us."""


def forget_answers(zeroconf: Zeroconf) -> None:
    """Let no answer be sent that waits: it may do so for more than a second (RFC 6762 section 6).

    It would come after what has changed since, or between the goodbyes, and bring back who has gone.
    """
    zeroconf.out_queue.queue.clear()
    zeroconf.out_delay_queue.queue.clear()


class Announcer:
    """Sends our records through the Zeroconf that runs, if one does."""

    def __init__(self, node_id: str) -> None:
        self._zeroconf: Zeroconf | None = None
        self._name = instance_name(node_id)
        names = (_ALL_TYPES, SERVICE_TYPE, f"{self._name}.{SERVICE_TYPE}", f"{self._name}.local.")
        self.names = frozenset(name.encode() for name in names)
        """The names of our records, in small letters, and those of the records that point to ours."""
        self._info: ServiceInfo | None = None
        self._broadcast: Callable[[], None] | None = None
        self._signed: tuple[Advert, Secret] | None = None
        self._repeats: list[asyncio.TimerHandle] = []
        self._own_signatures: deque[bytes] = deque(maxlen=OWN_SIGNATURES)

    def start(self, zeroconf: Zeroconf) -> None:
        """Send through this one from now on; it knows nothing of us yet."""
        self._zeroconf = zeroconf

    def stop(self) -> None:
        """Send nothing until the next start. The goodbye is Zeroconf's when it is closed."""
        self._cancel_repeats()
        self._zeroconf = self._info = self._broadcast = self._signed = None

    def say(self, advert: Advert, key: Secret) -> None:
        """Send this, signed with the PSK `key`, and answer questions with it from now on."""
        if self._zeroconf is None or not advert.addresses:
            return
        if self._signed != (advert, key):
            self._register(self._zeroconf, advert, key)
            self._announce(*REPEAT_AFTER)
        else:
            self._announce(SAID_AGAIN_AFTER)

    def is_ours(self, signature: bytes | None) -> bool:
        """Whether we have sent this signature ourselves, not long ago."""
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
        forget_answers(zeroconf)  # whoever asked hears what is announced now
        self._info, self._signed = info, (advert, key)
        self._broadcast = partial(zeroconf.async_send, zeroconf.generate_service_broadcast(info, None))

    def _announce(self, *repeats: float) -> None:
        """Send our records now, and again after so many seconds."""
        self._cancel_repeats()
        self._send()
        loop = asyncio.get_running_loop()
        self._repeats = [loop.call_later(delay, self._send) for delay in repeats]

    def _send(self) -> None:
        if self._broadcast is not None:
            self._broadcast()

    def _cancel_repeats(self) -> None:
        for repeat in self._repeats:
            repeat.cancel()
        self._repeats.clear()
