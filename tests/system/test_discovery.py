"""Discovery on a real loopback mDNS: what is told of the adverts of others."""

import asyncio
from dataclasses import replace

from pskkey.core.events import AdvertReceived
from pskkey.model import Role
from tests.system.heard import heard
from tests.system.loopback import Loopback

SAME_PACKET_AGAIN = 1.1
"""Seconds after which python-zeroconf takes the very same packet again; our nodes repeat theirs after one second."""


async def test_an_advert_that_changes_back_is_told(loopback: Loopback) -> None:
    async with heard(loopback) as it:
        for role in (Role.MASTER, Role.LISTENING, Role.MASTER, Role.CLIENT, Role.MASTER):
            if role is Role.MASTER:
                await asyncio.sleep(SAME_PACKET_AGAIN)
            it.say(role)
            event = await it.next()
            assert isinstance(event, AdvertReceived)
            assert event.advert.role is role


async def test_an_advert_that_says_the_same_again_is_not_told(loopback: Loopback) -> None:
    async with heard(loopback) as it:
        it.say(Role.CLIENT)
        await it.next()
        for _ in range(2):
            await asyncio.sleep(SAME_PACKET_AGAIN)
            it.say(Role.CLIENT)
            await it.nothing()
        assert it.counters["adverts_accepted"] == 1


async def test_a_goodbye_has_no_effect(loopback: Loopback) -> None:
    """It is not authenticated, so anybody can send one for any node."""
    async with heard(loopback) as it:
        it.say(Role.CLIENT)
        await it.next()
        it.say(Role.CLIENT, ttl=0)
        await it.nothing()
        await asyncio.sleep(SAME_PACKET_AGAIN)
        it.say(Role.CLIENT)
        await it.nothing()


async def test_a_node_that_listens_is_reported_each_time_that_it_is_heard(loopback: Loopback) -> None:
    """It repeats its advert because nobody has answered its challenge."""
    async with heard(loopback) as it:
        for _ in range(3):
            it.say(Role.LISTENING)
            assert isinstance(await it.next(), AdvertReceived)


async def test_our_own_adverts_are_not_told_whatever_their_addresses(loopback: Loopback) -> None:
    async with heard(loopback) as it:
        mine = it.advert(it.own, Role.LISTENING)
        it.discovery.advertise(mine)
        await it.nothing()
        it.discovery.advertise(replace(mine, addresses=("127.0.0.9",)))
        it.say(Role.LISTENING, it.own)  # the former one comes back late, as through a reflector
        await it.nothing()
        it.say(Role.MASTER, it.own)  # but what we never said is another node with our id
        event = await it.next()
        assert isinstance(event, AdvertReceived)
        assert event.advert.id == it.own
