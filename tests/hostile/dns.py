"""DNS messages as bytes (RFC 1035 section 4), among them messages that no correct program would send."""

import struct
from collections.abc import Iterable, Mapping
from typing import Final

PTR: Final = 12
TXT: Final = 16
SRV: Final = 33
A: Final = 1
IN: Final = 1
UNIQUE: Final = 0x8001
"""Class IN with the cache-flush bit of RFC 6762 section 10.2."""

QUERY: Final = 0
TRUNCATED_QUERY: Final = 0x0200
RESPONSE: Final = 0x8400

HEADER_SIZE: Final = 12
LARGEST: Final = 8966
"""Bytes of the largest message that python-zeroconf reads."""


def header(flags: int, ident: int, questions: int = 0, answers: int = 0) -> bytes:
    """Return the header of a message; `ident` makes it differ from the one before."""
    return struct.pack("!HHHHHH", ident & 0xFFFF, flags, questions, answers, 0, 0)


def name(dotted: str) -> bytes:
    """Return a name without compression."""
    labels = [label.encode() for label in dotted.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def pointer(offset: int) -> bytes:
    """Return a compression pointer to a place in the message."""
    return struct.pack("!H", 0xC000 | offset)


def question(owner: bytes, kind: int) -> bytes:
    """Return an entry of the question section."""
    return owner + struct.pack("!HH", kind, IN)


def record(owner: bytes, kind: int, data: bytes, ttl: int, record_class: int = UNIQUE) -> bytes:
    """Return a resource record; `ttl` in seconds; 0 withdraws it."""
    return owner + struct.pack("!HHIH", kind, record_class, ttl, len(data)) + data


def pairs(values: Mapping[str, str]) -> bytes:
    """Return the data of a TXT record (RFC 6763 section 6)."""
    texts = [f"{key}={value}".encode() for key, value in values.items()]
    return b"".join(bytes([len(text)]) + text for text in texts)


def response(records: Iterable[bytes], ident: int) -> bytes:
    """Return a message with these answers."""
    answers = list(records)
    return header(RESPONSE, ident, answers=len(answers)) + b"".join(answers)


def query(questions: Iterable[bytes], ident: int, flags: int = QUERY) -> bytes:
    """Return a message with these questions."""
    asked = list(questions)
    return header(flags, ident, questions=len(asked)) + b"".join(asked)
