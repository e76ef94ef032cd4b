"""Random mDNS datagrams for the real Discovery, over real sockets: nothing but counters may change.

Adverts, queries and plain bytes are changed at random, and sent from many addresses. A seed repeats the datagrams.
"""

import asyncio
import gc
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from pskkey.core.events import AdvertReceived
from pskkey.model import Role
from pskkey.wire.advert import SERVICE_TYPE, instance_name
from tests.lab.namespaces import INTERFACE
from tests.system.heard import Listener, listening, node_id
from tests.system.loopback import Loopback
from tests.system.private_network import LoopWatch, Stranger, private_network
from tests.wire import dns_messages as dns

SOURCES: Final = 50

MAY_CHANGE: Final = {"adverts_accepted", "adverts_rejected", "mdns_dropped"}

FLAGS: Final = (dns.QUERY, dns.RESPONSE, dns.TRUNCATED, dns.NOTIFY, 0xFFFF)
KINDS: Final = (dns.A, dns.CNAME, dns.PTR, dns.HINFO, dns.TXT, dns.AAAA, dns.SRV, dns.NSEC, 41, dns.ANY)

PAUSE: Final = 0.002
"""Seconds after BATCH datagrams, so that most are read before the next come."""

BATCH: Final = 10


@dataclass(slots=True)
class Result:
    """The result of a run."""

    sent: int = 0
    faults: list[str] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    longest_turn: float = 0.0
    """Seconds of processor time of one turn of the event loop."""

    objects_kept: int = 0
    """Objects that exist after the run beyond those before it."""


class Datagrams:
    """Makes random datagrams about an existing group."""

    def __init__(self, chance: random.Random, target: Listener) -> None:
        self._chance = chance
        pairs = target.pairs(node_id(), Role.MASTER)
        del pairs["sig"]
        ours = instance_name(target.own)
        self._text = dns.text_data({**pairs, "sig": "A" * 22})
        self._names = [SERVICE_TYPE, "_services._dns-sd._udp.local.", f"{ours}.{SERVICE_TYPE}", f"{ours}.local."]
        self._shapes: list[Callable[[], bytes]] = [
            lambda: dns.announcement(f"pskkey-{chance.getrandbits(32):08x}", self._text),
            lambda: dns.announcement(ours, self._text, chance.choice((0, 1, 2**32 - 1))),
            lambda: dns.query_with_chain(chance.randrange(1, 1500), chance.randrange(1, 70)),
            lambda: dns.query_that_lies(chance.getrandbits(16), chance.randrange(6, 2000)),
            lambda: dns.query_with_long_name(chance.getrandbits(32)),
            self._message,
            self._message,
            self._message,
            lambda: b"\x07_pskkey" + chance.randbytes(chance.randrange(1400)),
        ]

    def make(self) -> bytes:
        """Return the next datagram."""
        datagram = bytearray(self._chance.choice(self._shapes)())
        if self._chance.random() < 0.5:
            for _ in range(self._chance.randrange(1, 8)):
                datagram[self._chance.randrange(len(datagram))] = self._chance.randrange(256)
        if self._chance.random() < 0.1:
            del datagram[self._chance.randrange(len(datagram)) :]
        return bytes(datagram)

    def _message(self) -> bytes:
        chance = self._chance
        questions = [
            dns.question(self._owner(), chance.choice(KINDS), chance.choice((1, 0x8001, 255)))
            for _ in range(chance.choice((0, 1, 1, 2, 8, 140)))
        ]
        records = [self._record() for _ in range(chance.choice((0, 0, 1, 2, 20, 70)))]
        return dns.message(questions, records, flags=chance.choice(FLAGS), ident=chance.getrandbits(16))

    def _owner(self) -> bytes:
        chance = self._chance
        match chance.randrange(4):
            case 0:
                return dns.pointer(chance.randrange(0x4000))
            case 1:
                return b"\x0fpskkey-%08x" % chance.getrandbits(32) + dns.pointer(dns.HEADER_SIZE)
            case _:
                return dns.name(chance.choice(self._names))

    def _record(self) -> bytes:
        chance = self._chance
        kind = chance.choice(KINDS)
        owner = self._owner()
        right = {dns.A: bytes(4), dns.AAAA: bytes(16), dns.TXT: self._text}
        data = right.get(kind) or bytes(6 if kind == dns.SRV else 0) + self._owner()
        size = chance.choice((None, None, None, None, 0, len(data) + 1, 0xFFFF))
        return dns.record(owner, kind, data, chance.choice((0, 120, 2**32 - 1)), size)


async def fuzz(loopback: Loopback, seed: int, seconds: float, datagrams: int | None = None) -> Result:
    """Send for `seconds`, or until `datagrams` are sent, whichever is first. Needs root."""
    result = Result()
    with private_network():
        async with listening(loopback, INTERFACE) as target:
            target.discovery.advertise(target.advert(target.own, Role.MASTER))
            await asyncio.sleep(1.3)
            strangers = [Stranger(number) for number in range(SOURCES)]
            with LoopWatch() as watch:
                source = Datagrams(random.Random(seed), target)
                await _send(source, strangers, watch, result, seconds, datagrams)
                result.faults += [f"an exception reached the event loop: {error!r}" for error in watch.errors]
            await asyncio.sleep(0.5)
            while not target.events.empty():
                result.faults.append(f"a stranger caused {target.events.get_nowait()}")
            result.counters.update(target.counters)
            if strange := result.counters.keys() - MAY_CHANGE:
                result.faults.append(f"these counters rose: {sorted(strange)}")
            if not await _is_heard(target, strangers[0]):
                result.faults.append("a genuine advert is not accepted any more")
            for stranger in strangers:
                stranger.close()
    return result


async def _send(
    source: Datagrams,
    strangers: list[Stranger],
    watch: LoopWatch,
    result: Result,
    seconds: float,
    datagrams: int | None,
) -> None:
    for _ in range(1000):  # so that objects that are made once and kept exist before the count
        strangers[0].send(source.make())
    await asyncio.sleep(0.5)
    gc.collect()
    objects = len(gc.get_objects())
    gc.freeze()  # so that no turn spends time on collecting objects of the test
    await asyncio.sleep(PAUSE)
    watch.forget()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and (datagrams is None or result.sent < datagrams):
        for _ in range(BATCH):
            strangers[result.sent % len(strangers)].send(source.make())
            result.sent += 1
        await asyncio.sleep(PAUSE)
    await asyncio.sleep(0.5)
    result.longest_turn = watch.longest_turn
    gc.unfreeze()
    gc.collect()
    result.objects_kept = len(gc.get_objects()) - objects


async def _is_heard(target: Listener, stranger: Stranger) -> bool:
    new = os.urandom(8).hex()
    stranger.send(dns.announcement(instance_name(new), dns.text_data(target.pairs(new, Role.CLIENT))))
    try:
        event = await target.next_event()
    except TimeoutError:
        return False
    return isinstance(event, AdvertReceived) and event.advert.id == new
