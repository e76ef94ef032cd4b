"""mDNS messages for tests, byte by byte, also messages that no correct program sends (RFC 1035 section 4.1)."""

import struct
from collections.abc import Mapping, Sequence

from pskkey.wire.advert import SERVICE_TYPE

A, CNAME, PTR, HINFO, TXT, AAAA, SRV, NSEC, ANY = 1, 5, 12, 13, 16, 28, 33, 47, 255
CLASS_IN, CACHE_FLUSH, UNICAST = 1, 0x8000, 0x8000
QUERY, RESPONSE, TRUNCATED, NOTIFY = 0, 0x8400, 0x0200, 0x2000
HEADER_SIZE = 12


def name(dotted: str) -> bytes:
    """Return a name without pointers."""
    labels = [label.encode() for label in dotted.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def pointer(to: int) -> bytes:
    """Return a pointer to a place in the message."""
    return struct.pack("!H", 0xC000 | to)


def question(owner: bytes, kind: int = PTR, cls: int = CLASS_IN) -> bytes:
    """Return a question."""
    return owner + struct.pack("!HH", kind, cls)


def record(owner: bytes, kind: int, data: bytes, ttl: int = 120, size: int | None = None) -> bytes:
    """Return a record; `size` may be a wrong size of its data."""
    return owner + struct.pack("!HHIH", kind, CLASS_IN, ttl, len(data) if size is None else size) + data


def message(
    questions: Sequence[bytes] = (),
    records: Sequence[bytes] = (),
    *,
    flags: int = QUERY,
    ident: int = 0,
    tail: bytes = b"",
) -> bytes:
    """Return a message with all records in its first section."""
    header = struct.pack("!6H", ident, flags, len(questions), len(records), 0, 0)
    return header + b"".join((*questions, *records, tail))


def text_data(pairs: Mapping[str, str]) -> bytes:
    """Return the data of a TXT record (RFC 6763 section 6.3)."""
    encoded = [f"{key}={value}".encode() for key, value in pairs.items()]
    return b"".join(bytes([len(pair)]) + pair for pair in encoded)


def announcement(instance: str, text: bytes, ttl: int = 120) -> bytes:
    """Return the PTR and TXT records of an instance as a response."""
    service = name(SERVICE_TYPE)
    whole = name(f"{instance}.{SERVICE_TYPE}")
    return message(records=(record(service, PTR, whole, ttl), record(whole, TXT, text, ttl)), flags=RESPONSE)


def pointer_chain(at: int, length: int) -> bytes:
    """Return `length` pointers, each to the one before it; the first points to the root's empty name, at `at`."""
    return b"\0" + b"".join(pointer(at if n == 0 else at + 1 + 2 * (n - 1)) for n in range(length))


def query_with_chain(pointers: int, records: int = 60, ident: int = 0) -> bytes:
    """Return a query about our service whose known answers all name the end of one chain of pointers.

    The chain is in the data of the first record, which only a reader of names reads.
    """
    asked = question(name(SERVICE_TYPE))
    chain_at = HEADER_SIZE + len(asked) + 2 + 10
    chain = pointer_chain(chain_at, pointers)
    owner = pointer(HEADER_SIZE)
    known = record(owner, PTR, pointer(chain_at + len(chain) - 2))
    return message([asked], [record(owner, TXT, chain), *[known] * (records - 1)], ident=ident)


def query_that_lies(ident: int = 0, size: int = 200) -> bytes:
    """Return a query with an A record of `size` bytes: after four of them stands a name that points to itself."""
    asked = question(name(SERVICE_TYPE))
    data_at = HEADER_SIZE + len(asked) + 2 + 10
    data = bytes(4) + pointer(data_at + 4)
    owner = pointer(HEADER_SIZE)
    records = [record(owner, A, data.ljust(size, b"\0")), record(owner, A, bytes(4))]
    return message([asked], records, ident=ident)


def query_with_long_name(ident: int = 0) -> bytes:
    """Return a query about our service and about a name of 255 bytes, another one for each `ident`."""
    long = ".".join((f"{ident:063d}", "b" * 63, "c" * 63, "d" * 61))
    return message([question(name(SERVICE_TYPE)), question(name(long))], ident=ident & 0xFFFF)
