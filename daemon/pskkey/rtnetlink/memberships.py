"""The multicast groups that the kernel receives on an interface, as proc_pid_net(5) lists them."""

import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

_IPV4: Final = Path("/proc/thread-self/net/igmp")
_IPV6: Final = Path("/proc/thread-self/net/igmp6")


def list_receiving(group: IPv4Address | IPv6Address) -> set[int]:
    """Return the indexes of the interfaces on which the kernel receives the group, for any program. Raises OSError.

    A program can be deaf although the group is received, but it is deaf if the group is not.
    """
    if isinstance(group, IPv4Address):
        return set(_list_receiving_ipv4(group))
    # Index, name, group in hex, users...
    wanted = [group.packed.hex().encode()]
    rows = (line.split() for line in _IPV6.read_bytes().splitlines())
    return {int(row[0]) for row in rows if row[2:3] == wanted}


def _list_receiving_ipv4(group: IPv4Address) -> Iterator[int]:
    # A line with the index of an interface begins the indented lines of its groups: hex as in memory, users...
    wanted = b"%08X" % int.from_bytes(group.packed, sys.byteorder)
    index = b""
    for line in _IPV4.read_bytes().splitlines():
        first = line.split(maxsplit=1)[0]
        if not line.startswith(b"\t"):
            index = first
        elif first == wanted:
            yield int(index)
