"""Discovery on a real loopback mDNS: the events for the adverts of other nodes."""

import asyncio
import time
from dataclasses import replace

from pskkey.adapters.discovery.advert_receiver import SAME_FOR
from pskkey.core.events import AdvertReceived
from pskkey.model import Role
from tests.system.heard import listening_with_peer
from tests.system.loopback import Loopback

SAME_PACKET_AGAIN = 1.1
"""Seconds after which python-zeroconf accepts the same packet again. Our nodes repeat theirs after one second."""


async def test_advert_that_changes_back_is_reported(loopback: Loopback) -> None:
    async with listening_with_peer(loopback) as it:
        for role in (Role.MASTER, Role.LISTENING, Role.MASTER, Role.CLIENT, Role.MASTER):
            if role is Role.MASTER:
                await asyncio.sleep(SAME_PACKET_AGAIN)
            it.announce(role)
            event = await it.next_event()
            assert isinstance(event, AdvertReceived)
            assert event.advert.role is role
            assert event.source == "127.0.0.1"


async def test_repeated_advert_is_not_reported(loopback: Loopback) -> None:
    async with listening_with_peer(loopback) as it:
        it.announce(Role.CLIENT)
        await it.next_event()
        for _ in range(2):
            await asyncio.sleep(SAME_PACKET_AGAIN)
            it.announce(Role.CLIENT)
            await it.expect_nothing()
        assert it.counters["adverts_accepted"] == 1
        # Other groups may use the loopback interface at the same time.
        (row,) = (row for row in it.discovery.heard(time.monotonic()) if row.kind == "ours")
        assert (row.node_id, row.source) == (it.other, "127.0.0.1")
        assert row.age < SAME_PACKET_AGAIN


async def test_a_goodbye_has_no_effect(loopback: Loopback) -> None:
    """A goodbye is not authenticated, so a stranger can send one for any node."""
    async with listening_with_peer(loopback) as it:
        it.announce(Role.CLIENT)
        await it.next_event()
        it.announce(Role.CLIENT, ttl=0)
        await it.expect_nothing()
        await asyncio.sleep(SAME_PACKET_AGAIN)
        it.announce(Role.CLIENT)
        await it.expect_nothing()


async def test_each_advert_of_a_listening_node_is_reported(loopback: Loopback) -> None:
    """It repeats its advert because no node has answered its challenge."""
    async with listening_with_peer(loopback) as it:
        for _ in range(3):
            it.announce(Role.LISTENING)
            assert isinstance(await it.next_event(), AdvertReceived)
            await asyncio.sleep(SAME_FOR)


async def test_own_adverts_are_not_reported_even_with_former_addresses(loopback: Loopback) -> None:
    async with listening_with_peer(loopback) as it:
        mine = it.advert(it.own, Role.LISTENING)
        it.discovery.advertise(mine)
        await it.expect_nothing()
        it.discovery.advertise(replace(mine, addresses=("127.0.0.9",)))
        it.announce(Role.LISTENING, it.own)  # the former one comes back late, as through a reflector
        await it.expect_nothing()
        it.announce(Role.MASTER, it.own)  # an advert that we never sent is from another node with our id
        event = await it.next_event()
        assert isinstance(event, AdvertReceived)
        assert event.advert.id == it.own
