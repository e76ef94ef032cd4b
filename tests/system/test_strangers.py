"""Strangers on the network do not have the PSK. They change only a counter.

The attacker is python-zeroconf, and plain sockets for the packets that python-zeroconf does not send.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from zeroconf import ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from pskkey.config.psk import load_psk
from pskkey.model import Advert, Role
from pskkey.secret import Secret
from pskkey.wire.advert import SERVICE_TYPE, advert_key, encode_advert, instance_name
from tests.lab.daemon import Daemon, Status
from tests.lab.group import Group
from tests.system.loopback import MULTICAST_INTERFACE, PORT, Loopback

MDNS = ("224.0.0.251", 5353)
FLOOD = 500
MAY_RISE = {"adverts_rejected", "mdns_dropped"}

type Pairs = dict[str, str]


class Attacker:
    """Sends any announcement to the group."""

    def __init__(self, loopback: Loopback) -> None:
        self._zeroconf = AsyncZeroconf(interfaces=[MULTICAST_INTERFACE])
        self._group = loopback.group
        self.own_key = advert_key(Secret(os.urandom(32)))
        self.real_key = advert_key(load_psk(loopback.psk).active.key)
        """A real attacker does not have this key. It makes the adverts that the attacker records and then changes."""

    def claim(self, node_id: str, term: int = 1000) -> Advert:
        """Return the advert of a master that all nodes would prefer."""
        return Advert(self._group, node_id, "stranger", 255, True, Role.MASTER, term, 100, ("127.0.0.1",), PORT)

    def announce(self, node_id: str, pairs: Mapping[str, str], *, name: str | None = None, ttl: int = 120) -> None:
        """Send a service announcement, at once and only once."""
        instance = f"{name or instance_name(node_id)}.{SERVICE_TYPE}"
        info = ServiceInfo(
            SERVICE_TYPE,
            instance,
            addresses=[socket.inet_aton("127.0.0.1")],
            port=PORT,
            properties=dict(pairs),
            server=f"{name or instance_name(node_id)}.local.",
        )
        zeroconf = self._zeroconf.zeroconf
        zeroconf.async_send(zeroconf.generate_service_broadcast(info, ttl))

    async def close(self) -> None:
        """Stop the attacker."""
        await self._zeroconf.async_close()


@asynccontextmanager
async def attacked(loopback: Loopback) -> AsyncIterator[tuple[Group, Attacker]]:
    """Run three daemons that are one group, and an attacker."""
    group = Group([loopback.daemon(name) for name in ("n1", "n2", "n3")])
    group.start()
    await group.together(15)
    await group.stay_together(1.2)  # until the last announcements of the start are repeated
    attacker = Attacker(loopback)
    try:
        yield group, attacker
    finally:
        await attacker.close()


async def statuses_of(group: Group) -> dict[str, Status]:
    """Return the statuses without the values that time alone changes."""
    found = {}
    for daemon in group.daemons:
        status = await daemon.status()
        assert status is not None
        for key in status["keys"]:
            del key["age_s"]
        found[daemon.name] = status
    return found


async def rejected(group: Group, before: dict[str, Status], least: int, within: float = 5.0) -> dict[str, Status]:
    """Wait until each daemon has rejected at least `least` more adverts than `before`; return the statuses then."""
    deadline = time.monotonic() + within
    while True:
        now = await statuses_of(group)
        counts = {n: s["counters"]["adverts_rejected"] - rejected_adverts(before[n]) for n, s in now.items()}
        if all(count >= least for count in counts.values()):
            return now
        assert time.monotonic() < deadline, f"rejected only {counts} of {least}"
        await asyncio.sleep(0.02)


def rejected_adverts(status: Status) -> int:
    """Return how many adverts were rejected."""
    count: int = status["counters"]["adverts_rejected"]
    return count


def calm_part(statuses: dict[str, Status]) -> dict[str, Any]:
    """Return the part of the statuses that strangers must not change."""
    # The daemons count a beacon of the master as an accepted advert.
    free = MAY_RISE | {"adverts_accepted"}
    return {
        name: {
            **status,
            "counters": {k: v for k, v in status["counters"].items() if k not in free},
            "counter_ages_s": {},
            "loop_away_ms": 0.0,
        }
        for name, status in statuses.items()
    }


def unsigned(attacker: Attacker, node_id: str) -> Pairs:
    pairs = encode_advert(attacker.claim(node_id), attacker.real_key)
    del pairs["sig"]
    return pairs


def empty_signature(attacker: Attacker, node_id: str) -> Pairs:
    return {**encode_advert(attacker.claim(node_id), attacker.real_key), "sig": ""}


def foreign_key(attacker: Attacker, node_id: str) -> Pairs:
    return encode_advert(attacker.claim(node_id), attacker.own_key)


def changed_term(attacker: Attacker, node_id: str) -> Pairs:
    return {**encode_advert(attacker.claim(node_id), attacker.real_key), "term": "1001"}


def changed_role(attacker: Attacker, node_id: str) -> Pairs:
    client = replace(attacker.claim(node_id), role=Role.CLIENT)
    return {**encode_advert(client, attacker.real_key), "role": "m"}


def added_pair(attacker: Attacker, node_id: str) -> Pairs:
    return {**encode_advert(attacker.claim(node_id), attacker.real_key), "more": "1"}


def too_many_pairs(attacker: Attacker, node_id: str) -> Pairs:
    more = {f"x{number}": "y" for number in range(40)}
    return {**encode_advert(attacker.claim(node_id), attacker.real_key), **more}


def rubbish(attacker: Attacker, node_id: str) -> Pairs:
    del node_id
    return {"grp": attacker.claim("00000000").group, "id": "\0", "role": "king", "term": "-1", "sig": "A" * 200}


FORGERIES: list[Callable[[Attacker, str], Pairs]] = [
    unsigned,
    empty_signature,
    foreign_key,
    changed_term,
    changed_role,
    added_pair,
    too_many_pairs,
    rubbish,
]


async def test_the_same_claim_counts_when_it_is_signed_with_the_psk(loopback: Loopback) -> None:
    """Otherwise the tests below could pass because no daemon hears the attacker, or because all its adverts are bad."""
    async with attacked(loopback) as (group, attacker):
        before = await statuses_of(group)
        node_id = os.urandom(8).hex()
        attacker.announce(node_id, encode_advert(attacker.claim(node_id), attacker.real_key))
        deadline = time.monotonic() + 5
        while calm_part(after := await statuses_of(group)) == calm_part(before):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        assert {rejected_adverts(status) for status in after.values()} == {0}


async def test_forged_adverts_change_only_a_counter(loopback: Loopback) -> None:
    async with attacked(loopback) as (group, attacker):
        before = await statuses_of(group)
        for sent, forge in enumerate(FORGERIES, start=1):
            node_id = os.urandom(8).hex()
            attacker.announce(node_id, forge(attacker, node_id))
            try:
                after = await rejected(group, before, sent)
            except AssertionError as error:
                error.add_note(f"after {forge.__name__}")
                raise
            assert calm_part(after) == calm_part(before), forge.__name__
        await group.stay_together(1.0)
        assert calm_part(await statuses_of(group)) == calm_part(before)


async def test_strangers_cannot_impersonate_members(loopback: Loopback) -> None:
    """A stranger uses the names and ids of members: in forged adverts, in recorded adverts, and in goodbyes."""
    async with attacked(loopback) as (group, attacker):
        before = await statuses_of(group)
        for daemon in group.daemons:
            attacker.announce(daemon.id, foreign_key(attacker, daemon.id))
            # A genuine advert, recorded and sent under another name.
            recorded = encode_advert(claim_of(daemon, before, attacker), attacker.real_key)
            attacker.announce(daemon.id, recorded, name=f"pskkey-{os.urandom(4).hex()}")
        after = await rejected(group, before, 4)
        assert calm_part(after) == calm_part(before)
        for daemon in group.daemons:
            attacker.announce(daemon.id, foreign_key(attacker, daemon.id), ttl=0)
        await group.stay_together(3.0)  # this time includes a beacon of the master
        assert calm_part(await statuses_of(group)) == calm_part(before)


def claim_of(daemon: Daemon, statuses: dict[str, Status], attacker: Attacker) -> Advert:
    """Return an advert such as the daemon itself sends."""
    status = statuses[daemon.name]
    return replace(attacker.claim(daemon.id, status["term"]), name=daemon.name, role=Role(status["role"]))


@pytest.mark.slow
async def test_flood_of_strangers_does_no_harm(loopback: Loopback) -> None:
    async with attacked(loopback) as (group, attacker):
        before = await statuses_of(group)
        files = {daemon.name: open_files(daemon) for daemon in group.daemons}
        for number in range(FLOOD):
            node_id = os.urandom(8).hex()
            attacker.announce(node_id, FORGERIES[number % len(FORGERIES)](attacker, node_id))
            if number % 20 == 0:
                await asyncio.sleep(0.01)
        after = await rejected(group, before, FLOOD // 2, within=15)
        assert calm_part(after) == calm_part(before)
        await group.stay_together(1.0)
        assert {daemon.name: open_files(daemon) for daemon in group.daemons} == files
        # The group finds a newcomer at once after the flood.
        late = loopback.daemon("n4")
        late.start()
        await Group([*group.daemons, late]).together(5)


async def test_malformed_mdns_does_no_harm(loopback: Loopback) -> None:
    """The packets are random bytes, and real announcements, cut off or damaged. A failure reports the seed."""
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)
    async with attacked(loopback) as (group, attacker):
        before = await statuses_of(group)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(MULTICAST_INTERFACE))
            template = announcement(attacker)
            for number in range(300):
                sender.sendto(damaged(template, chance), MDNS)
                if number % 20 == 0:
                    await asyncio.sleep(0.01)
        attacker.announce("0011223344556677", foreign_key(attacker, "0011223344556677"))
        after = await rejected(group, before, 1)  # the daemons still listen
        await group.stay_together(0.5)
        assert calm_part(after) == calm_part(before), f"seed {seed}"
        for daemon in group.daemons:
            assert "Traceback" not in daemon.log, f"seed {seed}"
            assert await daemon.stop() == 0


def announcement(attacker: Attacker) -> bytes:
    """Return the bytes of an announcement that is well formed (RFC 6762 section 8.3)."""
    pairs = foreign_key(attacker, "8899aabbccddeeff")
    instance = f"{instance_name('8899aabbccddeeff')}.{SERVICE_TYPE}"
    text = b"".join(bytes([len(pair)]) + pair for pair in (f"{k}={v}".encode() for k, v in pairs.items()))

    def name(dotted: str) -> bytes:
        return b"".join(bytes([len(label)]) + label.encode() for label in dotted.rstrip(".").split(".")) + b"\0"

    def record(owner: str, kind: int, data: bytes) -> bytes:
        fixed = kind.to_bytes(2) + b"\x80\x01" + (120).to_bytes(4) + len(data).to_bytes(2)
        return name(owner) + fixed + data

    header = b"\0\0\x84\0\0\0\0\2\0\0\0\0"
    return header + record(SERVICE_TYPE, 12, name(instance)) + record(instance, 16, text)


def damaged(template: bytes, chance: random.Random) -> bytes:
    """Return random bytes, or the template cut off, or with some bytes changed."""
    match chance.randrange(3):
        case 0:
            return chance.randbytes(chance.randrange(1, 1400))
        case 1:
            return template[: chance.randrange(len(template))]
        case _:
            changed = bytearray(template)
            for _ in range(chance.randrange(1, 12)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            return bytes(changed)


def open_files(daemon: Daemon) -> int:
    """Return how many file descriptors a daemon has open."""
    return sum(1 for _ in Path(f"/proc/{daemon.pid}/fd").iterdir())
