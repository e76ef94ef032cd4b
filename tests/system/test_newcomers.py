"""A node that looks for its group hears of its master at once, whatever mDNS does by itself."""

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
from tests.system.heard import DNS_PTR, Heard, heard, node_id
from tests.system.loopback import MULTICAST_INTERFACE, Loopback
from tests.system.mdns_wire import Overheard, overhear

ANNOUNCED = 1.1
"""Seconds after which a change is not announced any more."""

SAME_PACKET_AGAIN = 1.1
"""Seconds after which python-zeroconf takes the very same packet again."""

AT_ONCE = 0.5
"""Seconds. It is some milliseconds; an answer of mDNS itself, or a beacon, could come after a second."""


@asynccontextmanager
async def announced(loopback: Loopback, role: Role) -> AsyncIterator[tuple[Heard, Overheard, str]]:
    """One node that has announced its role and is calm, what is on the wire, and the name of its instance."""
    with overhear(MULTICAST_INTERFACE) as wire:
        async with heard(loopback) as it:
            it.discovery.advertise(it.advert(it.own, role))
            await asyncio.sleep(ANNOUNCED)
            wire.packets()
            yield it, wire, f"{instance_name(it.own)}.{SERVICE_TYPE}"


async def test_questions_are_for_answers_that_all_programs_on_the_port_hear(loopback: Loopback) -> None:
    """One that asks for an answer to its own address gets it only if no other program has port 5353 too."""
    with overhear(MULTICAST_INTERFACE) as wire:
        async with heard(loopback) as it:
            it.point_to(f"pskkey-{node_id()}")
            await asyncio.sleep(1.5)
        questions = [question for packet in wire.packets() for question in packet.questions]
        asked = [question for question in questions if question.name.endswith(SERVICE_TYPE)]
        assert {question.type for question in asked} == {DNS_PTR}, "an instance without an advert is not asked for one"
        assert not any(question.unicast for question in asked)


async def test_what_was_asked_before_a_change_is_answered_with_what_is_true_after_it(loopback: Loopback) -> None:
    """An answer of mDNS may come a second after its question (RFC 6762 section 6)."""
    with overhear(MULTICAST_INTERFACE) as wire:
        async with heard(loopback) as it:
            name = f"{instance_name(it.own)}.{SERVICE_TYPE}"
            it.discovery.advertise(it.advert(it.own, Role.LISTENING))
            await asyncio.sleep(0.1)
            it.ask()  # it was said just now, so this is answered a second later
            await asyncio.sleep(0.4)
            wire.packets()
            it.discovery.advertise(it.advert(it.own, Role.MASTER))
            await asyncio.sleep(2 * ANNOUNCED)
            said = wire.texts(name)
    assert len(said) >= 3, "it was announced three times"
    assert all(b"role=m" in text for text in said)


async def test_what_was_asked_before_a_goodbye_is_not_answered_after_it(loopback: Loopback) -> None:
    """Whoever hears such an answer takes the node for alive again, for as long as its records are valid."""
    async with announced(loopback, Role.CLIENT) as (it, wire, name):
        await asyncio.sleep(ANNOUNCED)
        it.ask()  # answered within 0.12 s
        await asyncio.sleep(0.01)
        await it.discovery.stop()
        await asyncio.sleep(0.5)
        said = wire.lives(name)
    goodbye = said.index(False)
    assert len(said) - goodbye >= 2, "it is said more than once"
    assert not any(said[goodbye:])


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
async def test_the_first_word_of_a_node_is_that_it_listens() -> None:
    """Also when a session manager was there before it, and it did not know its addresses yet."""
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
