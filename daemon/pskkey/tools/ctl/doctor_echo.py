"""The size of packets that reach a node and come back, by ICMP echo requests that may not be cut (RFC 792, RFC 4443).

message    type u8 | code u8 | checksum u16 | identifier u16 | sequence number u16 | token | zeros
"""

import asyncio
import fcntl
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pskkey.rtnetlink.interfaces import list_interfaces
from pskkey.rtnetlink.socket_address import find_socket_address

AT_ONCE: Final = 16
"""Nodes that are asked at a time."""
ECHO_WITHIN: Final = 2.0
"""Seconds for the replies of one node."""
BEGIN_WITHIN: Final = 4.0
"""Seconds after which no further node is asked."""
SIZES: Final = (1500, 1400, 1280, 576)
"""Bytes of packets, with their IP headers, beside the MTU of the interface."""

_SENT_AGAIN_AFTER: Final = 0.7
"""Seconds: one request, or its reply, may be lost by chance."""
_LARGEST: Final = 65535
_ICMP: Final = struct.Struct(">BBHHH")
_TOKEN_SIZE: Final = 8
_REQUEST: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}
_HEADERS: Final = {socket.AF_INET: 28, socket.AF_INET6: 48}
"""Bytes of IP and ICMP before the token."""
_MTU_DISCOVER, _PROBE = {socket.AF_INET: (0, 10), socket.AF_INET6: (41, 23)}, 3
"""IP_MTU_DISCOVER, IPV6_MTU_DISCOVER and IP_PMTUDISC_PROBE of <linux/in.h> and <linux/in6.h>."""
_GET_MTU: Final = 0x8921
"""SIOCGIFMTU of <linux/sockios.h>."""
_IFREQ: Final = struct.Struct("=16si20x")


class PathSize(NamedTuple):
    """The largest packet (bytes) that came back from an address. `arrived` is None if none did.

    `wanted` is the MTU of our interface there.
    """

    address: str
    wanted: int
    arrived: int | None


@dataclass(slots=True)
class _Asked:
    """The requests to one address that wait for replies."""

    largest: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class EchoSockets:
    """Measures paths with one socket for each IP version. Use it as a context. Raises PermissionError."""

    def __init__(self) -> None:
        self._token = secrets.token_bytes(_TOKEN_SIZE)
        self._identifier = secrets.randbelow(1 << 16)
        self._sockets: dict[int, socket.socket] = {}
        self._waiting: dict[int, tuple[_Asked, int]] = {}
        self._sequence = 0

    def __enter__(self) -> "EchoSockets":
        try:
            self._open(socket.AF_INET, socket.IPPROTO_ICMP)
            with suppress(OSError):  # a kernel without IPv6
                self._open(socket.AF_INET6, socket.IPPROTO_ICMPV6)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        for each in self._sockets.values():
            asyncio.get_running_loop().remove_reader(each)
            each.close()
        self._sockets.clear()

    async def measure(self, addresses: Sequence[str]) -> list[PathSize]:
        """Measure the paths to these addresses, AT_ONCE at a time. Leave out those for which the time is over."""
        places, last_begin = asyncio.Semaphore(AT_ONCE), time.monotonic() + BEGIN_WITHIN

        async def measure(address: str) -> PathSize | None:
            async with places:
                return None if time.monotonic() > last_begin else await self._measure(address)

        found = await asyncio.gather(*map(measure, addresses))
        return [one for one in found if one is not None]

    async def _measure(self, address: str) -> PathSize | None:
        try:
            family, target = find_socket_address(address, 0)
        except OSError:  # the interface of a zone has vanished
            return None
        if family not in self._sockets or (wanted := _interface_mtu(family, target)) is None:
            return None
        asked = _Asked()
        sizes = (wanted, *(size for size in SIZES if size < wanted))
        sent: list[int] = []
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(ECHO_WITHIN):
                    for pause in (_SENT_AGAIN_AFTER, ECHO_WITHIN):
                        sent += [self._send(family, target, size, asked) for size in sizes if size > asked.largest]
                        with suppress(TimeoutError):
                            async with asyncio.timeout(pause):
                                while asked.largest < wanted:
                                    await asked.changed.wait()
                                    asked.changed.clear()
                        if asked.largest == wanted:
                            break
        finally:
            for sequence in sent:
                self._waiting.pop(sequence, None)
        return PathSize(address, wanted, asked.largest or None)

    def _open(self, family: socket.AddressFamily, protocol: int) -> None:
        try:
            made = socket.socket(family, socket.SOCK_RAW, protocol)
        except PermissionError:
            made = socket.socket(family, socket.SOCK_DGRAM, protocol)  # net.ipv4.ping_group_range allows it
        self._sockets[family] = made
        made.setblocking(False)
        level, option = _MTU_DISCOVER[family]
        made.setsockopt(level, option, _PROBE)
        asyncio.get_running_loop().add_reader(made, self._receive, made)

    def _send(self, family: socket.AddressFamily, target: tuple[Any, ...], size: int, asked: _Asked) -> int:
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._waiting[self._sequence] = asked, size
        content = self._token + bytes(max(0, size - _HEADERS[family] - _TOKEN_SIZE))
        head = _ICMP.pack(_REQUEST[family], 0, 0, self._identifier, self._sequence)
        if family == socket.AF_INET:  # for ICMPv6 the kernel computes it
            head = _ICMP.pack(_REQUEST[family], 0, _checksum(head + content), self._identifier, self._sequence)
        with suppress(OSError):  # such as EMSGSIZE, or no route: the packet does not arrive
            self._sockets[family].sendto(head + content, target)
        return self._sequence

    def _receive(self, readable: socket.socket) -> None:
        try:
            packet = readable.recv(_LARGEST)
        except OSError:  # an ICMP error for an earlier packet
            return
        if readable.family == socket.AF_INET and readable.type == socket.SOCK_RAW:
            packet = packet[(packet[0] & 15) * 4 :]  # behind the IPv4 header
        if len(packet) < _ICMP.size + _TOKEN_SIZE:
            return
        kind, _, _, _, sequence = _ICMP.unpack_from(packet)
        token = packet[_ICMP.size : _ICMP.size + _TOKEN_SIZE]
        if kind != _REPLY[readable.family] or token != self._token or sequence not in self._waiting:
            return
        asked, size = self._waiting.pop(sequence)
        asked.largest = max(asked.largest, size)
        asked.changed.set()


def _checksum(message: bytes) -> int:
    """Return the Internet checksum of a message (RFC 1071)."""
    padded = message + bytes(len(message) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - (total + (total >> 16) & 0xFFFF)


def _interface_mtu(family: int, target: tuple[Any, ...]) -> int | None:
    """Return the MTU (bytes) of the interface that leads to a socket address; None: there is none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target[0], 9, *target[2:]))
            source = probe.getsockname()[0].partition("%")[0]
            zone = target[3] if len(target) > 3 else 0
            for interface in list_interfaces():
                is_there = any(str(address.ip) == source for address in interface.addresses)
                if is_there and zone in (0, interface.index):
                    answer = fcntl.ioctl(probe, _GET_MTU, _IFREQ.pack(interface.name, 0))
                    return min(int(_IFREQ.unpack(answer)[1]), _LARGEST)
    except OSError:
        return None
    return None
