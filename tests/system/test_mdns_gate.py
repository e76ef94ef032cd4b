"""The packets of strangers to port 5353 cost a bounded part of our time and memory, and of our traffic.

The Discovery is real, and no other program is on its network. Its event loop is that of the test. The strangers send
while the loop pauses, so the measured time includes the cost of the strangers.
"""

import asyncio
import gc
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from pskkey.adapters.discovery.mdns_gate import MAX_QUERIES_SAVED_UP, QUERIES_A_SECOND, mdns_source_of
from pskkey.core.events import AdvertReceived
from pskkey.model import Role
from pskkey.wire.advert import SERVICE_TYPE, instance_name
from tests.lab.namespaces import INTERFACE
from tests.system.heard import Listener, listening
from tests.system.loopback import Loopback
from tests.system.mdns_wire import overhear
from tests.system.private_network import MAX_SOURCES, OWN, Flood, LoopWatch, Stranger, private_network
from tests.wire import dns_messages as dns

pytestmark = pytest.mark.root

LOOP_AWAY = 0.05
"""Seconds of processor time that one turn of the event loop may take."""

SERVICE = dns.name(SERVICE_TYPE)
TO_SERVICE = dns.pointer(dns.HEADER_SIZE)


@asynccontextmanager
async def attacked(loopback: Loopback) -> AsyncIterator[tuple[Listener, LoopWatch]]:
    """Run a Discovery that has announced itself as master and sends no more announcements."""
    with private_network():
        async with listening(loopback, INTERFACE) as it:
            it.discovery.advertise(it.advert(it.own, Role.MASTER))
            await asyncio.sleep(1.3)
            with LoopWatch() as watch:
                yield it, watch
            assert watch.errors == []


async def check_newcomer_is_heard(it: Listener, stranger: Stranger, tries: int = 10) -> None:
    """Check that the Discovery reports a new node, which announces itself at most `tries` times."""
    while not it.events.empty():
        it.events.get_nowait()
    node_id = os.urandom(8).hex()
    advert = dns.announcement(instance_name(node_id), dns.text_data(it.pairs(node_id, Role.LISTENING)))
    ids = set()
    for _ in range(tries):
        stranger.send(advert)
        await asyncio.sleep(0.2)
        while not it.events.empty():
            event = it.events.get_nowait()
            assert isinstance(event, AdvertReceived)
            ids.add(event.advert.id)
        if ids:
            break
    assert ids == {node_id}, f"{it.counters}"


def many_questions(number: int) -> bytes:
    """8.9 kB: more than the Discovery reads."""
    return dns.message([dns.question(SERVICE), *[dns.question(TO_SERVICE)] * 1480], ident=number & 0xFFFF)


def most_questions(number: int) -> bytes:
    """The most questions that the Discovery accepts, each for all its records."""
    asked = dns.question(TO_SERVICE, dns.ANY)
    return dns.message([dns.question(SERVICE, dns.ANY), *[asked] * 127], ident=number & 0xFFFF)


def many_records(number: int) -> bytes:
    name = b"\x0fpskkey-%08x" % number + TO_SERVICE
    records = [dns.record(name, dns.TXT, b"\x05grp=x")] * 60
    return dns.message([dns.question(SERVICE)], records, flags=dns.RESPONSE)


def truncated(number: int) -> bytes:
    return dns.message([dns.question(SERVICE)], flags=dns.TRUNCATED, ident=number & 0xFFFF)


def nonexistent(number: int) -> bytes:
    return dns.announcement(f"pskkey-{number:08x}", b"\x05grp=x")


def small(number: int) -> bytes:
    """The smallest message for us: nearly all of its cost is its reception."""
    return dns.message([dns.question(b"\x0fpskkey-%08x\0" % number)])


def only_a_pointer(number: int) -> bytes:
    """A pointer to an instance that does not exist. It once made each node ask for it many times."""
    whole = dns.name(f"pskkey-{number:08x}.{SERVICE_TYPE}")
    return dns.message(records=[dns.record(SERVICE, dns.PTR, whole)], flags=dns.RESPONSE)


