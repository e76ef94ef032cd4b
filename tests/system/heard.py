"""One Discovery with its events, and another node that sends any announcement, on a real loopback mDNS."""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from zeroconf import ServiceInfo
from zeroconf._dns import DNSPointer, DNSQuestion
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncZeroconf

from pskkey.adapters.discovery.mdns import Discovery
from pskkey.adapters.discovery.network import Network
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.config.psk import load_psk
from pskkey.core.events import Event
from pskkey.model import Advert, Role
from pskkey.wire.advert import SERVICE_TYPE, advert_key, encode_advert, instance_name
from tests.system.loopback import MULTICAST_INTERFACE, PORT, Loopback

DNS_PTR, DNS_TXT, CLASS_IN, FLAGS_QUERY, FLAGS_RESPONSE = 12, 16, 1, 0, 0x8400
"""Constants of RFC 1035 section 3.2 and RFC 6762 section 18."""


async def until(is_so: Callable[[], bool], within: float = 15) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + within
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def node_id() -> str:
    """Return a random id, which no other node on this loopback has."""
    return os.urandom(8).hex()


class Listener:
    """A Discovery with its events. Without an interface it runs on all."""

    def __init__(
        self,
        loopback: Loopback,
        interface: str,
        ip: Literal["both", "v4", "v6"],
        network_changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.psk = load_psk(loopback.psk)
        self.group = loopback.group
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.counters: Counter[str] = Counter()
        self.networks: list[Network] = []
        """The networks after each change."""
        self._network_changed = network_changed
        self.failures: list[BaseException] = []
        self.own, self.other = node_id(), node_id()
        self.discovery = Discovery(
            group=loopback.group,
            node_id=self.own,
            psk=lambda: self.psk,
            interfaces=[interface] if interface else [],
            ip=ip,
            emit=self.events.put_nowait,
            network_changed=self._note_network,
            failed=self.failures.append,
            counters=self.counters,
            options=SocketOptions(self.counters),
        )

    def _note_network(self, network: Network) -> None:
        self.networks.append(network)
        self._network_changed()

    def advert(self, node_id: str, role: Role) -> Advert:
        """Return the advert of a node of our group."""
        return Advert(self.group, node_id, "node", 100, True, role, 3, 1, ("127.0.0.1",), PORT)

    def pairs(self, node_id: str, role: Role) -> dict[str, str]:
        """Return the pairs of a node's TXT record, signed with the PSK of our group."""
        return encode_advert(self.advert(node_id, role), advert_key(self.psk.active.key))

    async def next_event(self) -> Event:
        """Wait for the next event. Raises TimeoutError."""
        return await asyncio.wait_for(self.events.get(), 3)

    async def expect_nothing(self) -> None:
        """Check that no event comes for 0.3 s."""
        await asyncio.sleep(0.3)
        assert self.events.empty(), self.events.get_nowait()


class ListenerWithPeer(Listener):
    """A Discovery with its events, and another node that sends any announcement."""

    def __init__(self, loopback: Loopback, zeroconf: AsyncZeroconf) -> None:
        super().__init__(loopback, MULTICAST_INTERFACE, "v4")
        self._zeroconf = zeroconf.zeroconf

    def announce(self, role: Role, node_id: str | None = None, ttl: int = 120) -> None:
        """Announce that a node has this role. Without `node_id` it is always the same other node."""
        node_id = node_id or self.other
        pairs = self.pairs(node_id, role)
        info = ServiceInfo(
            SERVICE_TYPE,
            f"{instance_name(node_id)}.{SERVICE_TYPE}",
            addresses=[socket.inet_aton("127.0.0.1")],
            port=PORT,
            properties=dict(pairs),
            server=f"{instance_name(node_id)}.local.",
        )
        self._zeroconf.async_send(self._zeroconf.generate_service_broadcast(info, ttl))

    def point_to(self, name: str) -> None:
        """Announce only that an instance exists, so that a listener has to ask for its records."""
        out = DNSOutgoing(FLAGS_RESPONSE)
        out.add_answer_at_time(DNSPointer(SERVICE_TYPE, DNS_PTR, CLASS_IN, 120, f"{name}.{SERVICE_TYPE}"), 0)
        self._zeroconf.async_send(out)

    def ask(self) -> None:
        """Ask for the TXT record of our own node, for an answer by multicast."""
        out = DNSOutgoing(FLAGS_QUERY)
        out.add_question(DNSQuestion(f"{instance_name(self.own)}.{SERVICE_TYPE}", DNS_TXT, CLASS_IN))
        self._zeroconf.async_send(out)


@asynccontextmanager
async def listening_with_peer(loopback: Loopback) -> AsyncIterator[ListenerWithPeer]:
    """Run a Discovery and an announcing node during the block."""
    zeroconf = AsyncZeroconf(interfaces=[MULTICAST_INTERFACE])
    made = ListenerWithPeer(loopback, zeroconf)
    try:
        await made.discovery.start()
        yield made
    finally:
        await made.discovery.stop()
        await zeroconf.async_close()


@asynccontextmanager
async def listening(
    loopback: Loopback, interface: str, ip: Literal["both", "v4", "v6"] = "v4"
) -> AsyncIterator[Listener]:
    """Run a Discovery without another node during the block."""
    made = Listener(loopback, interface, ip)
    try:
        await made.discovery.start()
        yield made
    finally:
        await made.discovery.stop()
