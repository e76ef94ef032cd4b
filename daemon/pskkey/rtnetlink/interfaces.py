"""The interfaces of this machine with their names and addresses, as the kernel lists them.

The name of an interface is bytes, not text: the kernel allows every byte but NUL, "/", ":" and white space.
"""

import ipaddress
import socket
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pskkey.rtnetlink import messages
from pskkey.rtnetlink.questions import ask

MAX_NAME: Final = 15
"""Bytes in the name of an interface: IFNAMSIZ of <linux/if.h> without its final zero."""
MAX_ALTERNATIVE_NAME: Final = 127
"""Bytes in an alternative name (`altname` of ip-link(8)): ALTIFNAMSIZ without its final zero."""
MAX_INDEX: Final = 2**31 - 1
"""The kernel numbers interfaces with a positive `int`."""

MAX_INTERFACES: Final = 4096
MAX_ADDRESSES: Final = 16384
"""Interfaces and addresses of this machine that are read. A machine with more is used with the first of them."""

_NAME, _MASTER, _KIND_OF_LINK, _EXTENT, _ALTNAMES = 3, 10, 18, 29, 52
_KIND, _ALTNAME = 1, 53
_PEER, _LOCAL, _ADDRESS_FLAGS = 1, 2, 8
_WITHOUT_STATISTICS: Final = (8).to_bytes(4, sys.byteorder)
_UP, _RUNNING = 0x1, 0x40
_TEMPORARY, _OPTIMISTIC, _FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
"""Constants of <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if.h> and <linux/if_addr.h>."""
_SIZES: Final = {socket.AF_INET: 4, socket.AF_INET6: 16}
"""Bytes of an address."""

type Ip = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class OwnAddress:
    """An address of an interface. `peer` is the other end of a point-to-point link, otherwise the address itself."""

    ip: Ip
    peer: Ip
    prefix_length: int
    flags: int

    @cached_property
    def network(self) -> str:
        """The network that is directly reachable here, such as "192.0.2.0/24"."""
        return str(ipaddress.ip_network((self.peer, self.prefix_length), strict=False))

    @property
    def is_usable(self) -> bool:
        """Whether packets can be sent from here.

        Not while the kernel checks whether another machine has this IPv6 address (RFC 4862 section 5.4), nor when
        another machine has it.
        """
        return not self.flags & _FAILED and (not self.flags & _TENTATIVE or bool(self.flags & _OPTIMISTIC))

    @property
    def is_passing(self) -> bool:
        """Whether the address is replaced soon, or was already: a temporary or deprecated one (RFC 8981)."""
        # The same bit marks every further IPv4 address of a network, which is as good as the first one.
        return bool(self.flags & (_DEPRECATED if self.ip.version == 4 else _DEPRECATED | _TEMPORARY))


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface. `kind` is that of a virtual one, such as "bridge"; `master` is the index of its bridge or bond."""

    index: int
    name: bytes
    altnames: tuple[bytes, ...]
    kind: str
    master: int
    flags: int
    addresses: tuple[OwnAddress, ...]

    @property
    def is_up(self) -> bool:
        """Whether the operator lets it work; also without a cable."""
        return bool(self.flags & _UP)

    @property
    def has_link(self) -> bool:
        """Whether its cable, or what takes the place of one, is connected."""
        return bool(self.flags & _RUNNING)

    @property
    def label(self) -> str:
        """The name for a log or a terminal."""
        text = self.name.decode(errors="backslashreplace")
        return text if text.isprintable() else ascii(text)[1:-1]

    def is_called(self, name: str) -> bool:
        """Whether `name` is its name or one of its alternative names."""
        wanted = name.encode(errors="surrogateescape")
        return wanted == self.name or wanted in self.altnames


def list_interfaces() -> tuple[Interface, ...]:
    """Return the interfaces of this machine in the order of their indexes. Raises OSError."""
    question = bytes(messages.LINK.size) + messages.attribute(_EXTENT, _WITHOUT_STATISTICS)
    links = ask(messages.GET_LINK, question, MAX_INTERFACES)
    addresses = list_addresses()
    return tuple(sorted((_interface(link, addresses) for link in links), key=lambda each: each.index))


def list_addresses() -> dict[int, list[OwnAddress]]:
    """Return the addresses of this machine by the index of their interface. Raises OSError."""
    found = defaultdict(list)
    for row in ask(messages.GET_ADDRESS, bytes(messages.ADDRESS.size), MAX_ADDRESSES):
        (family, prefix_length, flags, _, index), parts = messages.read_payload(messages.ADDRESS, row)
        ends = parts[_LOCAL] + parts[_PEER]  # the kernel gives one or both
        if {len(end) for end in ends} != {_SIZES.get(family)}:
            continue
        if parts[_ADDRESS_FLAGS]:
            flags = messages.read_number(parts[_ADDRESS_FLAGS][0])
        ip, peer = ipaddress.ip_address(ends[0]), ipaddress.ip_address(ends[-1])
        found[index].append(OwnAddress(ip, peer, prefix_length, flags))
    return found


def _interface(link: bytes, addresses: dict[int, list[OwnAddress]]) -> Interface:
    (_, _, index, flags, _), parts = messages.read_payload(messages.LINK, link)
    kinds = [kind for nested in parts[_KIND_OF_LINK] for kind in messages.read_attributes(nested)[_KIND]]
    altnames = (name for nested in parts[_ALTNAMES] for name in messages.read_attributes(nested)[_ALTNAME])
    return Interface(
        index=index,
        name=b"".join(parts[_NAME][:1]).rstrip(b"\0"),
        altnames=tuple(name.rstrip(b"\0") for name in altnames),
        kind=b"".join(kinds[:1]).rstrip(b"\0").decode("ascii", "replace"),
        master=messages.read_number(b"".join(parts[_MASTER][:1])),
        flags=flags,
        addresses=tuple(addresses.get(index, ())),
    )