def forged(number: int) -> bytes:
    """An advert with a wrong signature, for which the Discovery has to compute the right one."""
    pairs = {"grp": "GROUP", "id": f"{number:08x}" * 2, "sig": "A" * 22, "fill": "x" * 200}
    return dns.announcement(f"pskkey-{number:08x}", dns.text_data(pairs))


ATTACKS: list[Callable[[int], bytes]] = [
    lambda number: dns.query_with_chain(900, ident=number & 0xFFFF),
    lambda number: dns.query_with_chain(300, 64, number & 0xFFFF),
    lambda number: dns.query_that_lies(number & 0xFFFF, size=1800),
    dns.query_with_long_name,
    many_questions,
    most_questions,
    many_records,
    truncated,
    nonexistent,
    only_a_pointer,
    forged,
]
NAMES = ["chain", "short chains", "lies", "long names", "many questions", "most questions", "many records"]
NAMES += ["truncated", "nonexistent", "only a pointer", "forged"]


FOR_SECONDS = 2.0
RATE = 1_000_000.0
"""Bytes a second."""

OBJECTS = 600
"""The most objects with references that a flood may leave behind."""


async def check_flood_is_bounded(it: Listener, flood: Flood, watch: LoopWatch, node: Stranger) -> None:
    """Check that the cost of a flood is bounded, and that the Discovery hears another node during it and after it."""
    gc.collect()
    objects = len(gc.get_objects())
    await asyncio.sleep(0.01)
    watch.forget()
    began = time.monotonic()
    with flood:
        await asyncio.sleep(FOR_SECONDS)
        await check_newcomer_is_heard(it, node)
    took = time.monotonic() - began
    await check_newcomer_is_heard(it, node)
    longest = watch.longest_turn
    gc.collect()
    kept = len(gc.get_objects()) - objects
    print(f"{flood.sent} packets in {took:.1f} s; a turn took up to {1000 * longest:.1f} ms;")
    print(f"{kept} objects kept; {flood.answers} packets sent; {it.counters}")
    assert flood.sent > 50
    assert longest < LOOP_AWAY
    assert kept < OBJECTS
    assert flood.answers <= MAX_QUERIES_SAVED_UP + QUERIES_A_SECOND * (took + 1)


@pytest.mark.parametrize("make", ATTACKS, ids=NAMES)
async def test_flood_of_one_source_is_bounded(loopback: Loopback, make: Callable[[int], bytes]) -> None:
    async with attacked(loopback) as (it, watch):
        with Stranger(1) as node:
            await check_flood_is_bounded(it, Flood(make, RATE), watch, node)


@pytest.mark.parametrize("make", [nonexistent, dns.query_with_long_name, small], ids=["300 B", "queries", "60 B"])
async def test_flood_of_many_sources_is_bounded(loopback: Loopback, make: Callable[[int], bytes]) -> None:
    async with attacked(loopback) as (it, watch):
        with Stranger(0) as node:
            await check_flood_is_bounded(it, Flood(make, RATE, range(1, MAX_SOURCES)), watch, node)


def asked(kind: int, cls: int = dns.CLASS_IN) -> Callable[[str, int], bytes]:
    """Return a function that makes a query of one question: about an instance, or for the addresses of its host."""
    service = {dns.A: "local.", dns.AAAA: "local."}.get(kind, SERVICE_TYPE)

    def make(instance: str, number: int) -> bytes:
        owner = SERVICE_TYPE if kind == dns.PTR else f"{instance}.{service}"
        return dns.message([dns.question(dns.name(owner), kind, cls)], ident=number & 0xFFFF)

    return make


