"""Finds the interfaces and addresses of this machine that a node uses. The operator names them or their addresses."""

import ipaddress
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import ifaddr

from pskkey.wire.fields import MAX_ADDRESSES

_IPV6_ADDRESSES: Final = Path("/proc/net/if_inet6")
"""proc_pid_net(5): address, interface index, prefix length, scope and flags, all in hex, and the interface's name."""

_TENTATIVE: Final = 0x40
_FAILED: Final = 0x08
_OPTIMISTIC: Final = 0x04
"""IFA_F_* of <linux/if_addr.h>."""

type _Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Network:
    """Where mDNS runs and where we can be reached.

    `multicast` are the interfaces in python-zeroconf's form: an IPv4 address of each, and the index of each with IPv6.
    `addresses` are those that other machines can connect to: without IPv6 link-local ones, which need a scope, and no
    more than a node may announce. `left_out` are the others. `indexes` are those of the interfaces: an interface that
    was removed and made again has another index. `there` are the names of all interfaces of the machine.
    """

    multicast: tuple[str | int, ...] = ()
    addresses: tuple[str, ...] = ()
    indexes: tuple[int, ...] = ()
    left_out: tuple[str, ...] = field(default=(), compare=False)
    there: tuple[str, ...] = field(default=(), compare=False)


def look_up(names: Sequence[str], ip: Literal["both", "v4", "v6"]) -> Network:
    """Find the interfaces in `names` (interface names or IP addresses of this machine); none given: all but loopback.

    An interface or address that is not there now is left out: it may come later. An IPv6 address is also left out
    while the kernel checks whether another machine has it (RFC 4862 section 5.4), because nothing can be sent from it.
    Raises OSError.
    """
    multicast: list[str | int] = []
    indexes: list[int] = []
    addresses: dict[str, tuple[int, int]] = {}  # with its rank
    joined: set[int] = set()
    pending, failed = _unusable()
    adapters = sorted(ifaddr.get_adapters(), key=lambda a: a.index or 0)
    for adapter in adapters:
        chosen_whole = adapter.name in names
        index = adapter.index or 0
        of_this = 0
        for found in adapter.ips:
            address = ipaddress.ip_address(found.ip if isinstance(found.ip, str) else found.ip[0])
            named = str(address) in names
            if not (chosen_whole or named or (not names and not address.is_loopback)):
                continue
            if (address.version == 4 and ip == "v6") or (address.version == 6 and ip == "v4"):
                continue
            if address in failed[index] or address in pending[index]:
                continue
            if index not in indexes:
                indexes.append(index)
            if address.version == 4:
                # One address of each interface: the multicast group can be joined only once there.
                if index not in joined:
                    multicast.append(str(address))
                    joined.add(index)
            # python-zeroconf sends from an IPv6 address of its choice, so all of the interface must be usable.
            elif index and index not in multicast and not pending[index]:
                multicast.append(index)
            if not (address.version == 6 and address.is_link_local) and str(address) not in addresses:
                addresses[str(address)] = (_rank(address, named), of_this)
                of_this += 1
    # If there are too many: first the named addresses, then one of each interface, then a second one, and so on.
    best = sorted(addresses, key=lambda text: addresses[text])[:MAX_ADDRESSES]
    return Network(
        tuple(multicast),
        tuple(text for text in addresses if text in best),
        tuple(indexes),
        tuple(text for text in addresses if text not in best),
        tuple(adapter.name for adapter in adapters),
    )


def _rank(address: _Address, named: bool) -> int:
    if named:
        return 0
    return 2 if address.is_link_local or address.is_loopback else 1


def _unusable() -> tuple[defaultdict[int, set[_Address]], defaultdict[int, set[_Address]]]:
    """Return the IPv6 addresses that are still being checked, and those that another machine has, by interface."""
    pending: defaultdict[int, set[_Address]] = defaultdict(set)
    failed: defaultdict[int, set[_Address]] = defaultdict(set)
    try:
        lines = _IPV6_ADDRESSES.read_text("ascii").splitlines()
    except FileNotFoundError:  # a kernel without IPv6
        return pending, failed
    for line in lines:
        digits, index, _, _, flags, *_ = line.split()
        address = ipaddress.IPv6Address(int(digits, 16))
        if int(flags, 16) & _FAILED:
            failed[int(index, 16)].add(address)
        elif int(flags, 16) & _TENTATIVE and not int(flags, 16) & _OPTIMISTIC:
            pending[int(index, 16)].add(address)
    return pending, failed
