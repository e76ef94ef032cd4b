"""mDNS messages, as far as discovery has to read them (RFC 1035 section 4.1, RFC 6762 section 18).

    id u16 | flags u16 | number of questions, answers, authority records, additional records: u16 each
    question: name | type u16 | class u16
    record:   name | type u16 | class u16 | ttl u32 | size u16 | data

A name is labels of 1..63 bytes, each after its length, and ends with an empty one, or with a pointer (two bytes from
0xC000 on) to a name that stands before it. To read a message costs time in proportion to the number of its names, and
that is bounded, as is the length of each name: a stranger chooses every byte of it.
"""

import re
import struct
from dataclasses import dataclass
from typing import Final

from pskkey.errors import BadPacket
from pskkey.wire.advert import SERVICE_TYPE

MAX_MESSAGE: Final = 4096
"""Bytes. The largest advert has about 3,000; RFC 6762 section 17 allows 9,000, which nobody needs here."""

MAX_QUESTIONS: Final = 32
MAX_RECORDS: Final = 64
"""In all sections together. A query names the answers that are known already."""

MAX_LABELS: Final = 40
"""In one name. A name for an IPv6 address has 34."""

MAX_POINTERS: Final = 8
"""In one name: each part of a service's name may be a pointer to the rest."""

MAX_NAME: Final = 255
"""Bytes of a name without its pointers (RFC 1035 section 3.1)."""

MAX_PAIRS: Final = 32
"""Of a TXT record."""

TYPE_TXT: Final = 16

_HEADER: Final = struct.Struct("!6H")
_QUESTION: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_RESPONSE: Final = 0x8000
_TRUNCATED: Final = 0x0200
_OPCODE: Final = 0x7800
_POINTER: Final = 0xC0
_INSTANCE: Final = re.compile(rb"pskkey-[0-9a-f]{8}\." + re.escape(SERVICE_TYPE.encode()))
_OURS: Final = (b"pskkey", b"_dns-sd")
"""What a message has in it that concerns us: our service, or the question which services there are."""


@dataclass(frozen=True, slots=True)
class InstanceText:
    """The TXT record of an instance of our service type: its whole name, in small letters, and its data."""

    name: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """A message that is well-formed and cheap: a query, or a response with the TXT records of our service type.

    Records with a TTL of 0 are left out. They are goodbyes, and anybody can send one.
    """

    is_query: bool
    texts: tuple[InstanceText, ...] = ()


def concerns_us(datagram: bytes) -> bool:
    """Return whether a message can have anything to do with our service: the cheapest of all checks."""
    lowered = datagram.lower()
    return any(word in lowered for word in _OURS)


def read_message_untrusted(datagram: bytes) -> Reading:
    """Read an mDNS message. Raises BadPacket when it is malformed, truncated or larger than the bounds above."""
    if not _HEADER.size <= len(datagram) <= MAX_MESSAGE:
        raise BadPacket(f"an mDNS message of {len(datagram)} bytes")
    _, flags, questions, *records = _HEADER.unpack_from(datagram)
    if flags & (_OPCODE | _TRUNCATED):
        raise BadPacket("an mDNS message with an opcode, or one that is truncated")
    if questions > MAX_QUESTIONS or sum(records) > MAX_RECORDS:
        raise BadPacket(f"an mDNS message with {questions} questions and {sum(records)} records")
    at = _HEADER.size
    for _ in range(questions):
        _, at = _name_untrusted(datagram, at)
        at += _QUESTION.size
    texts = []
    for _ in range(sum(records)):
        name, at = _name_untrusted(datagram, at)
        if at + _RECORD.size > len(datagram):
            raise BadPacket("an mDNS record ends too early")
        kind, _, ttl, size = _RECORD.unpack_from(datagram, at)
        at += _RECORD.size
        if kind == TYPE_TXT and ttl and _INSTANCE.fullmatch(name):
            texts.append(InstanceText(name.decode("ascii"), datagram[at : at + size]))
        at += size
    if at > len(datagram):
        raise BadPacket("an mDNS message ends too early")
    return Reading(not flags & _RESPONSE, () if not flags & _RESPONSE else tuple(texts))


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


def _name_untrusted(datagram: bytes, at: int) -> tuple[bytes, int]:
    """Return the name that begins at `at`, in small letters and with a dot after each label, and where it ends."""
    labels: list[bytes] = []
    end = pointers = size = 0
    while True:
        if at >= len(datagram):
            raise BadPacket("a name ends too early")
        length = datagram[at]
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
        if not length:
            return b"".join(label + b"." for label in labels).lower(), end or at
        size += 1 + length
        labels.append(label)
        if len(label) < length or size >= MAX_NAME or len(labels) > MAX_LABELS:
            raise BadPacket("a name that is too long, or ends too early")
