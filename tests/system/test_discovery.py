"""Discovery on a real loopback mDNS: what is told of the adverts of others."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from zeroconf import ServiceInfo
from zeroconf._dns import DNSPointer
from zeroconf._protocol.outgoing import DNSOutgoing
from zeroconf.asyncio import AsyncZeroconf

from pskkey.adapters.announcer import ANSWER_AGAIN_AFTER
from pskkey.adapters.mdns import Discovery
from pskkey.core.events import AdvertReceived, AdvertRemoved, Event
from pskkey.model import Advert, Role
from pskkey.psk import load_psk
from pskkey.wire.advert import SERVICE_TYPE, advert_key, encode_advert, instance_name
from tests.system.loopback import MULTICAST_INTERFACE, PORT, Loopback
from tests.system.mdns_wire import overhear

SAME_PACKET_AGAIN = 1.1
"""Seconds after which python-zeroconf takes the very same packet again; our nodes repeat theirs after one second."""

ANNOUNCED = 1.1
"""Seconds after which a change is not announced any more."""

DNS_PTR, DNS_TXT, CLASS_IN, FLAGS_RESPONSE = 12, 16, 1, 0x8400
"""Of RFC 1035 section 3.2 and RFC 6762 section 18."""

OWN, OTHER = "aaaaaaaa00", "bbbbbbbb00"


class Heard:
    """A Discovery with its events, and another node that says what it likes."""

    def __init__(self, loopback: Loopback, zeroconf: AsyncZeroconf) -> None:
        self.psk = load_psk(loopback.psk)
        self.group = loopback.group
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.counters: Counter[str] = Counter()
        self._zeroconf = zeroconf.zeroconf
        self.discovery = Discovery(
            group=loopback.group,
            node_id=OWN,
            psk=lambda: self.psk,
            interfaces=[MULTICAST_INTERFACE],
            ip="v4",
            emit=self.events.put_nowait,
            network_changed=lambda _: None,
            failed=lambda _: None,
            counters=self.counters,
        )

    def advert(self, node_id: str, role: Role) -> Advert:
        return Advert(self.group, node_id, "node", 100, True, role, 3, 1, ("127.0.0.1",), PORT)

    def say(self, role: Role, node_id: str = OTHER, ttl: int = 120) -> None:
        pairs = encode_advert(self.advert(node_id, role), advert_key(self.psk.active.key))
        info = ServiceInfo(
            SERVICE_TYPE,
            f"{instance_name(node_id)}.{SERVICE_TYPE}",
            addresses=[socket.inet_aton("127.0.0.1")],
            port=PORT,
            properties=dict(pairs),
            server=f"{instance_name(node_id)}.local.",
        )
        self._zeroconf.async_send(self._zeroconf.generate_service_broadcast(info, ttl))

    def point_to(self, name: str) -> None:
        """Say only that an instance is there, so that one has to ask for more."""
        out = DNSOutgoing(FLAGS_RESPONSE)
        out.add_answer_at_time(DNSPointer(SERVICE_TYPE, DNS_PTR, CLASS_IN, 120, f"{name}.{SERVICE_TYPE}"), 0)
        self._zeroconf.async_send(out)

    async def next(self) -> Event:
        return await asyncio.wait_for(self.events.get(), 3)

    async def nothing(self) -> None:
        """Check that nothing is told for a while."""
        await asyncio.sleep(0.3)
        assert self.events.empty(), self.events.get_nowait()


@asynccontextmanager
async def heard(loopback: Loopback) -> AsyncIterator[Heard]:
    zeroconf = AsyncZeroconf(interfaces=[MULTICAST_INTERFACE])
    made = Heard(loopback, zeroconf)
    try:
        await made.discovery.start()
        yield made
    finally:
        await made.discovery.stop()
        await zeroconf.async_close()


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


async def test_a_leave_is_told_and_so_is_the_return(loopback: Loopback) -> None:
    async with heard(loopback) as it:
        it.say(Role.CLIENT)
        await it.next()
        it.say(Role.CLIENT, ttl=0)
        assert await it.next() == AdvertRemoved(OTHER)
        await asyncio.sleep(SAME_PACKET_AGAIN)
        it.say(Role.CLIENT)
        assert isinstance(await it.next(), AdvertReceived)
        await it.nothing()


async def test_our_own_adverts_are_not_told_whatever_their_addresses(loopback: Loopback) -> None:
    async with heard(loopback) as it:
        mine = it.advert(OWN, Role.LISTENING)
        it.discovery.advertise(mine)
        await it.nothing()
        it.discovery.advertise(replace(mine, addresses=("127.0.0.9",)))
        it.say(Role.LISTENING, OWN)  # the former one comes back late, as through a reflector
        await it.nothing()
        it.say(Role.MASTER, OWN)  # but what we never said is another node with our id
        event = await it.next()
        assert isinstance(event, AdvertReceived)
        assert event.advert.id == OWN


async def test_a_master_answers_at_once_who_listens(loopback: Loopback) -> None:
    name = f"{instance_name(OWN)}.{SERVICE_TYPE}"
    with overhear() as wire:
        async with heard(loopback) as it:
            it.discovery.advertise(it.advert(OWN, Role.MASTER))
            await asyncio.sleep(ANNOUNCED)
            for number in range(3):  # also when it has just said so to another one
                wire.packets()
                it.say(Role.LISTENING, f"cccccccc{number:02}")
                await it.next()
                await asyncio.sleep(0.01)
                assert wire.answers(name) == 1
                await asyncio.sleep(ANSWER_AGAIN_AFTER + 0.02)
                assert wire.answers(name) == 1


async def test_a_crowd_that_listens_gets_few_answers(loopback: Loopback) -> None:
    with overhear() as wire:
        async with heard(loopback) as it:
            it.discovery.advertise(it.advert(OWN, Role.MASTER))
            await asyncio.sleep(ANNOUNCED)
            wire.packets()
            begun = time.monotonic()
            for number in range(100):
                it.say(Role.LISTENING, f"cccccccc{number:02}")
                await it.next()
            await asyncio.sleep(ANSWER_AGAIN_AFTER + 0.1)
            took = time.monotonic() - begun
            assert 2 <= wire.answers(f"{instance_name(OWN)}.{SERVICE_TYPE}") <= 3 + took / ANSWER_AGAIN_AFTER


@pytest.mark.parametrize(("own", "others"), [(Role.CLIENT, Role.LISTENING), (Role.MASTER, Role.CLIENT)])
async def test_nobody_else_answers_and_nobody_else_is_answered(loopback: Loopback, own: Role, others: Role) -> None:
    with overhear() as wire:
        async with heard(loopback) as it:
            it.discovery.advertise(it.advert(OWN, own))
            await asyncio.sleep(ANNOUNCED)
            wire.packets()
            it.say(others)
            await it.next()
            await asyncio.sleep(ANSWER_AGAIN_AFTER + 0.1)
            assert wire.answers(f"{instance_name(OWN)}.{SERVICE_TYPE}") == 0


async def test_questions_are_for_answers_that_all_programs_on_the_port_hear(loopback: Loopback) -> None:
    """One that asks for an answer to its own address gets it only if no other program has port 5353 too."""
    with overhear() as wire:
        async with heard(loopback) as it:
            it.point_to("pskkey-without-text")
            await asyncio.sleep(1.5)
        questions = [question for packet in wire.packets() for question in packet.questions]
        asked = [question for question in questions if question.name.endswith(SERVICE_TYPE)]
        assert {question.type for question in asked} >= {DNS_PTR, DNS_TXT}
        assert not any(question.unicast for question in asked)
