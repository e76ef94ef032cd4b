"""mDNS messages, as far as discovery has to read them (RFC 1035 section 4.1, RFC 6762 section 18).

    id u16 | flags u16 | number of questions, answers, authority records, additional records: u16 each
    question: name | type u16 | class u16
    record:   name | type u16 | class u16 | ttl u32 | size u16 | data

A name is a row of labels of 1..63 bytes, each after its length. It ends with an empty label, or with a pointer (two
bytes from 0xC000 on) to a name before it. A stranger chooses every byte of a message, so the labels and pointers of a
whole message are bounded. Reading a message takes at most 0.5 ms here.

python-zeroconf reads a query too, afterwards. Its reader follows names in the data of records, without a bound. It goes
on where that data ends by its type, not by its size. It keeps a traceback of each message on which it has failed, for
ever. So we check the data of a query's records as well, for the types that python-zeroconf knows.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from pskkey.errors import BadPacket
from pskkey.wire.advert import SERVICE_TYPE

MAX_MESSAGE: Final = 4096
"""Bytes. The largest advert has about 3,000; RFC 6762 section 17 allows 9,000, which nobody needs here."""

MAX_QUESTIONS: Final = 128
"""A program that resolves a large group fills its packet with questions about instances."""

MAX_RECORDS: Final = 64
"""In all sections together. A query lists the answers that its sender knows already."""

MAX_STEPS: Final = 1024
"""Labels and pointers of a whole message; each counts whenever it is followed. A question about one instance has 6."""

MAX_LABELS: Final = 40
"""In one name. A name for an IPv6 address has 34."""

MAX_POINTERS: Final = 8
"""In one name: each part of a service's name may be a pointer to the rest."""

MAX_NAME: Final = 253
"""Bytes of a name without its pointers, with a dot after each label. python-zeroconf fails on longer ones."""

MAX_PAIRS: Final = 32
"""Of a TXT record."""

TYPE_TXT: Final = 16
_SIZES: Final = {1: 4, 28: 16}
"""Bytes of the data of A and AAAA records."""

_NAMES_AT: Final = {5: 0, 12: 0, 33: 6}
"""Bytes before the name at the end of the data of a CNAME, PTR or SRV record."""

_REFUSED: Final = frozenset({13, 47})
"""HINFO and NSEC records: no query about our service needs one."""

_HEADER: Final = struct.Struct("!6H")
_QUESTION: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_RESPONSE: Final = 0x8000
_TRUNCATED: Final = 0x0200
_OPCODE: Final = 0x7800
_POINTER: Final = 0xC0
_INSTANCE: Final = re.compile(rb"pskkey-[0-9a-f]{8,32}\." + re.escape(SERVICE_TYPE.encode()))
_OURS: Final = (b"pskkey", b"_dns-sd")
"""The words of messages that concern us: our service, or the question for all services."""


@dataclass(frozen=True, slots=True)
class InstanceText:
    """The TXT record of an instance of our service type: its whole name, in lower case, and its data."""

    name: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """A well-formed, cheap query: the names that it asks about, in lower case."""

    names: frozenset[bytes]


@dataclass(frozen=True, slots=True)
class Response:
    """A well-formed, cheap response: the TXT records of our service type in it.

    Records with a TTL of 0 are left out. They are goodbyes, and anybody can send one.
    """

    texts: tuple[InstanceText, ...]


def concerns_us(datagram: bytes) -> bool:
    """Return whether a message can concern our service. This is the cheapest check."""
    lowered = datagram.lower()
    return any(word in lowered for word in _OURS)


