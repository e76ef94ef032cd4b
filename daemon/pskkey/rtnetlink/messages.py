"""The layout of the messages of rtnetlink(7), in the byte order of this machine.

A message of <linux/netlink.h>:   length u32, type u16, flags u16, sequence u32, port u32, payload
An attribute within a payload:    length u16, type u16, value

Each length covers its header. The next message or attribute begins at a multiple of 4 bytes. A payload is a structure
and a row of attributes; also the value of an attribute can be such a row.
"""

import errno
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

HEADER: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")

LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, device type, index, flags, changed flags."""
ADDRESS: Final = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE: Final = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, prefix length of the destination, of the source, TOS, table, protocol, scope, type, flags."""

ERROR: Final = 2
DONE: Final = 3
NEW_LINK: Final = 16
DELETED_LINK: Final = 17
GET_LINK: Final = 18
GET_ADDRESS: Final = 22
GET_ROUTE: Final = 26

READ_SIZE: Final = 1 << 17
"""Bytes. A datagram of the kernel has at most 32 KiB, or what one interface needs if that is more."""

_TYPE_MASK: Final = 0x3FFF
"""The upper two bits of an attribute's type are flags."""

type Attributes = dict[int, list[bytes]]
"""The values of each type; a type that is missing has none."""


def read_messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the type, the flags and the payload of each message in a datagram."""
    at = 0
    while at + HEADER.size <= len(data):
        length, kind, flags, _, _ = HEADER.unpack_from(data, at)
        if length < HEADER.size:
            return
        yield kind, flags, data[at + HEADER.size : at + length]
        at += _aligned(length)


def read_attributes(data: bytes, at: int = 0) -> Attributes:
    """Return the attributes from this place on."""
    found: Attributes = defaultdict(list)
    while at + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, at)
        if length < ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK].append(data[at + ATTRIBUTE.size : at + length])
        at += _aligned(length)
    return found


def read_payload(layout: struct.Struct, payload: bytes) -> tuple[tuple[Any, ...], Attributes]:
    """Return the fields of the structure, and the attributes behind it. Raises OSError for a shorter payload."""
    try:
        return layout.unpack_from(payload), read_attributes(payload, layout.size)
    except struct.error as error:
        raise OSError(errno.EBADMSG, f"a message of the kernel is too short: {error}") from None


def read_number(value: bytes) -> int:
    """Return the number in the value of an attribute, or at the beginning of an error message."""
    return int.from_bytes(value[:4], sys.byteorder, signed=True)


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, filled up to a multiple of 4 bytes."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
