"""The sockets of mDNS on a real kernel: more interfaces than one socket may have memberships. Needs root."""

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pskkey.adapters.discovery.multicast_sockets import (
    IPV4_GROUP,
    IPV6_GROUP,
    PORT,
    Fault,
    MulticastSockets,
    open_sockets,
)
from pskkey.adapters.discovery.network import look_up
from pskkey.adapters.discovery.source import Source
from tests.system.private_network import bridge, own_network, set_sysctl

pytestmark = pytest.mark.root

BRIDGES = 25
"""More than net.ipv4.igmp_max_memberships allows by default."""

IP_RECVTTL = 12
"""A constant of <linux/in.h>."""

WAYS = {
    socket.AF_INET: [(socket.IPPROTO_IP, socket.IP_PKTINFO), (socket.IPPROTO_IP, IP_RECVTTL)],
    socket.AF_INET6: [
        (socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO),
        (socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT),
    ],
}
"""The options that make a socket report the interface and the TTL of each datagram."""


@contextmanager
def bridges(count: int = BRIDGES) -> Iterator[None]:
    """Use a network with bridges br0, br1..., each with an IPv4 address and a link-local IPv6 address."""
    lines = (bridge(f"br{n}", f"172.20.{n}.1/24", f"fe80::{n + 1:x}/64") for n in range(count))
    with own_network("link set lo up", *(line for made in lines for line in made)):
        yield


@contextmanager
def opened() -> Iterator[MulticastSockets]:
    made = open_sockets(look_up((), "both").multicast)
    try:
        yield made
    finally:
        made.close()


def count_of(made: MulticastSockets, version: int) -> int:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    return sum(each.family == family for each in made.sending)


def received(made: MulticastSockets) -> list[Source]:
    """Return the source of each datagram that waits at a listening socket."""
    found = []
    for each in made.listening:
        each.setblocking(False)
        try:
            while True:
                found.append(Source.of(each.recvfrom(100)[1]))
        except BlockingIOError:
            continue
    return found


def test_all_interfaces_work_although_one_socket_has_no_room_for_so_many_memberships() -> None:
    with bridges(), opened() as made:
        assert made.faults == []
        assert [each.family for each in made.holding] == [socket.AF_INET, socket.AF_INET, socket.AF_INET6]
        for each in made.sending:
            each.sendto(b"advert", (IPV4_GROUP if each.family == socket.AF_INET else IPV6_GROUP, PORT))
        sources = sorted(map(str, received(made)))
        # Each datagram comes once, from the address of its interface.
        assert sources == sorted(
            [*(f"172.20.{n}.1" for n in range(BRIDGES)), *(f"fe80::{n + 1:x}%br{n}" for n in range(BRIDGES))]
        )


def test_interfaces_with_the_same_addresses_send_each_through_itself() -> None:
    lines = (bridge(name, "10.1.0.1/24", "fd77::1/64") for name in ("br0", "br1"))
    with own_network(*(line for made in lines for line in made)), opened() as made:
        for each in made.listening:
            for level, option in WAYS[each.family]:
                each.setsockopt(level, option, 1)
        for each in made.sending:
            each.sendto(b"advert", (IPV4_GROUP if each.family == socket.AF_INET else IPV6_GROUP, PORT))
        # Index 2 is br0, and index 3 is br1. RFC 6762 section 11 demands the TTL of 255.
        assert [ways(each) for each in made.listening] == [[(2, 255), (3, 255)]] * 2


def ways(listening: socket.socket) -> list[tuple[int, int]]:
    """Return the index of the interface and the TTL of each datagram that waits at a listening socket."""
    found: list[tuple[int, int]] = []
    listening.setblocking(False)
    while True:
        try:
            _, parts, _, _ = listening.recvmsg(100, 200)
        except BlockingIOError:
            return sorted(found)
        # `struct in_pktinfo` begins with the index, and `struct in6_pktinfo` ends with it.
        (index,) = (data[:4] if len(data) == 12 else data[16:] for _, _, data in parts if len(data) > 4)
        (ttl,) = (data for _, _, data in parts if len(data) == 4)
        found.append((int.from_bytes(index, sys.byteorder), int.from_bytes(ttl, sys.byteorder)))


def test_ipv6_memberships_that_need_more_memory_than_a_socket_may_have_use_further_sockets() -> None:
    with bridges():
        set_sysctl("core/optmem_max", 256)
        with opened() as made:
            assert made.faults == []
            assert len([each for each in made.holding if each.family == socket.AF_INET6]) > 1
            made.sending[-1].sendto(b"advert", (IPV6_GROUP, PORT))
            assert list(map(str, received(made))) == [f"fe80::{BRIDGES:x}%br{BRIDGES - 1}"]


def test_limit_that_allows_no_membership_is_a_fault_of_each_interface() -> None:
    with bridges(2):
        set_sysctl("ipv4/igmp_max_memberships", 0)
        with opened() as made:
            assert made.faults == [Fault(4, f"br{n}", errno.ENOBUFS) for n in range(2)]
            assert all(fault.is_no_room for fault in made.faults)
            assert [each.family for each in made.holding] == [socket.AF_INET6]
            assert (count_of(made, 4), count_of(made, 6)) == (0, 2)


def test_port_of_another_program_is_a_fault_of_one_ip_version_only() -> None:
    with bridges(2), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", PORT))
        with opened() as made:
            assert made.faults == [Fault(4, None, errno.EADDRINUSE)]
            assert made.faults[0].is_port_taken
            assert (count_of(made, 4), count_of(made, 6)) == (0, 2)


def test_port_of_one_address_is_a_fault_of_its_interface_only() -> None:
    with bridges(2), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("172.20.1.1", PORT))
        with opened() as made:
            assert made.faults == [Fault(4, None, errno.EADDRINUSE)]


def test_interface_that_has_vanished_is_a_fault_and_leaves_no_socket_open() -> None:
    with bridges(1):
        vanished = look_up((), "both").multicast
    with own_network("link set lo up"):
        made = open_sockets(vanished)
        assert [(fault.version, fault.label) for fault in made.faults] == [(4, "br0"), (6, "br0")]
        assert (made.sending, made.holding) == ([], [])
        made.close()
        assert all(each.fileno() == -1 for each in made.listening)


def test_source_has_the_index_as_zone_if_the_name_of_the_interface_is_unusual() -> None:
    with own_network(*bridge("büro0"), *bridge("büro1".encode("latin-1")), *bridge("lan.7_x-1"), *bridge("a=b")):
        sources = [str(Source("fe80::1", index)) for index in range(1, 7)]
        assert sources == ["fe80::1%lo", "fe80::1%2", "fe80::1%3", "fe80::1%lan.7_x-1", "fe80::1%5", "fe80::1%6"]
