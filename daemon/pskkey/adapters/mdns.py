"""Discovery: our advert over mDNS, and those of others as events.

Only verified adverts of our own group become events. Our records are sent without probing (the instance name has our
node id in it), at once when they change and twice more a little later, always as they stand then: python-zeroconf's own
repeats would send what was true before.

The network is looked at every few seconds, because interfaces come, go and change their addresses while the daemon
runs; python-zeroconf is started anew on those that there are.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Literal

from zeroconf import (
    BadTypeInNameException,
    ServiceInfo,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from pskkey.adapters.interfaces import Network, look_up
from pskkey.core.events import AdvertReceived, AdvertRemoved, Event
from pskkey.errors import BadPacket
from pskkey.model import Advert
from pskkey.psk import PskFile
from pskkey.secret import Secret
from pskkey.wire.advert import (
    SERVICE_TYPE,
    advert_key,
    decode_advert_untrusted,
    encode_advert,
    group_of_untrusted,
    instance_name,
)

_log = logging.getLogger("pskkey.mdns")

HOST_TTL = 120
"""Seconds that others may keep our address and TXT records (RFC 6762 section 10)."""

REPEAT_AFTER = (0.25, 1.0)
"""Seconds after a change at which it is announced again, for those who missed it (RFC 6762 section 8.3)."""

LOOK_EVERY = 3.0
"""Seconds between two looks at the machine's addresses."""

MAX_RESOLVING = 64
"""Records that are being asked for at once; a stranger who announces more than that is not followed."""

RESOLVE_TIMEOUT_MS = 2000


class Discovery:
    """One node's presence on mDNS. Counters: `adverts_rejected`, `adverts_accepted`."""

    def __init__(
        self,
        *,
        group: str,
        node_id: str,
        psk: Callable[[], PskFile],
        interfaces: Sequence[str],
        ip: Literal["both", "v4", "v6"],
        emit: Callable[[Event], None],
        network_changed: Callable[[Network], None],
        counters: Counter[str],
    ) -> None:
        self._group = group
        self._node_id = node_id
        self._psk = psk
        self._interfaces = interfaces
        self._ip = ip
        self._emit = emit
        self._network_changed = network_changed
        self._counters = counters
        self._network = Network((), ())
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: ServiceInfo | None = None
        self._advert: Advert | None = None
        self._repeats: list[asyncio.TimerHandle] = []
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._ids: dict[str, str] = {}
        self._follower: asyncio.Task[None] | None = None
        self._signing: tuple[PskFile, list[Secret]] | None = None

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> Network:
        """Begin on the interfaces that there are, and follow their changes. Return what was found."""
        await self._use(look_up(self._interfaces, self._ip))
        self._follower = asyncio.create_task(self._follow_network())
        return self._network

    async def stop(self) -> None:
        """Say goodbye and be silent."""
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        self._advert = None
        await self._close()

    async def _follow_network(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            network = look_up(self._interfaces, self._ip)
            if network != self._network:
                _log.info("the network changed: now %s", ", ".join(network.addresses) or "no usable interface")
                await self._use(network)
                self._network_changed(network)

    async def _use(self, network: Network) -> None:
        await self._close()
        self._network = network
        if not network.multicast:
            return
        try:
            self._zeroconf = AsyncZeroconf(interfaces=list(network.multicast))
        except (OSError, RuntimeError) as error:
            # An address may vanish between the look and the use: the next look finds out.
            _log.warning("mDNS cannot run on %s: %s; trying again", network.multicast, error)
            self._network = Network((), ())
            return
        zeroconf = self._zeroconf.zeroconf
        await zeroconf.async_wait_for_start()
        self._browser = AsyncServiceBrowser(zeroconf, SERVICE_TYPE, handlers=[self._service_changed])
        if self._advert is not None:
            self.advertise(self._advert)

    async def _close(self) -> None:
        self._cancel_repeats()
        for task in list(self._resolving.values()):
            task.cancel()
        await asyncio.gather(*self._resolving.values(), return_exceptions=True)
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if self._zeroconf is not None:
            await self._zeroconf.async_close()
            self._zeroconf = None
        self._info = None

    # --- what we say --------------------------------------------------------------------------------------------

    def advertise(self, advert: Advert) -> None:
        """Say this of us from now on, signed with the active PSK."""
        self._advert = advert
        if self._zeroconf is None or not advert.addresses:
            return
        active = self._psk().active.key
        info = ServiceInfo(
            SERVICE_TYPE,
            f"{instance_name(self._node_id)}.{SERVICE_TYPE}",
            addresses=[ip_address(a).packed for a in advert.addresses],
            port=advert.port,
            properties=dict(encode_advert(advert, advert_key(active))),
            server=f"{instance_name(self._node_id)}.local.",
            host_ttl=HOST_TTL,
            other_ttl=HOST_TTL,
        )
        registry = self._zeroconf.zeroconf.registry
        if self._info is None:
            registry.async_add(info)
        else:
            registry.async_update(info)
        self._info = info
        self._announce()
        self._cancel_repeats()
        loop = asyncio.get_running_loop()
        self._repeats = [loop.call_later(delay, self._announce) for delay in REPEAT_AFTER]

    def _announce(self) -> None:
        if self._zeroconf is not None and self._info is not None:
            zeroconf = self._zeroconf.zeroconf
            zeroconf.async_send(zeroconf.generate_service_broadcast(self._info, None))

    def _cancel_repeats(self) -> None:
        for repeat in self._repeats:
            repeat.cancel()
        self._repeats.clear()

    # --- what others say ----------------------------------------------------------------------------------------

    def _service_changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if self._info is not None and name == self._info.name and state_change is ServiceStateChange.Removed:
            return
        if state_change is ServiceStateChange.Removed:
            node_id = self._ids.pop(name, None)
            if node_id is not None:
                self._emit(AdvertRemoved(node_id))
            return
        try:
            info = AsyncServiceInfo(service_type, name)
        except BadTypeInNameException:
            self._reject(name, "its name is not of our service type")
            return
        if info.load_from_cache(zeroconf) or info.text:
            self._take_untrusted(info)
        elif name not in self._resolving and len(self._resolving) < MAX_RESOLVING:
            task = asyncio.create_task(self._resolve(zeroconf, info))
            self._resolving[name] = task
            task.add_done_callback(lambda _: self._resolving.pop(name, None))

    async def _resolve(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        await info.async_request(zeroconf, RESOLVE_TIMEOUT_MS)
        if info.text:
            self._take_untrusted(info)

    def _take_untrusted(self, info: ServiceInfo) -> None:
        properties = info.properties
        if group_of_untrusted(properties) != self._group:
            return
        try:
            advert = decode_advert_untrusted(properties, self._verifying_keys())
        except BadPacket as error:
            self._reject(info.name, str(error))
            return
        if advert.id == self._node_id and advert.addresses == (self._advert.addresses if self._advert else None):
            return  # our own, heard by ourselves
        if info.name != f"{instance_name(advert.id)}.{SERVICE_TYPE}":
            self._reject(info.name, "it is another node's advert under this name")
            return
        self._counters["adverts_accepted"] += 1
        self._ids[info.name] = advert.id
        self._emit(AdvertReceived(advert))

    def _reject(self, name: str, why: str) -> None:
        self._counters["adverts_rejected"] += 1
        _log.debug("advert %r not taken: %s", name[:80], why)

    def _verifying_keys(self) -> list[Secret]:
        psk = self._psk()
        if self._signing is None or self._signing[0] is not psk:
            self._signing = (psk, [advert_key(key) for key in psk.accepted.values()])
        return self._signing[1]
