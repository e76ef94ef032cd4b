"""The datagrams of each attack on mDNS: made beforehand, so that the attacker only sends.

Each function returns different datagrams, because python-zeroconf ignores a datagram that is equal to the one before.
A stranger knows the instance names of the group, because every host hears them.
"""

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from pskkey.model import Advert, Role
from pskkey.secret import Secret
from pskkey.wire.advert import SERVICE_TYPE, advert_key, encode_advert, instance_name
from tests.hostile import dns

LARGE: Final = 128
"""The number of different datagrams of about 9 kB in an attack: a megabyte, which is one second of the attack."""
SMALL: Final = 2048
"""The number of different small datagrams."""
CHAIN: Final = 800
"""Compression pointers in a chain."""
INVENTED: Final = 60
"""Nodes that an insider invents."""
GARBAGE_SIZES: Final = (1, 1400)
"""The least and the most bytes of a malformed datagram."""
KEPT: Final = 4500
"""The TTL of invented records in seconds (RFC 6762 section 10: 75 minutes)."""

type Names = Sequence[str]
"""Instance names of the members, such as `pskkey-01234567`."""


def pointer_chains(_names: Names) -> list[bytes]:
    """Queries whose names all point to one chain of compression pointers."""
    entry = 6
    count = (dns.LARGEST - dns.HEADER_SIZE - 2 * CHAIN - 1) // entry
    chain_at = dns.HEADER_SIZE + entry * count
    chain = b"".join(dns.pointer(chain_at + 2 * place) for place in range(1, CHAIN + 1)) + b"\0"
    asked = [dns.question(dns.pointer(chain_at), dns.PTR)] * count
    return [dns.query(asked, ident) + chain for ident in range(LARGE)]


def many_questions(_names: Names) -> list[bytes]:
    """Queries full of questions for our service type."""
    return [_full_of_questions(dns.QUERY, ident) for ident in range(LARGE)]


def truncated_queries(_names: Names) -> list[bytes]:
    """The same with the TC bit: it announces a further message, and a responder waits for it (RFC 6762 section 7.2)."""
    return [_full_of_questions(dns.TRUNCATED_QUERY, ident) for ident in range(LARGE)]


def many_records(_names: Names) -> list[bytes]:
    """Responses full of address records, of names that do not exist."""
    return [dns.response(_addresses(ident), ident) for ident in range(LARGE)]


def tiny_records(_names: Names) -> list[bytes]:
    """Responses full of records of 11 bytes: of the root, without data."""
    one = dns.record(b"\0", dns.TXT, b"", KEPT)
    count = (dns.LARGEST - dns.HEADER_SIZE) // len(one)
    return [dns.response([one] * count, ident) for ident in range(LARGE)]


def small_queries(_names: Names) -> list[bytes]:
    """Queries of 60 bytes for names that do not exist."""
    tail = ".x._tcp.local."
    room = 60 - dns.HEADER_SIZE - len(dns.name(f"a{tail}")) - 4 + 1
    asked = [dns.question(dns.name(f"{_word(room)}{tail}"), dns.TXT) for _ in range(SMALL)]
    return [dns.query([one], ident) for ident, one in enumerate(asked)]


def absent_instances(_names: Names) -> list[bytes]:
    """Unsigned announcements of instances of our service type that do not exist, a few in each datagram."""
    return [dns.response(_instances(5), ident) for ident in range(SMALL)]


def absent_pointers(_names: Names) -> list[bytes]:
    """Only the PTR records of such instances: a receiver must ask for their other records."""
    owner = dns.name(SERVICE_TYPE)
    return [
        dns.response((dns.record(owner, dns.PTR, dns.name(_instance()), KEPT, dns.IN) for _ in range(20)), ident)
        for ident in range(SMALL)
    ]


def garbage(_names: Names) -> list[bytes]:
    """Malformed datagrams: noise, noise after a header, and correct messages with bytes changed or cut off."""
    made = []
    for ident in range(SMALL):
        noise = random.randbytes(random.randint(*GARBAGE_SIZES))
        correct = bytearray(dns.response(_instances(2), ident))
        for _ in range(4):
            correct[random.randrange(dns.HEADER_SIZE, len(correct))] = random.randrange(256)
        counted = dns.header(random.choice((dns.QUERY, dns.RESPONSE)), ident, random.randrange(9), random.randrange(9))
        made.append(
            (noise, counted + noise, bytes(correct), bytes(correct[: random.randrange(1, len(correct))]))[ident % 4]
        )
    return made