@pytest.mark.parametrize("port", [5353, 40000], ids=["multicast", "legacy"])
@pytest.mark.parametrize("cls", [dns.CLASS_IN, dns.CLASS_IN | dns.UNICAST], ids=["QM", "QU"])
@pytest.mark.parametrize("kind", [dns.PTR, dns.SRV, dns.TXT, dns.A, dns.AAAA, dns.ANY])
async def test_questions_are_answered_and_answers_bounded(loopback: Loopback, kind: int, cls: int, port: int) -> None:
    """The answers for SRV and A records come without a delay, and the answers to another port come twice."""
    async with attacked(loopback) as (it, _):
        instance, make = instance_name(it.own), asked(kind, cls)
        began = time.monotonic()
        with Flood(lambda number: make(instance, number), 50_000, port=port) as flood:
            await asyncio.sleep(2.0)
        took = time.monotonic() - began  # longer, if the machine is busy
        print(f"{flood.sent} questions, {flood.answers} answers in {took:.1f} s; {it.counters}")
        assert flood.answers >= 2
        assert flood.answers <= MAX_QUERIES_SAVED_UP + QUERIES_A_SECOND * (took + 1)
        assert it.counters["mdns_errors"] == 0


async def test_questions_about_other_nodes_do_not_use_the_budget(loopback: Loopback) -> None:
    """A program that resolves a large group asks about each of its nodes, and each node answers."""
    async with attacked(loopback) as (it, _):
        with overhear(OWN) as wire, Stranger() as stranger:
            for number in range(100):
                stranger.send(asked(dns.SRV)(f"pskkey-{number:08x}", number))
            await asyncio.sleep(0.2)
            assert wire.count_from(OWN) == 0
            stranger.send(asked(dns.SRV)(instance_name(it.own), 0))
            await asyncio.sleep(0.2)
            assert wire.count_from(OWN) == 1


async def test_known_answer_is_not_sent_again(loopback: Loopback) -> None:
    """RFC 6762 section 7.1."""
    async with attacked(loopback) as (it, _):
        with overhear(OWN) as wire, Stranger() as stranger:
            known = dns.record(TO_SERVICE, dns.PTR, dns.name(f"{instance_name(it.own)}.{SERVICE_TYPE}"))
            # Newer releases of python-zeroconf ignore a packet that is equal to a recent one, such as our own question.
            stranger.send(dns.message([dns.question(SERVICE)], [known], ident=1))
            await asyncio.sleep(0.3)
            assert wire.count_from(OWN) == 0
            stranger.send(dns.message([dns.question(SERVICE)], ident=2))
            await asyncio.sleep(0.3)
            assert wire.count_from(OWN) == 1


async def test_malformed_text_is_not_reported_as_that_of_our_group(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a readable text shows the group of its sender."""
    async with attacked(loopback) as (it, _):
        with Stranger() as stranger:
            stranger.send(dns.announcement("pskkey-01234567", b"\x05grp"))
            await asyncio.sleep(0.1)
        assert it.counters["adverts_rejected"] == 1
        assert not caplog.records


# --- sources -------------------------------------------------------------------------------------------------------


async def test_source_over_budget_does_not_silence_others_with_both_ip_versions(
    loopback: Loopback,
) -> None:
    """Each IPv4 address is a source, although all of them are in one network."""
    with private_network():
        async with listening(loopback, INTERFACE, "both") as it:
            it.discovery.advertise(it.advert(it.own, Role.MASTER))
            await asyncio.sleep(1.3)
            with Stranger(0) as stranger, Stranger(1) as node:
                # The budget is processor time, so how many datagrams use it up depends on the processor.
                async with asyncio.timeout(10):
                    for number in itertools.count():
                        stranger.send(most_questions(number))
                        if number % 10 == 9:
                            await asyncio.sleep(0.001)
                            if it.counters["mdns_dropped"]:
                                break
                await check_newcomer_is_heard(it, node, tries=1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1", "fe80::2", False),
    ],
)
def test_ipv6_addresses_of_one_network_are_one_source(one: str, other: str, *, same: bool) -> None:
    assert (mdns_source_of(one) == mdns_source_of(other)) is same
