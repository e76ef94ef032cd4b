"""The UDP socket of a multicast group, IPv4 or IPv6. It carries datagrams and does not read them."""

import asyncio
import logging
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from pskkey.errors import ConfigError, Unreachable
from pskkey.mcast.record import MAX_RECORD

_LOG = logging.getLogger("pskkey.mcast")

RECEIVE_BUFFER = 4 << 20
DATAGRAMS_PER_WAKE_UP = 64
SEND_QUEUE = 1024
MAX_DATAGRAM = 65507

# Linux's numbers, which the `socket` module does not name.
_IP_MULTICAST_ALL = 49
_IPV6_MULTICAST_ALL = 29
_SO_RCVBUFFORCE = 33


class MulticastEndpoint:
    """Sends to one multicast group and receives what is sent to it. Must be made inside a running event loop.

    `received` is called in the loop with the datagrams of one wake-up: at most `DATAGRAMS_PER_WAKE_UP`, so that a flood
    on one socket does not starve the others. A datagram longer than any DTLS record is cut and so malformed.
    `interface`: a name ("eth0") or an address of it; None leaves the choice to the routing table.
    `ttl` (IPv6: hop limit) 0..255: how many hops a datagram may go; 1 stays on the link.
    `loopback`: whether members on this host, this one included, receive what is sent here.
    `receive_buffer`: bytes. The kernel gives at most net.core.rmem_max, unless the process has CAP_NET_ADMIN.

    `counters`: `datagrams_sent`, `datagrams_received`, `send_failed` (the network did not take it),
    `receive_failed` (the system reported an error instead of a datagram).
    Raises ConfigError for an impossible group, port or interface, Unreachable when the system refuses to join it.
    """

    def __init__(
        self,
        group: str,
        port: int,
        received: Callable[[Sequence[bytes]], None],
        *,
        interface: str | None = None,
        ttl: int = 1,
        loopback: bool = True,
        receive_buffer: int = RECEIVE_BUFFER,
    ) -> None:
        address = _group_address(group)
        if not 1 <= port <= 65535:
            raise ConfigError(f"port: {port} is not a UDP port; allowed are 1..65535")
        if not 0 <= ttl <= 255:
            raise ConfigError(f"ttl: {ttl} is not a hop count; allowed are 0..255")
        self.counters: Counter[str] = Counter()
        self._received = received
        self._queue: deque[bytes] = deque()
        self._loop = asyncio.get_running_loop()
        family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
        try:
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:  # no file descriptor is left, or this machine has no IPv6
            raise Unreachable(f"no socket for multicast group {group}: {error.strerror}") from error
        try:
            self._socket.setblocking(False)
            _share(self._socket)
            _enlarge(self._socket, receive_buffer)
            if isinstance(address, IPv4Address):
                self._target: tuple[str, int] | tuple[str, int, int, int] = (str(address), port)
                _join_ipv4(self._socket, address, port, interface, ttl, loopback)
            else:
                index = _ipv6_interface_index(interface or address.scope_id)
                self._target = (str(address).partition("%")[0], port, 0, index)
                _join_ipv6(self._socket, address, self._target, index, ttl, loopback)
        except OSError as error:
            self._socket.close()
            raise Unreachable(
                f"cannot join multicast group {group} port {port} on {interface or 'the default interface'}: "
                f"{error.strerror}; is the interface up, and is there a route for multicast?"
            ) from error
        except ConfigError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)

    def send(self, datagram: bytes) -> bool:
        """Send a datagram to the group; return False when the network did not take it (it is lost, as UDP may lose it).

        While the send buffer is full, datagrams wait, at most `SEND_QUEUE` of them. Raises ValueError for a datagram
        that is too long for UDP.
        """
        if len(datagram) > MAX_DATAGRAM:
            raise ValueError(f"a datagram of {len(datagram)} bytes is too long for UDP, which takes {MAX_DATAGRAM}")
        if self._queue:
            return self._enqueue(datagram)
        try:
            return self._send_now(datagram)
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
            return self._enqueue(datagram)

    def close(self) -> None:
        """Leave the group; drop the datagrams that wait to be sent. May be called twice."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._queue.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> None:
        datagrams = []
        receive = self._socket.recv
        try:
            for _ in range(DATAGRAMS_PER_WAKE_UP):
                datagrams.append(receive(MAX_RECORD + 1))  # noqa: PERF401 - an error must not lose those before it
        except BlockingIOError:
            pass  # drained
        except OSError:
            # An ICMP error for a datagram that was sent earlier; the socket still works.
            self.counters["receive_failed"] += 1
        if datagrams:
            self.counters["datagrams_received"] += len(datagrams)
            self._received(datagrams)

    def _send_now(self, datagram: bytes) -> bool:
        try:
            self._socket.sendto(datagram, self._target)
        except BlockingIOError:
            raise
        except OSError as error:
            # An unplugged cable or a full device queue: this datagram is lost, and the endpoint goes on.
            if not self.counters["send_failed"]:
                _LOG.warning("cannot send to %s: %s; the loss is counted from now on", self._target[0], error.strerror)
            self.counters["send_failed"] += 1
            return False
        self.counters["datagrams_sent"] += 1
        return True

    def _enqueue(self, datagram: bytes) -> bool:
        if len(self._queue) >= SEND_QUEUE:
            self.counters["send_failed"] += 1
            return False
        self._queue.append(datagram)
        return True

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            while self._queue:
                self._send_now(self._queue[0])
                self._queue.popleft()
            self._loop.remove_writer(self._socket)


def _group_address(group: str) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(group)
    except ValueError:
        address = None
    if address is None or not address.is_multicast:
        raise ConfigError(
            f"group: {group!r} is no multicast address; allowed are 224.0.0.0 to 239.255.255.255 and ff00::/8"
        )
    return address


def _share(sock: socket.socket) -> None:
    """Let other members on this host use the same port; each of them gets every multicast datagram."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    _try_to_set(sock, socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # for members that set only this one


