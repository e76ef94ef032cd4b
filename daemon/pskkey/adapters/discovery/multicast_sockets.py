"""The sockets of mDNS (RFC 6762 section 11), with interfaces meant by index only.

1. For each IP version, one socket *listens* on port 5353 of all addresses. It receives the datagrams of the multicast
   group on every interface that a socket of this machine has joined the group on.
2. Other sockets *hold* the memberships, and do nothing else. A socket can join a group on a limited number of
   interfaces: the sysctl net.ipv4.igmp_max_memberships is 20, and IPv6 needs memory, limited by net.core.optmem_max.
3. For each interface and IP version, one socket *sends*. It is bound to an address of the interface, port 5353, and
   receives unicast datagrams to this address.

Several programs can have the port if each allows it by SO_REUSEADDR, or each of one user by SO_REUSEPORT.

The kernel joins and leaves an IPv4 group only while nobody changes an interface of any namespace, and that can take
seconds. So an event loop calls `open_sockets`, `leave` and `close` in a thread.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from pskkey.adapters.discovery.network import MulticastInterface
from pskkey.rtnetlink.memberships import list_receiving

PORT: Final = 5353
IPV4_GROUP: Final = "224.0.0.251"
IPV6_GROUP: Final = "ff02::fb"

_HOPS: Final = 255
"""RFC 6762 section 11."""

_IPV4_MEMBERSHIP: Final = struct.Struct("=4s4si")
"""`struct ip_mreqn` of ip(7): group, address of ours, interface index."""

_IPV6_MEMBERSHIP: Final = struct.Struct("=16sI")
"""`struct ipv6_mreq` of ipv6(7): group, interface index."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_NO_ROOM: Final = frozenset({errno.ENOBUFS, errno.ENOMEM})
"""The errors of a socket that cannot join a group on one more interface (IPv4, IPv6)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of mDNS that cannot run: one interface with an IP version (4 or 6), or all of them (`label` is None)."""

    version: int
    label: str | None
    error: int
    """An errno value."""

    @property
    def is_port_taken(self) -> bool:
        """Whether another program has port 5353 for itself."""
        return self.error == errno.EADDRINUSE

    @property
    def is_no_room(self) -> bool:
        """Whether the kernel allows no socket to join the multicast group."""
        return self.error in _NO_ROOM


@dataclass(slots=True)
class MulticastSockets:
    """The open sockets, and the reasons why others could not be opened."""

    listening: list[socket.socket] = field(default_factory=list)
    holding: list[socket.socket] = field(default_factory=list)
    sending: list[socket.socket] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def leave(self) -> None:
        """Leave the multicast groups. This may take seconds."""
        for each in self.holding:
            each.close()

    def close(self) -> None:
        """Leave the multicast groups, and close all sockets. This may take seconds."""
        self.leave()
        for each in (*self.listening, *self.sending):
            each.close()


def open_sockets(interfaces: Sequence[MulticastInterface]) -> MulticastSockets:
    """Open the sockets for these interfaces, as many as possible. This may take seconds."""
    opened = MulticastSockets()
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        wanted = list(_of_version(interfaces, version))
        if not wanted:
            continue
        try:
            opened.listening.append(_bound_socket(family, "", 0))
        except OSError as error:
            opened.faults.append(Fault(version, None, error.errno or 0))
            continue
        joiner: socket.socket | None = None
        for interface, address in wanted:
            try:
                if joiner is None or not _has_joined(joiner, interface.index):
                    opened.holding.append(joiner := _holding_socket(family, interface.index))
                opened.sending.append(_sending_socket(family, interface.index, address))
            except OSError as error:
                opened.faults.append(Fault(version, interface.label, error.errno or 0))
    return opened


def is_deaf_somewhere(interfaces: Sequence[MulticastInterface], faults: Sequence[Fault]) -> bool:
    """Return whether the kernel does not receive the group on one of these interfaces, except for the faults.

    Another program can end our membership: when it closes a socket whose own membership the kernel has dropped before,
    the kernel leaves the group on the interface that has the index now. Reads at most two files, for all interfaces.
    False if the kernel does not list the memberships.
    """
    for version, group in ((4, IPV4_GROUP), (6, IPV6_GROUP)):
        faulty = {fault.label for fault in faults if fault.version == version}
        joined = {each.index for each, _ in _of_version(interfaces, version) if each.label not in faulty}
        if not joined or None in faulty:
            continue
        try:
            received = list_receiving(ip_address(group))
        except OSError:  # for example, no descriptor is left
            continue
        if not joined <= received:
            return True
    return False


def _of_version(interfaces: Sequence[MulticastInterface], version: int) -> Iterator[tuple[MulticastInterface, str]]:
    for interface in interfaces:
        address = interface.ipv4 if version == 4 else interface.ipv6
        if address is not None:
            yield interface, address


def _bound_socket(family: socket.AddressFamily, address: str, scope: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, PORT) if family == socket.AF_INET else (address, PORT, 0, scope))
    except OSError:
        made.close()
        raise
    return made


def _sending_socket(family: socket.AddressFamily, index: int, address: str) -> socket.socket:
    made = _bound_socket(family, address, index)  # the scope counts for a link-local address only
    try:
        if family == socket.AF_INET:
            chosen = _IPV4_MEMBERSHIP.pack(bytes(4), socket.inet_aton(address), index)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, chosen)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
    except OSError:
        made.close()
        raise
    return made


def _has_joined(joiner: socket.socket, index: int) -> bool:
    """Join the group of mDNS on an interface. Return False if the socket has no room for this. Raises OSError."""
    try:
        _join(joiner, index)
    except OSError as error:
        if error.errno in _NO_ROOM:
            return False
        raise
    return True


def _holding_socket(family: socket.AddressFamily, index: int) -> socket.socket:
    """Return a socket that has joined the group on an interface, and receives nothing. Raises OSError."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        _join(made, index)
    except OSError:
        made.close()
        raise
    return made


def _join(joiner: socket.socket, index: int) -> None:
    """Join the group of mDNS on an interface. Raises OSError."""
    if joiner.family == socket.AF_INET:
        level, option = socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP
        membership = _IPV4_MEMBERSHIP.pack(socket.inet_aton(IPV4_GROUP), bytes(4), index)
    else:
        level, option = socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP
        membership = _IPV6_MEMBERSHIP.pack(socket.inet_pton(socket.AF_INET6, IPV6_GROUP), index)
    # Python's own `setsockopt` lets no other thread run meanwhile.
    if _LIBC.setsockopt(joiner.fileno(), level, option, membership, len(membership)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
