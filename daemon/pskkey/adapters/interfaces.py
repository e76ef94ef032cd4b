"""The interfaces and addresses of this machine that a node uses, by name or address as the operator wrote them."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import ifaddr


@dataclass(frozen=True, slots=True)
class Network:
    """Where mDNS runs and where we can be reached.

    `multicast` is what python-zeroconf takes as interfaces: IPv4 addresses, and the indexes of those with IPv6.
    `addresses` are those that other machines can connect to: no IPv6 link-local ones, which need a scope.
    """

    multicast: tuple[str | int, ...]
    addresses: tuple[str, ...]


def look_up(names: Sequence[str], ip: Literal["both", "v4", "v6"]) -> Network:
    """Find the interfaces in `names` (interface names or IP addresses of this machine); none given: all but loopback.

    What is not there at this moment is left out: it may come later.
    """
    multicast: list[str | int] = []
    addresses: list[str] = []
    for adapter in sorted(ifaddr.get_adapters(), key=lambda a: a.index or 0):
        chosen_whole = adapter.name in names
        for found in adapter.ips:
            address = ipaddress.ip_address(found.ip if isinstance(found.ip, str) else found.ip[0])
            chosen = chosen_whole or str(address) in names
            if not (chosen or (not names and not address.is_loopback)):
                continue
            if (address.version == 4 and ip == "v6") or (address.version == 6 and ip == "v4"):
                continue
            here = str(address) if address.version == 4 else adapter.index
            if here is not None and here not in multicast:
                multicast.append(here)
            if not (address.version == 6 and address.is_link_local):
                addresses.append(str(address))
    return Network(tuple(multicast), tuple(addresses))
