"""The gate before python-zeroconf: the packets of strangers to port 5353 cost a bounded part of our time.

python-zeroconf as Debian 13 ships it reads every packet in pure Python and without limits. A packet of 9 kB can take a
second, and the cache for the records of other services grows without end. So its sockets are read here:

1. A datagram that does not concern us is dropped at once. It is the mDNS of other services.
2. Reading takes time, and the time has budgets: one for each source, and one for all sources together. Both are times
   and not numbers of packets, so the same bound holds on a processor that is 50 times slower. A datagram over budget
   is dropped unread.
3. A message must be well-formed and cheap (`wire.dns`).
4. The TXT records of our service type in a response are passed on. The library never gets a response: we use it only
   to send and to answer.
5. A query about our own names goes to the library, at most QUERIES_A_SECOND, because we send an answer to each.

A node sends each response over IPv4 and over IPv6, and repeats it. So the last responses are remembered with what was
read in them.

Each packet of a flood would cost a turn of the event loop. So after the datagram that asyncio has read, those that wait
behind it are read in the same turn, for at most TURN seconds.
"""

import asyncio
import ipaddress
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, cast

from pskkey.adapters.discovery.source import Source
from pskkey.adapters.host.socket_options import SocketOption, SocketOptions
from pskkey.errors import BadPacket
from pskkey.wire.dns import MAX_MESSAGE, InstanceText, Query, Response, concerns_us, read_message_untrusted

TURN: Final = 0.002
"""Seconds for which datagrams are read in one turn of the event loop. A datagram that has begun is finished."""