def _enlarge(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except OSError:  # usually the permission is missing
        _try_to_set(sock, socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _try_to_set(sock: socket.socket, level: int, option: int, value: int) -> None:
    """Set an option that an endpoint can do without, if the system allows it."""
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:
        _LOG.info("the system refuses socket option %d of level %d: %s", option, level, error.strerror)


def _join_ipv4(
    sock: socket.socket, group: IPv4Address, port: int, interface: str | None, ttl: int, loopback: bool
) -> None:
    local, index = _ipv4_interface(interface)
    # struct ip_mreqn of ip(7): group, local address, interface index.
    membership = struct.pack("=4s4si", group.packed, local.packed, index)
    # Without this option, datagrams to the group come from all interfaces: they are authenticated all the same.
    _try_to_set(sock, socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
    # Bound to the group's address, the socket gets no datagram that was sent to another group or to this host.
    sock.bind((str(group), port))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    if interface is not None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, loopback)


def _join_ipv6(
    sock: socket.socket,
    group: IPv6Address,
    target: tuple[str, int, int, int],
    index: int,
    ttl: int,
    loopback: bool,
) -> None:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    _try_to_set(sock, socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
    sock.bind(target)
    # struct ipv6_mreq of RFC 3493 section 5.2: group, interface index.
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, struct.pack("=16sI", group.packed, index))
    if index:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, loopback)


def _ipv4_interface(interface: str | None) -> tuple[IPv4Address, int]:
    """Return the address and index that name the interface to the kernel, which looks the address up itself."""
    if interface is None:
        return IPv4Address(0), 0
    try:
        return IPv4Address(interface), 0
    except ValueError:
        return IPv4Address(0), _index_of(interface)


def _ipv6_interface_index(interface: str | None) -> int:
    if interface is None:
        return 0
    try:
        address = IPv6Address(interface)
    except ValueError:
        return _index_of(interface)
    if address.scope_id is not None:
        return _index_of(address.scope_id)
    # proc(5): one line for each address: 32 hex digits, the interface index in hex, ...
    for line in Path("/proc/net/if_inet6").read_text("ascii").splitlines():
        fields = line.split()
        if bytes.fromhex(fields[0]) == address.packed:
            return int(fields[1], 16)
    raise ConfigError(f"interface: no interface of this host has the address {interface}")


def _index_of(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        allowed = ", ".join(name for _, name in socket.if_nameindex())
        raise ConfigError(
            f"interface: {name!r} is no interface of this host; allowed are {allowed} or an address of one of them"
        ) from None
