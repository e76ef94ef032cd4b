"""Avahi, another implementation of mDNS, lists each node with its complete and correct TXT record."""

import asyncio
import time

import pytest

from pskkey.adapters.discovery.announcer import REGISTERED_AFTER
from pskkey.config.psk import load_psk
from pskkey.model import Role
from pskkey.wire.advert import advert_key, decode_advert_untrusted, instance_name
from tests.lab.laboratory import laboratory
from tests.system.avahi import Avahi, Found, avahi_on

NODES = 3
SERVICE = "_pskkey._tcp"

pytestmark = pytest.mark.root


async def test_avahi_lists_every_node_with_its_txt_record() -> None:
    with laboratory(seed=1) as lab:
        group = lab.group(NODES)
        try:
            group.start()
            _, statuses = await group.together(15)
            await asyncio.sleep(2 * REGISTERED_AFTER)
            # Avahi starts after the announcements, so the nodes must answer its questions.
            with avahi_on(lab.hosts.add_host(), lab.psk.with_name("avahi.log")) as avahi:
                found = await browse_until(avahi, 2 * NODES)
                key = advert_key(load_psk(lab.psk).active.key)
                for daemon, host in zip(group.daemons, lab.hosts.hosts, strict=False):
                    mine = [record for record in found if record.name == instance_name(daemon.id)]
                    # Avahi lists a node over IPv4 and over IPv6, and chooses an address of the node for each.
                    assert {record.protocol for record in mine} == {"IPv4", "IPv6"}
                    for record in mine:
                        status = statuses[daemon.name]
                        assert status is not None
                        assert record.port == 11111
                        assert record.address in (host.ipv4, host.ipv6)
                        advert = decode_advert_untrusted(record.pairs, [key])
                        assert (advert.id, advert.name, advert.port) == (daemon.id, daemon.name, 11111)
                        assert advert.addresses == (host.ipv4, host.ipv6)
                        assert advert.role == Role(status["role"])
                        assert advert.term == status["term"]
                (master,) = group.of(statuses, "master")
                name = instance_name(master.id)
                # A node that leaves disappears at once.
                await master.stop()
                await browse_until_gone(avahi, name)
        finally:
            group.destroy()


async def browse_until(avahi: Avahi, count: int) -> list[Found]:
    """Browse until Avahi lists `count` records."""
    deadline = time.monotonic() + 15
    while len(found := avahi.browse(SERVICE)) < count:
        assert time.monotonic() < deadline, f"only {found}"
        await asyncio.sleep(0.2)
    return found


async def browse_until_gone(avahi: Avahi, name: str) -> None:
    """Browse until no record has that name."""
    deadline = time.monotonic() + 10
    while any(record.name == name for record in avahi.browse(SERVICE)):
        assert time.monotonic() < deadline, f"{name} is still listed"
        await asyncio.sleep(0.2)
