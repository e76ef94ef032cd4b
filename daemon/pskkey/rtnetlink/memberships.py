"""The multicast groups that the kernel receives on an interface, as proc_pid_net(5) lists them."""

import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

_IPV4: Final = Path("/proc/thread-self/net/igmp")
_IPV6: Final = Path("/proc/thread-self/net/igmp6")


def is_received(group: IPv4Address | IPv6Address, index: int) -> bool:
    """Return whether the kernel receives the group there, for any program. Raises OSError.

    A program can be deaf although the group is received, but it is deaf if the group is not.
    """
    if isinstance(group, IPv4Address):
        return _is_received_ipv4(group, index)
    # Index, name, group in hex, users...
    wanted = [b"%d" % index, group.packed.hex().encode()]
    return any(line.split()[0:3:2] == wanted for line in _IPV6.read_bytes().splitlines())


def _is_received_ipv4(group: IPv4Address, index: int) -> bool:
    # A line with the index of an interface begins the indented lines of its groups: hex as in memory, users...
    wanted = b"%08X" % int.from_bytes(group.packed, sys.byteorder)
    here = False
    for line in _IPV4.read_bytes().splitlines():
        fields = line.split()
        if not line.startswith(b"\t"):
            here = fields[0] == b"%d" % index
        elif here and fields[0] == wanted:
            return True
    return False
