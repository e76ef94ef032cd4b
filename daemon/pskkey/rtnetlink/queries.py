"""Which interface has a name, an address, or the route to an address; and which one a zone means."""

import os
import socket
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from pskkey.rtnetlink import messages
from pskkey.rtnetlink.interfaces import MAX_ALTERNATIVE_NAME, MAX_INDEX, MAX_NAME, list_addresses, list_interfaces
from pskkey.rtnetlink.questions import Refusal, ask

_DESTINATION, _OUTPUT_INTERFACE = 1, 4
"""Attributes of a route in <linux/rtnetlink.h>."""
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def index_of_name(name: str) -> int | None:
    """Return the index of the interface with this name or alternative name; None if there is none now.

    Needs netlink only for a name that is longer than MAX_NAME. Raises ValueError for a text that is no name of a file
    system object, OSError.
    """
    try:
        return socket.if_nametoindex(name)  # it finds short alternative names too
    except OSError:
        if not MAX_NAME < len(os.fsencode(name)) <= MAX_ALTERNATIVE_NAME:
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
    """Return whether an interface has this index now."""
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


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
