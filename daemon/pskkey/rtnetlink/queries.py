"""Which interface has a name, an address, or the route to an address. The kernel answers each question at once."""

import errno
import os
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from pskkey.rtnetlink import messages

LONGEST_NAME: Final = 127
"""Bytes of an alternative name of an interface (ALTIFNAMSIZ of <linux/if.h>, without the zero byte)."""

_LONGEST_FIRST_NAME: Final = 15
_TIMEOUT: Final = 1.0
_READ_SIZE: Final = 65536
_REQUEST: Final = 0x1
_DUMP: Final = 0x300
_ALTERNATIVE_NAME: Final = 53
_ADDRESS, _LOCAL_ADDRESS = 1, 2
_DESTINATION, _OUTPUT_INTERFACE = 1, 4
_NOT_ALLOWED: Final = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EPERM, errno.EACCES})


class NoNetlink(OSError):
    """This process may not use netlink, for example because of RestrictAddressFamilies= of its unit."""


def index_of_name(name: str) -> int | None:
    """Return the index of the interface with this name or alternative name; None if there is none now.

    Raises ValueError for a text that is no name of a file system object, OSError.
    """
    try:
        return socket.if_nametoindex(name)  # it finds short alternative names too
    except OSError:
        encoded = os.fsencode(name)
    if not _LONGEST_FIRST_NAME < len(encoded) <= LONGEST_NAME:
        return None
    attribute = messages.attribute(_ALTERNATIVE_NAME, encoded + b"\0")
    for kind, payload in _ask(messages.GET_LINK, messages.LINK.pack(0, 0, 0, 0, 0) + attribute):
        if kind == messages.NEW_LINK:
            index: int = messages.LINK.unpack_from(payload)[2]
            return index
    return None


def indexes_of_address(address: IPv4Address | IPv6Address) -> set[int]:
    """Return the indexes of the interfaces that have this address; its zone has no effect. Raises OSError."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    indexes = set()
    for _, payload in _ask(messages.GET_ADDRESS, messages.ADDRESS.pack(family, 0, 0, 0, 0), _DUMP):
        attributes = messages.read_attributes(payload[messages.ADDRESS.size :])
        # Of a point-to-point interface, _ADDRESS is the other end.
        if attributes.get(_LOCAL_ADDRESS, attributes.get(_ADDRESS)) == address.packed:
            indexes.add(messages.ADDRESS.unpack_from(payload)[4])
    return indexes


def index_of_route(address: IPv4Address | IPv6Address) -> int | None:
    """Return the index of the interface that datagrams to this address leave by; None without a route.

    Raises OSError.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    route = messages.ROUTE.pack(family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    for _, payload in _ask(messages.GET_ROUTE, route + messages.attribute(_DESTINATION, address.packed)):
        found = messages.read_attributes(payload[messages.ROUTE.size :]).get(_OUTPUT_INTERFACE)
        if found is not None:
            return int.from_bytes(found, messages.BYTE_ORDER)
    return None


def _ask(kind: int, payload: bytes, flags: int = 0) -> list[tuple[int, bytes]]:
    """Return the types and payloads of the answer. It is empty when the kernel answers with an error."""
    try:
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    except OSError as error:
        raise (NoNetlink(*error.args) if error.errno in _NOT_ALLOWED else error) from None
    with kernel:
        kernel.settimeout(_TIMEOUT)
        length = messages.HEADER.size + len(payload)
        kernel.sendto(messages.HEADER.pack(length, kind, _REQUEST | flags, 1, 0) + payload, (0, 0))
        answer: list[tuple[int, bytes]] = []
        while True:
            for message in messages.read_messages(kernel.recv(_READ_SIZE)):
                if message[0] in (messages.ERROR, messages.DONE):
                    return answer
                answer.append(message)
            if flags != _DUMP:
                return answer
