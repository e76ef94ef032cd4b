"""A wolfSSL member and a pskkey member in one group, over real multicast UDP."""

import asyncio
from collections.abc import Sequence

import pytest

from pskkey.mcast import GroupSession, MulticastEndpoint
from pskkey.model import KeyEntry, Suite
from tests.interop.wolfssl import Opened, WolfMember
from tests.mcast.namespace import multicast_namespace
from tests.mcast.vectors import group_key, key_state

OUR_ID, WOLF_ID = 1, 2
DATAGRAMS = 4000
BURST = 20


SUITES = pytest.mark.parametrize("suite", list(Suite))


@SUITES
async def test_no_datagram_is_lost_over_ipv4_on_the_loopback_interface(suite: Suite, unused_udp_port: int) -> None:
    await exchange(suite, "239.255.77.1", unused_udp_port, "127.0.0.1")


@SUITES
@pytest.mark.root
async def test_no_datagram_is_lost_over_ipv6_in_a_namespace(suite: Suite) -> None:
    with multicast_namespace() as interface:
        await exchange(suite, "ff02::7:7", 12345, interface)


async def exchange(suite: Suite, group: str, port: int, interface: str) -> None:
    """Send `DATAGRAMS` each way between a wolfSSL member and a pskkey member, and compare all received plaintexts."""
    key = group_key(4, suite)
    wolf = WolfMember(key, 9, WOLF_ID, [OUR_ID])
    session = GroupSession()
    session.apply(key_state(OUR_ID, KeyEntry(9, key, send=True)))
    from_wolf: list[bytes] = []
    from_us: list[Opened] = []
    arrived = asyncio.Event()

    def we_received(datagrams: Sequence[bytes]) -> None:
        messages = (session.receive(datagram) for datagram in datagrams)
        from_wolf.extend(message.plaintext for message in messages if message is not None)
        arrived.set()

    def wolf_received(datagrams: Sequence[bytes]) -> None:
        messages = (wolf.open(datagram) for datagram in datagrams)
        from_us.extend(message for message in messages if message is not None)
        arrived.set()

    with (
        MulticastEndpoint(group, port, we_received, interface=interface) as our_endpoint,
        MulticastEndpoint(group, port, wolf_received, interface=interface) as wolf_endpoint,
    ):
        for start in range(0, DATAGRAMS, BURST):
            for number in range(start, start + BURST):
                assert our_endpoint.send(session.send(b"ours %d" % number))
                assert wolf_endpoint.send(wolf.seal(b"wolf %d" % number))
            async with asyncio.timeout(5):
                while len(from_wolf) < start + BURST or len(from_us) < start + BURST:
                    await arrived.wait()
                    arrived.clear()
    wolf.close()
    assert from_us == [Opened(OUR_ID, b"ours %d" % number) for number in range(DATAGRAMS)]
    assert from_wolf == [b"wolf %d" % number for number in range(DATAGRAMS)]
    # By multicast loopback, each member also receives its own datagrams.
    assert session.counters == {"sent": DATAGRAMS, "received": DATAGRAMS, "own": DATAGRAMS}
