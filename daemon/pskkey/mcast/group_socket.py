"""The socket of one multicast group on one interface. It is made anew when the interface is another one."""

import logging
import socket
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from pskkey.mcast.interface import Place
from pskkey.rtnetlink.changes import SMALLEST_MTU

# Linux's numbers, which the `socket` module does not name.
_IP_MULTICAST_ALL: Final = 49
_IPV6_MULTICAST_ALL: Final = 29
_SO_RCVBUFFORCE: Final = 33

_log = logging.getLogger("pskkey.mcast")

type SocketAddress = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class GroupSocket:
    """How to make the socket: the group, and the arguments of `MulticastEndpoint`."""

    group: IPv4Address | IPv6Address
    port: int
    ttl: int
    loopback: bool
    receive_buffer: int

    @property
    def smallest_mtu(self) -> int:
        """Bytes; the kernel ends IP on an interface whose MTU is smaller (RFC 791, RFC 8200 section 5)."""
        return SMALLEST_MTU[self.group.version]

    def target(self, place: Place | None) -> SocketAddress:
        """Return the address to send to."""
        if self.group.version == 4:
            return str(self.group), self.port
        return str(self.group), self.port, 0, place.index if place is not None and place.is_chosen else 0

    def open(self, place: Place) -> socket.socket:
        """Return a socket that has joined the group there. Raises OSError."""
        is_ipv4 = self.group.version == 4
        with ExitStack() as on_error:
            sock = on_error.enter_context(
                socket.socket(socket.AF_INET if is_ipv4 else socket.AF_INET6, socket.SOCK_DGRAM)
            )
            sock.setblocking(False)
            _share(sock)
            _enlarge(sock, self.receive_buffer)
            if is_ipv4:
                self._join_ipv4(sock, place)
            else:
                self._join_ipv6(sock, place)
            on_error.pop_all()
        return sock

    def send_from(self, sock: socket.socket, place: Place) -> None:
        """Let the socket send there, if the program chose the interface. Raises OSError."""
        if not place.is_chosen:
            return
        if self.group.version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, self._membership(place))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, place.index)

    def _join_ipv4(self, sock: socket.socket, place: Place) -> None:
        # Without this option, datagrams to the group come from all interfaces: they are authenticated all the same.
        _try_to_set(sock, socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        # Bound to the group's address, the socket gets no datagram that was sent to another group or to this host.
        sock.bind((str(self.group), self.port))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, self._membership(place))
        self.send_from(sock, place)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self.ttl)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, self.loopback)

    def _join_ipv6(self, sock: socket.socket, place: Place) -> None:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _try_to_set(sock, socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
        sock.bind(self.target(place))
        # struct ipv6_mreq of RFC 3493 section 5.2: group, interface index.
        membership = struct.pack("=16sI", self.group.packed, place.index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, membership)
        self.send_from(sock, place)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, self.ttl)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, self.loopback)

    def _membership(self, place: Place) -> bytes:
        """Return a struct ip_mreqn of ip(7): group, local address, interface index."""
        return struct.pack("=4s4si", self.group.packed, place.local.packed, place.index)


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
        _log.info("the system refuses socket option %d of level %d: %s", option, level, error.strerror)
