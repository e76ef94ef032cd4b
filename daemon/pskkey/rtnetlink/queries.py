"""Which interface has a name, an address, or the route to an address; and which one a zone means."""

import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from pskkey.rtnetlink import messages
from pskkey.rtnetlink.interfaces import MAX_ALTERNATIVE_NAME, MAX_INDEX, MAX_NAME, list_addresses, list_interfaces
from pskkey.rtnetlink.questions import Refusal, ask

_DESTINATION, _OUTPUT_INTERFACE = 1, 4
"""Attributes of a route in <linux/rtnetlink.h>."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_GET_NAME, _GET_INDEX = 0x8910, 0x8933
"""SIOCGIFNAME and SIOCGIFINDEX of netdevice(7)."""
_IFREQ: Final = struct.Struct("@16si20x")
"""`struct ifreq` of netdevice(7): name, index."""


def index_of_name(name: str) -> int | None:
    """Return the index of the interface with this name or alternative name; None if there is none now.

    Needs netlink only for a name that is longer than MAX_NAME. Raises ValueError for a text that is no name of a file
    system object, OSError.
    """
    encoded = os.fsencode(name)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    if len(encoded) <= MAX_NAME:  # the kernel finds short alternative names too
        answer = _ask_for_interface(_GET_INDEX, _IFREQ.pack(encoded, 0))
        return None if answer is None else int(_IFREQ.unpack(answer)[1])
    if len(encoded) > MAX_ALTERNATIVE_NAME:
        return None
    return next((interface.index for interface in list_interfaces() if interface.is_called(name)), None)


def index_of_zone(zone: str) -> int | None:
    """Return the index of the interface with this name or alternative name, or with these digits as its index.

    A name comes first. None if there is no such interface now. Raises OSError.
    """
    try:
        index = index_of_name(zone)
    except ValueError:
        return None
    if index is None and zone.isascii() and zone.isdigit() and len(zone) <= len(str(MAX_INDEX)):
        number = int(zone)
        return number if 0 < number <= MAX_INDEX and is_there(number) else None
    return index


def is_there(index: int) -> bool:
    """Return whether an interface has this index now. Raises OSError."""
    return _ask_for_interface(_GET_NAME, _IFREQ.pack(b"", index)) is not None


def _ask_for_interface(question: int, request: bytes) -> bytes | None:
    """Return the kernel's answer about one interface; None if there is no such interface now. Raises OSError.

    if_nametoindex(3) and if_indextoname(3) are not used: they answer that there is no such interface, too, when no
    descriptor is left.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:  # any family answers
        try:
            return fcntl.ioctl(asking, question, request)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise


def indexes_of_address(address: IPv4Address | IPv6Address) -> set[int]:
    """Return the indexes of the interfaces that have this address; its zone has no effect. Raises OSError."""
    return {
        index
        for index, addresses in list_addresses().items()
        if any(own.ip.packed == address.packed for own in addresses)
    }


def index_of_route(address: IPv4Address | IPv6Address) -> int | None:
    """Return the index of the interface that datagrams to this address leave by; None without a route.

    Raises OSError.
    """
    route = messages.ROUTE.pack(_FAMILIES[address.version], address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    try:
        answer = ask(messages.GET_ROUTE, route + messages.attribute(_DESTINATION, address.packed))
    except Refusal:
        return None
    found = [index for route in answer for index in messages.read_payload(messages.ROUTE, route)[1][_OUTPUT_INTERFACE]]
    return messages.read_number(found[0]) if found else None
