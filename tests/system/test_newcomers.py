"""A node that looks for its group gets an answer from its master at once, without the delays of mDNS."""

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pskkey.model import Role
from pskkey.wire.advert import SERVICE_TYPE, instance_name
from tests.lab.laboratory import laboratory
from tests.quality.tracked import ROOT
from tests.system.heard import ListenerWithPeer, listening_with_peer, node_id
from tests.system.loopback import MULTICAST_INTERFACE, Loopback
from tests.system.mdns_wire import Overheard, overhear

ANNOUNCED = 1.1
"""Seconds after which a node no longer announces a change."""


@asynccontextmanager
async def announced(loopback: Loopback, role: Role) -> AsyncIterator[tuple[ListenerWithPeer, Overheard, str]]:
    """Run a node. Once it has announced its role, yield it, the packets on the wire, and the name of its instance."""
    with overhear(MULTICAST_INTERFACE) as wire:
        async with listening_with_peer(loopback) as it:
            it.discovery.advertise(it.advert(it.own, role))
            await asyncio.sleep(ANNOUNCED)
            wire.packets()
            yield it, wire, f"{instance_name(it.own)}.{SERVICE_TYPE}"


@pytest.mark.parametrize("role", [Role.LISTENING, Role.CLIENT, Role.MASTER])
async def test_no_node_asks_for_adverts(loopback: Loopback, role: Role) -> None:
    """All nodes would answer, and each node would receive all answers."""
    with overhear(MULTICAST_INTERFACE) as wire:
        async with listening_with_peer(loopback) as it:
            it.discovery.advertise(it.advert(it.own, role))
            it.point_to(f"pskkey-{node_id()}")
            await asyncio.sleep(1.5)
        assert [question.name for packet in wire.packets() for question in packet.questions] == []


async def test_advert_without_news_is_not_announced(loopback: Loopback) -> None:
    async with announced(loopback, Role.LISTENING) as (it, wire, name):
        it.discovery.advertise(it.advert(it.own, Role.CLIENT), False)
        await asyncio.sleep(2 * ANNOUNCED)
        assert wire.texts(name) == []
        it.ask()
        await asyncio.sleep(ANNOUNCED)
        assert {b"role=c" in text for text in wire.texts(name)} == {True}, "but it is the answer to a question"


async def test_answer_after_a_change_has_the_new_role_even_for_an_earlier_question(loopback: Loopback) -> None:
    """An answer of mDNS may come a second after its question (RFC 6762 section 6)."""
    with overhear(MULTICAST_INTERFACE) as wire:
        async with listening_with_peer(loopback) as it:
            name = f"{instance_name(it.own)}.{SERVICE_TYPE}"
            it.discovery.advertise(it.advert(it.own, Role.LISTENING))
            await asyncio.sleep(0.1)
            it.ask()  # the node sent the record just now, so it answers a second later
            await asyncio.sleep(0.4)
            wire.packets()
            it.discovery.advertise(it.advert(it.own, Role.MASTER))
            await asyncio.sleep(2 * ANNOUNCED)
            texts = wire.texts(name)
    assert len(texts) >= 3, "the node announced it three times"
    assert all(b"role=m" in text for text in texts)


async def test_question_before_a_goodbye_gets_no_answer_after_it(loopback: Loopback) -> None:
    """A receiver of such an answer takes the node for alive again, for as long as its records are valid."""
    async with announced(loopback, Role.CLIENT) as (it, wire, name):
        await asyncio.sleep(ANNOUNCED)
        it.ask()  # answered within 0.12 s
        await asyncio.sleep(0.01)
        await it.discovery.stop()
        await asyncio.sleep(0.5)
        lives = wire.lives(name)
    goodbye = lives.index(False)
    assert len(lives) - goodbye >= 2, "the node sends it more than once"
    assert not any(lives[goodbye:])


PRINT_ROLES = """
import re, sys, time
from tests.system.mdns_wire import overhear
with overhear(sys.argv[1]) as wire:
    print("ready", flush=True)
    while True:
        for packet in wire.packets():
            for role in re.findall(rb"role=(\\w+)", packet.data):
                print(role.decode(), flush=True)
        time.sleep(0.005)
"""


@pytest.mark.root
async def test_first_advert_of_a_node_has_the_role_listening() -> None:
    """This holds even if a session manager waits before the start, when the node does not know its addresses yet."""
    with laboratory(seed=1) as lab:
        (daemon,) = lab.group(1).daemons
        bystander = lab.hosts.add_host()
        printing = await asyncio.create_subprocess_exec(
            *bystander.command, sys.executable, "-c", PRINT_ROLES, bystander.ipv4, stdout=PIPE, cwd=ROOT
        )
        try:
            assert printing.stdout is not None
            assert await printing.stdout.readline() == b"ready\n"
            with socket.socket(socket.AF_UNIX) as session_manager:
                session_manager.connect(str(daemon.keys_socket))
                daemon.start()
                assert await asyncio.wait_for(printing.stdout.readline(), 10) == b"l\n"
        finally:
            printing.kill()
            await printing.wait()
            daemon.destroy()