RECEIVE_BUFFER: Final = SocketOption("SO_RCVBUF", socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
"""Bytes of datagrams that the kernel keeps while we have no processor. It limits them to net.core.rmem_max."""

SHARE_OF_ALL: Final = 0.25
SHARE_OF_SOURCE: Final = 0.05
"""Parts of our time that the reading of datagrams may take: in all, and for each source (an IPv4 address or an IPv6
/64)."""

BURST: Final = 1.0
"""Seconds for which an unused share is saved. The saved time may be used at once."""

MAX_SOURCES: Final = 1024
"""Sources whose shares are counted. One more removes the source of the least recent datagram."""

MAX_RESPONSES: Final = 48
MAX_REMEMBERED: Final = 1024
"""Responses that are remembered, of at most so many bytes."""

QUERIES_A_SECOND: Final = 2.0
MAX_QUERIES_SAVED_UP: Final = 10.0
"""Queries that are answered. Members do not depend on queries: adverts are announced.

RFC 6762 section 6 demands a second between two answers to the same question. The library does not obey it here,
because it never receives what we have sent. All nodes answer a question about the service type, about 1 kB each.
"""

_LIBRARY_READS: Final = 0.002
"""Seconds that a query is charged in advance, because the library works on it later."""
_log = logging.getLogger("pskkey.mdns")


class Budget:
    """An amount that grows by `rate` a second up to `most`. `take` reduces it."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, rate: float, most: float) -> None:
        self._rate, self._most = rate, most
        self._left, self._at = most, float("-inf")

    def has_any(self, now: float) -> bool:
        """Return whether something is left."""
        if now > self._at:
            self._left = min(self._most, self._left + (now - self._at) * self._rate)
            self._at = now
        return self._left > 0.0

    def take(self, amount: float) -> None:
        """Take `amount`. It may be more than is left; then nothing is left for a while."""
        self._left -= amount


class Gate:
    """The budgets that all sockets of one Zeroconf share, and the checks on their datagrams.

    Counters: `mdns_dropped` (over budget, malformed or too large), `mdns_errors` (python-zeroconf has failed).
    """

    def __init__(
        self,
        names: frozenset[bytes],
        take: Callable[[InstanceText, Source, float], None],
        counters: Counter[str],
        options: SocketOptions,
    ) -> None:
        """`names` are those of our own records. `options` sets those of the sockets.

        `take` gets each TXT record of our service type, its source, and the time of `time.monotonic`.
        It must not raise.
        """
        self.options = options
        self._names = names
        self._take = take
        self._counters = counters
        self._all = Budget(SHARE_OF_ALL, SHARE_OF_ALL * BURST)
        self._sources: dict[str, Budget] = {}
        self._queries = Budget(QUERIES_A_SECOND, MAX_QUERIES_SAVED_UP)
        self.had_more = False
        """Whether the time of a turn was over before a socket was empty. The owner clears it."""
        self._responses: dict[bytes, Response] = {}
        """The last responses, by their datagrams; the one that was received the longest ago is first."""

    def guard(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """Return a loop for python-zeroconf. Every datagram endpoint that it makes is behind this gate."""
        return cast(asyncio.AbstractEventLoop, _GuardedLoop(loop, self))

    def received(self, listener: asyncio.DatagramProtocol, data: bytes, source: tuple[Any, ...]) -> None:
        """Check a datagram that came to the socket of `listener`."""
        known = self._responses.pop(data, None)
        if known is None and not concerns_us(data):
            return
        began = time.monotonic()
        share = self._share_of(source[0])
        if not self._all.has_any(began) or not share.has_any(began):
            self._counters["mdns_dropped"] += 1
            return
        later = 0.0
        try:
            reading = known or read_message_untrusted(data)
        except BadPacket as error:
            self._counters["mdns_dropped"] += 1
            _log.debug("packet of %s dropped: %s", source[0], error)
        else:
            if isinstance(reading, Query):
                if not reading.names.isdisjoint(self._names) and self._queries.has_any(began):
                    self._queries.take(1.0)
                    self._pass_to_library(listener, data, source)
                    later = _LIBRARY_READS
            else:
                self._remember(data, reading)
                for text in reading.texts:
                    self._take(text, Source.of(source), began)
        cost = time.monotonic() - began + later
        self._all.take(cost)
        share.take(cost)

    def _remember(self, data: bytes, response: Response) -> None:
        if len(data) <= MAX_REMEMBERED:
            while len(self._responses) >= MAX_RESPONSES:
                del self._responses[next(iter(self._responses))]
            self._responses[data] = response

    def _pass_to_library(self, listener: asyncio.DatagramProtocol, data: bytes, source: tuple[Any, ...]) -> None:
        try:
            listener.datagram_received(data, cast(tuple[str | Any, int], source))
        except Exception as error:  # noqa: BLE001  a stranger may find a defect of the library
            self._counters["mdns_errors"] += 1
            _log.debug("python-zeroconf failed on a query of %s: %r", source[0], error)

    def _share_of(self, address: str) -> Budget:
        source = mdns_source_of(address)
        share = self._sources.pop(source, None)
        if share is None:
            while len(self._sources) >= MAX_SOURCES:
                del self._sources[next(iter(self._sources))]
            share = Budget(SHARE_OF_SOURCE, SHARE_OF_SOURCE * BURST)
        self._sources[source] = share
        return share


@lru_cache(MAX_SOURCES)
def mdns_source_of(address: str) -> str:
    """Return the source that an address counts for: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    network = ipaddress.IPv6Network((address, 64), strict=False)
    # All link-local addresses are in one /64, so each of them is a source.
    return address if network.is_link_local else str(network)


class _GuardedSocket(asyncio.DatagramProtocol):
    """Stands between one socket and python-zeroconf's protocol for it."""

    def __init__(self, gate: Gate, own: socket.socket, listener: asyncio.DatagramProtocol) -> None:
        self._gate = gate
        self._socket = own
        self.listener = listener
        self._buffer = bytearray(MAX_MESSAGE + 1)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._gate.options.set(self._socket, RECEIVE_BUFFER)
        self.listener.connection_made(cast(asyncio.DatagramTransport, transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self.listener.connection_lost(exc)

    def error_received(self, exc: Exception) -> None:
        self.listener.error_received(exc)  # it reports each kind of failure once for each socket

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        end = time.monotonic() + TURN
        self._gate.received(self.listener, data, addr)
        while time.monotonic() < end:
            try:
                size, source = self._socket.recvfrom_into(self._buffer)
            except OSError:  # usually no datagram waits
                return
            self._gate.received(self.listener, bytes(memoryview(self._buffer)[:size]), source)
        self._gate.had_more = True


class _GuardedLoop:
    """An event loop whose datagram endpoints are behind a gate. In everything else it is the wrapped loop.

    python-zeroconf gets it before it opens its endpoints, so that it never reads a datagram by itself, not even one
    that waits at a new socket.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, gate: Gate) -> None:
        self._loop = loop
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], asyncio.DatagramProtocol], *, sock: socket.socket
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        transport, guarded = await self._loop.create_datagram_endpoint(
            lambda: _GuardedSocket(self._gate, sock, protocol_factory()), sock=sock
        )
        return transport, guarded.listener
