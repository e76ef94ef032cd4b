"""The multicast socket: real datagrams, on the loopback interface and in a namespace."""

import asyncio
import socket
from collections.abc import Callable, Sequence

import pytest

from pskkey.errors import ConfigError, Unreachable
from pskkey.mcast import MulticastEndpoint
from pskkey.mcast.endpoint import DATAGRAMS_PER_WAKE_UP, MAX_DATAGRAM
from tests.mcast.namespace import multicast_namespace, plug_cable, pull_cable

GROUP = "239.255.77.2"


class Inbox:
    """Collects what an endpoint receives, wake-up by wake-up."""

    def __init__(self) -> None:
        self.wake_ups: list[list[bytes]] = []
        self._changed = asyncio.Event()

    def __call__(self, datagrams: Sequence[bytes]) -> None:
        self.wake_ups.append(list(datagrams))
        self._changed.set()

    @property
    def datagrams(self) -> list[bytes]:
        return [datagram for wake_up in self.wake_ups for datagram in wake_up]

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.datagrams) < count:
                await self._changed.wait()
                self._changed.clear()


async def test_every_member_on_the_host_gets_every_datagram(unused_udp_port: int) -> None:
    inboxes = [Inbox(), Inbox(), Inbox()]
    endpoints = [MulticastEndpoint(GROUP, unused_udp_port, inbox, interface="127.0.0.1") for inbox in inboxes]
    assert endpoints[0].send(b"one")
    assert endpoints[1].send(b"two")
    for inbox in inboxes:
        await inbox.wait_for(2)
        assert sorted(inbox.datagrams) == [b"one", b"two"]
    for endpoint in endpoints:
        endpoint.close()
        endpoint.close()


async def test_a_burst_is_drained_in_few_wake_ups_of_bounded_size(unused_udp_port: int) -> None:
    inbox = Inbox()
    with MulticastEndpoint(GROUP, unused_udp_port, inbox, interface="lo") as endpoint:
        for number in range(300):
            endpoint.send(b"%d" % number)
        await inbox.wait_for(300)
        assert inbox.datagrams == [b"%d" % number for number in range(300)]
        assert max(map(len, inbox.wake_ups)) <= DATAGRAMS_PER_WAKE_UP
        assert len(inbox.wake_ups) <= 10
        assert endpoint.counters == {"datagrams_sent": 300, "datagrams_received": 300}


async def test_datagrams_of_another_group_on_the_same_port_are_not_received(unused_udp_port: int) -> None:
    inbox, other = Inbox(), Inbox()
    with (
        MulticastEndpoint(GROUP, unused_udp_port, inbox, interface="lo") as endpoint,
        MulticastEndpoint("239.255.77.3", unused_udp_port, other, interface="lo") as stranger,
    ):
        stranger.send(b"not for us")
        await other.wait_for(1)
        endpoint.send(b"for us")
        await inbox.wait_for(1)
        assert inbox.datagrams == [b"for us"]


@pytest.mark.root
async def test_without_loopback_nothing_comes_back() -> None:
    inbox = Inbox()
    with (
        multicast_namespace() as interface,
        MulticastEndpoint(GROUP, 12345, inbox, interface=interface, loopback=False) as silent,
        MulticastEndpoint(GROUP, 12345, Inbox(), interface=interface) as audible,
    ):
        silent.send(b"silent")
        audible.send(b"audible")
        await inbox.wait_for(1)
        assert inbox.datagrams == [b"audible"]


@pytest.mark.root
@pytest.mark.parametrize(
    ("group", "interface"),
    [
        ("239.1.2.3", "mc0"),
        ("239.1.2.3", "10.77.0.1"),
        ("ff15::77", "mc0"),
        ("ff15::77", "fd77::1"),
        ("ff02::77%mc0", None),
    ],
)
async def test_interface_is_given_by_name_address_or_scope(group: str, interface: str | None) -> None:
    with multicast_namespace():
        inbox = Inbox()
        with MulticastEndpoint(group, 12345, inbox, interface=interface, ttl=3) as endpoint:
            assert endpoint.send(b"x")
            await inbox.wait_for(1)
        assert inbox.datagrams == [b"x"]


async def test_port_of_another_program_is_refused_with_a_sentence(unused_udp_port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", unused_udp_port))
        with pytest.raises(Unreachable, match=rf"{GROUP} port {unused_udp_port} on interface 'lo': Address already in"):
            MulticastEndpoint(GROUP, unused_udp_port, Inbox(), interface="lo")


@pytest.mark.root
async def test_unplugged_cable_loses_datagrams_and_nothing_else() -> None:
    inbox = Inbox()
    with (
        multicast_namespace() as interface,
        MulticastEndpoint("ff15::77", 12345, inbox, interface=interface) as endpoint,
    ):
        pull_cable(interface)
        assert not endpoint.send(b"lost")
        assert endpoint.counters["send_failed"] == 1
        plug_cable(interface)
        assert endpoint.send(b"here")
        await inbox.wait_for(1)
        assert inbox.datagrams == [b"here"]


async def test_datagram_too_long_for_udp_is_refused(unused_udp_port: int) -> None:
    with (
        MulticastEndpoint(GROUP, unused_udp_port, Inbox(), interface="lo") as endpoint,
        pytest.raises(ValueError, match="too long"),
    ):
        endpoint.send(bytes(MAX_DATAGRAM + 1))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MulticastEndpoint("10.0.0.1", 1000, Inbox()), "group"),
        (lambda: MulticastEndpoint("rubbish", 1000, Inbox()), "group"),
        (lambda: MulticastEndpoint(GROUP, 0, Inbox()), "port"),
        (lambda: MulticastEndpoint(GROUP, 1000, Inbox(), ttl=256), "ttl"),
        (lambda: MulticastEndpoint(GROUP, 1000, Inbox(), interface="n" * 128), "interface"),
        (lambda: MulticastEndpoint("ff02::1", 1000, Inbox()), "group"),
    ],
)
async def test_error_names_the_wrong_argument(make: Callable[[], MulticastEndpoint], named: str) -> None:
    with pytest.raises(ConfigError, match=f"^{named}:"):
        make()