def answered_questions(names: Names) -> list[bytes]:
    """Queries that every member answers: for our service type, and for the records of a member."""
    made = []
    for ident in range(SMALL):
        member = names[ident % len(names)]
        full = dns.name(f"{member}.{SERVICE_TYPE}")
        asked = [dns.question(dns.name(SERVICE_TYPE), dns.PTR)]
        asked += [dns.question(full, kind) for kind in (dns.SRV, dns.TXT)]
        asked += [dns.question(dns.name(f"{member}.local."), dns.A)]
        made.append(dns.query(asked, ident))
    return made


def goodbyes(names: Names) -> list[bytes]:
    """Forged goodbyes of every member."""
    return [goodbye(names[ident % len(names)], ident) for ident in range(SMALL)]


def goodbye(instance: str, ident: int) -> bytes:
    """Return a forged goodbye of one instance: its records with a TTL of 0 (RFC 6762 section 10.1)."""
    full = dns.name(f"{instance}.{SERVICE_TYPE}")
    return dns.response(
        [
            dns.record(dns.name(SERVICE_TYPE), dns.PTR, full, 0, dns.IN),
            dns.record(full, dns.SRV, struct.pack("!HHH", 0, 0, 11111) + dns.name(f"{instance}.local."), 0),
            dns.record(full, dns.TXT, b"\0", 0),
        ],
        ident,
    )


def replayed(adverts: Mapping[str, Sequence[bytes]], with_goodbyes: bool) -> list[bytes]:
    """Return recorded announcements, by instance name, to send again; with `with_goodbyes` after a forged goodbye."""
    made = []
    for ident in range(SMALL):
        for instance, datagrams in adverts.items():
            if with_goodbyes:
                made.append(goodbye(instance, ident))
            made.append(struct.pack("!H", ident) + datagrams[ident % len(datagrams)][2:])
    return made


def invented_adverts(psk: Secret, group: str, address: str) -> list[bytes]:
    """Return adverts, signed with the PSK, of nodes that do not exist, with a higher rank than any member."""
    key = advert_key(psk)
    made = []
    for number in range(INVENTED):
        node_id = f"{number:08x}{random.getrandbits(64):016x}"
        role = (Role.LISTENING, Role.JOINING, Role.CLIENT)[number % 3]
        advert = Advert(group, node_id, "invented", 255, True, role, 1, 1, (address,), 11111)
        made.append(dns.response(announcement(instance_name(node_id), encode_advert(advert, key)), number))
    return made


def announcement(instance: str, values: Mapping[str, str]) -> list[bytes]:
    """Return the records that announce an instance."""
    full = dns.name(f"{instance}.{SERVICE_TYPE}")
    target = dns.name(f"{instance}.local.")
    return [
        dns.record(dns.name(SERVICE_TYPE), dns.PTR, full, KEPT, dns.IN),
        dns.record(full, dns.SRV, struct.pack("!HHH", 0, 0, 11111) + target, KEPT),
        dns.record(full, dns.TXT, dns.pairs(values), KEPT),
    ]


def _full_of_questions(flags: int, ident: int) -> bytes:
    first = dns.question(dns.name(SERVICE_TYPE), dns.PTR)
    again = dns.question(dns.pointer(dns.HEADER_SIZE), dns.PTR)
    count = (dns.LARGEST - dns.HEADER_SIZE - len(first)) // len(again)
    return dns.query([first, *([again] * count)], ident, flags)


def _addresses(ident: int) -> list[bytes]:
    made: list[bytes] = []
    room = dns.LARGEST - dns.HEADER_SIZE
    while True:
        one = dns.record(dns.name(f"{_word(6)}.local."), dns.A, struct.pack("!I", 0x0A530000 | ident), KEPT)
        room -= len(one)
        if room < 0:
            return made
        made.append(one)


def _instances(count: int) -> list[bytes]:
    values = {"txtvers": "1", "grp": "default", "id": _word(8)}
    return [entry for _ in range(count) for entry in announcement(f"pskkey-{random.getrandbits(32):08x}", values)]


def _instance() -> str:
    return f"pskkey-{random.getrandbits(32):08x}.{SERVICE_TYPE}"


def _word(size: int) -> str:
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=size))


MDNS_ATTACKS: Final[Mapping[str, tuple[Callable[[Names], list[bytes]], int]]] = MappingProxyType(
    {
        "pointer-chains": (pointer_chains, 1),
        "many-questions": (many_questions, 1),
        "many-records": (many_records, 1),
        "tiny-records": (tiny_records, 1),
        "truncated-1": (truncated_queries, 1),
        "truncated-200": (truncated_queries, 200),
        "small-queries": (small_queries, 1),
        "absent-instances": (absent_instances, 1),
        "absent-pointers": (absent_pointers, 1),
        "garbage": (garbage, 1),
        "answered-questions": (answered_questions, 1),
        "goodbyes": (goodbyes, 1),
    }
)
"""For each attack: the function that makes its datagrams, and the number of its source addresses."""
