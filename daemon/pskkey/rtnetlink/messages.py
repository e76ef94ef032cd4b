"""The layout of the messages of rtnetlink(7), in the byte order of this machine.

A message of <linux/netlink.h>:   length u32, type u16, flags u16, sequence u32, port u32, payload
An attribute within a payload:    length u16, type u16, value

Each length covers its header. The next message or attribute begins at a multiple of 4 bytes.
"""

import struct
import sys
from collections.abc import Iterator
from typing import Final

BYTE_ORDER: Final = sys.byteorder
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

_TYPE_MASK: Final = 0x3FFF
"""The upper two bits of an attribute's type are flags."""


def read_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the payload of each message in a datagram."""
    while len(data) >= HEADER.size:
        length, kind, *_ = HEADER.unpack_from(data)
        if length < HEADER.size:
            return
        yield kind, data[HEADER.size : length]
        data = data[_aligned(length) :]


def read_attributes(data: bytes) -> dict[int, bytes]:
    """Return the value of each attribute by its type."""
    attributes = {}
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        if length < ATTRIBUTE.size:
            break
        attributes[kind & _TYPE_MASK] = data[ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return attributes


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, filled up to a multiple of 4 bytes."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
