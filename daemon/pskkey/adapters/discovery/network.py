"""Finds the interfaces and addresses of this machine that a node uses. The operator names them or their addresses."""

import ipaddress
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, auto
from typing import Final, Literal

from pskkey.config.own_interfaces import Entry, find_missing
from pskkey.rtnetlink.interfaces import Interface, Ip, OwnAddress, list_interfaces
from pskkey.wire.fields import MAX_ADDRESSES

MAX_PREFIXES: Final = 64

MAX_MULTICAST: Final = 128
"""Interfaces on which mDNS runs. Each needs a socket for each IP version, and a datagram for each announcement."""

_INNER_KINDS: Final = frozenset({"bridge", "dummy", "ifb", "openvswitch", "tun", "veth"})
"""The kinds of interfaces that usually lead to containers and virtual machines of this machine."""

_ELSEWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses that no machine has (RFC 5737, RFC 3849), so the default route leads there."""


class _Class(IntEnum):
    """How likely other nodes can connect to an address. The best class is first."""

    LASTING = auto()
    PASSING = auto()
    """A temporary or deprecated IPv6 address."""
    LINK_LOCAL = auto()
    """An IPv4 address of RFC 3927."""
    INNER = auto()
    LOOPBACK = auto()


@dataclass(frozen=True, slots=True)
class MulticastInterface:
    """An interface for mDNS, and the address that mDNS sends from with each IP version; None: not with this one."""

    index: int
    label: str
    ipv4: str | None
    ipv6: str | None


@dataclass(frozen=True, slots=True)
class Network:
    """Where mDNS runs and where we can be reached.

    `addresses` are those that we announce, the best first: without IPv6 link-local ones, which need a zone, and no more
    than a node may announce. `left_out` are the others. `prefixes` are the networks of all of them, such as
    "192.0.2.0/24", at most MAX_PREFIXES. `there` are the names of all interfaces of the machine, `missing` the
    entries of `[network] interfaces` that it does not have, and `without_mdns` the interfaces beyond MAX_MULTICAST.
    `inner` are the indexes of the interfaces for containers.
    """

    multicast: tuple[MulticastInterface, ...] = ()
    addresses: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = field(default=(), compare=False)
    there: tuple[str, ...] = field(default=(), compare=False)
    missing: tuple[str, ...] = field(default=(), compare=False)
    without_mdns: tuple[str, ...] = field(default=(), compare=False)
    inner: frozenset[int] = field(default=frozenset(), compare=False)


@dataclass(frozen=True, slots=True)
class _Found:
    """An address that the node uses."""

    interface: Interface
    address: OwnAddress
    is_named: bool


def look_up(names: Sequence[str], ip: Literal["both", "v4", "v6"]) -> Network:
    """Find the interfaces that `names` means (`config.own_interfaces`); none given: all but loopback.

    An interface or address that is not there now, or not up, is left out: it may come later. Raises OSError.

    It waits while the kernel changes the interfaces of any namespace, which can take seconds. So call it in a thread.
    """
    entries = [Entry(name) for name in names]
    versions = {"both": (4, 6), "v4": (4,), "v6": (6,)}[ip]
    interfaces = list_interfaces()
    found = [
        used
        for interface in interfaces
        if interface.is_up
        for used in _used_addresses(interface, entries)
        if used.address.ip.version in versions
    ]
    routed, inner = _routed_and_inner(interfaces)
    ordered = _by_preference([used for used in found if not _needs_zone(used.address)], routed, inner)
    texts = list(dict.fromkeys(str(used.address.ip) for used in ordered))
    usable = sorted(_multicast_interfaces(found), key=lambda each: (each.index in inner, each.index not in routed))
    return Network(
        # In the order of the indexes, so that a new default route alone is no new network.
        multicast=tuple(sorted(usable[:MAX_MULTICAST], key=lambda each: each.index)),
        addresses=tuple(texts[:MAX_ADDRESSES]),
        prefixes=_prefixes(ordered),
        left_out=tuple(texts[MAX_ADDRESSES:]),
        there=tuple(interface.label + ("" if interface.is_up else " (down)") for interface in interfaces),
        missing=find_missing(names, interfaces),
        without_mdns=tuple(each.label for each in usable[MAX_MULTICAST:]),
        inner=frozenset(inner),
    )


def _prefixes(found: Sequence[_Found]) -> tuple[str, ...]:
    prefixes: dict[str, None] = {}
    for used in found:
        prefixes[used.address.network] = None
        if len(prefixes) == MAX_PREFIXES:
            break
    return tuple(prefixes)


def _used_addresses(interface: Interface, entries: Sequence[Entry]) -> list[_Found]:
    is_whole = any(entry.means_all_of(interface) for entry in entries)
    found = []
    for address in interface.addresses:
        is_named = any(entry.means(address.ip, interface) for entry in entries)
        is_used = is_whole or is_named or (not entries and not address.ip.is_loopback)
        if is_used and address.is_usable:
            found.append(_Found(interface, address, is_named))
    return found


def _needs_zone(address: OwnAddress) -> bool:
    return address.ip.version == 6 and address.ip.is_link_local


def _multicast_interfaces(found: Sequence[_Found]) -> list[MulticastInterface]:
    """Return each interface with its first IPv4 address and its first IPv6 address.

    Link-local IPv6 addresses come first, because every node on the link can answer to them.
    """
    v4: dict[int, str] = {}
    v6: dict[int, str] = {}
    for used in sorted(found, key=lambda used: not _needs_zone(used.address)):
        of_version = v4 if used.address.ip.version == 4 else v6
        of_version.setdefault(used.interface.index, str(used.address.ip))
    interfaces = {used.interface.index: used.interface for used in found}
    return [MulticastInterface(i, it.label, v4.get(i), v6.get(i)) for i, it in interfaces.items()]


def _by_preference(found: Sequence[_Found], routed: set[int], inner: set[int]) -> list[_Found]:
    """Return the addresses in the order in which other nodes should try them.

    First come the addresses that the operator has named. Then come the classes of `_Class`. In each class come first
    one address of each interface and IP version, then a second one, and so on. Among these the interface of the default
    route is first.
    """
    number: Counter[tuple[int, int, _Class]] = Counter()
    keys = []
    for place, used in enumerate(found):
        index, rank = used.interface.index, _class_of(used, inner)
        kind = (index, used.address.ip.version, rank)
        keys.append((not used.is_named, rank, number[kind], index not in routed, place))
        number[kind] += 1
    return [found[place] for *_, place in sorted(keys)]


def _class_of(used: _Found, inner: set[int]) -> _Class:
    if used.address.ip.is_loopback:
        return _Class.LOOPBACK
    if used.interface.index in inner:
        return _Class.INNER
    if used.address.ip.is_link_local:
        return _Class.LINK_LOCAL
    return _Class.PASSING if used.address.is_passing else _Class.LASTING


def _routed_and_inner(interfaces: Sequence[Interface]) -> tuple[set[int], set[int]]:
    """Return the indexes of the interfaces of the default routes, and of those for containers.

    A bridge with a port to the outside is not for containers, nor is an interface of the default route.
    """
    sources = {source for family in _ELSEWHERE if (source := _source_of_default_route(family)) is not None}
    routed = {each.index for each in interfaces if any(address.ip in sources for address in each.addresses)}
    outward = {each.master for each in interfaces if each.kind not in _INNER_KINDS}
    inner = {each.index for each in interfaces if each.kind in _INNER_KINDS and each.index not in outward}
    return routed, inner - routed


def _source_of_default_route(family: socket.AddressFamily) -> Ip | None:
    """Return the address from which the kernel sends to an unknown network. Nothing is sent."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_ELSEWHERE[family], 9))
            return ipaddress.ip_address(probe.getsockname()[0])
    except OSError:  # no default route
        return None