def read_message_untrusted(datagram: bytes) -> Query | Response:
    """Read an mDNS message. Raises BadPacket when it is malformed, truncated or larger than the bounds above."""
    if not _HEADER.size <= len(datagram) <= MAX_MESSAGE:
        raise BadPacket(f"an mDNS message of {len(datagram)} bytes")
    _, flags, questions, *sections = _HEADER.unpack_from(datagram)
    records = sum(sections)
    if flags & (_OPCODE | _TRUNCATED):
        raise BadPacket("an mDNS message with an opcode, or one that is truncated")
    if questions > MAX_QUESTIONS or records > MAX_RECORDS:
        raise BadPacket(f"an mDNS message with {questions} questions and {records} records")
    is_query = not flags & _RESPONSE
    reader = _Reader(datagram)
    at = _HEADER.size
    asked = set()
    for _ in range(questions):
        name, at = reader.name_untrusted(at)
        asked.add(name)
        at += _QUESTION.size
    texts = []
    for _ in range(records):
        name, at = reader.name_untrusted(at)
        if at + _RECORD.size > len(datagram):
            raise BadPacket("an mDNS record ends too early")
        kind, _, ttl, size = _RECORD.unpack_from(datagram, at)
        at += _RECORD.size
        if is_query:
            reader.check_data_untrusted(kind, at, size)
        elif kind == TYPE_TXT and ttl and _INSTANCE.fullmatch(name):
            texts.append(InstanceText(name.decode("ascii"), datagram[at : at + size]))
        at += size
    if at > len(datagram):
        raise BadPacket("an mDNS message ends too early")
    return Query(frozenset(asked)) if is_query else Response(tuple(texts))


def read_text_untrusted(text: bytes) -> dict[bytes, bytes | None]:
    """Return the pairs of a TXT record's data, the first of each name (RFC 6763 section 6). Raises BadPacket."""
    pairs: dict[bytes, bytes | None] = {}
    at = 0
    while at < len(text):
        size = text[at]
        pair = text[at + 1 : at + 1 + size]
        if len(pair) < size or len(pairs) >= MAX_PAIRS:
            raise BadPacket(f"a TXT record that ends too early, or has more than {MAX_PAIRS} pairs")
        name, equals, value = pair.partition(b"=")
        if name:
            pairs.setdefault(name, value if equals else None)
        at += 1 + size
    return pairs


class _Reader:
    """Reads the names of one message."""

    def __init__(self, datagram: bytes) -> None:
        self._datagram = datagram
        self._steps = MAX_STEPS

    def name_untrusted(self, at: int) -> tuple[bytes, int]:
        """Return the name that begins at `at`, in lower case and with a dot after each label, and its end."""
        datagram = self._datagram
        labels: list[bytes] = []
        end = pointers = size = 0
        while True:
            if at >= len(datagram):
                raise BadPacket("a name ends too early")
            length = datagram[at]
            if length == 0:
                return b"".join(label + b"." for label in labels).lower(), end or at + 1
            self._steps -= 1
            if self._steps < 0:
                raise BadPacket(f"an mDNS message with more than {MAX_STEPS} labels and pointers")
            if length >= _POINTER:
                if at + 2 > len(datagram):
                    raise BadPacket("a name ends too early")
                target = (length - _POINTER) << 8 | datagram[at + 1]
                pointers += 1
                if target >= at or pointers > MAX_POINTERS:
                    raise BadPacket("a name with a pointer that leads forwards, or with too many")
                end = end or at + 2
                at = target
                continue
            if length > 63:
                raise BadPacket("a label of no known kind")
            label = datagram[at + 1 : at + 1 + length]
            at += 1 + length
            size += 1 + length
            labels.append(label)
            if len(label) < length or size > MAX_NAME or len(labels) > MAX_LABELS:
                raise BadPacket("a name that is too long, or ends too early")

    def check_data_untrusted(self, kind: int, at: int, size: int) -> None:
        """Check that the data of a record is exactly what its type has."""
        is_whole = kind not in _REFUSED
        if kind in _SIZES:
            is_whole = size == _SIZES[kind]
        elif kind in _NAMES_AT:
            is_whole = self.name_untrusted(at + _NAMES_AT[kind])[1] == at + size
        if not is_whole:
            raise BadPacket(f"an mDNS query with a record of type {kind} that is malformed, or that we refuse")
