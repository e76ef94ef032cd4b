"""The interfaces of this machine with their names and addresses, as the kernel lists them (rtnetlink(7)).

Each answer of the kernel is a row of messages, and each message a fixed part and a row of attributes. All numbers are
in the machine's byte order.

    message    length u32 | type u16 | flags u16 | sequence number u32 | port u32 | fixed part | attributes
    attribute  length u16 with these four bytes | type u16 | value, and zeros up to a multiple of four bytes
    interface  family u8 | zero u8 | hardware u16 | index i32 | flags u32 | changed flags u32
    address    family u8 | prefix length u8 | flags u8 | scope u8 | index u32
    error      errno i32, negative

The name of an interface is bytes, not text: the kernel allows every byte but NUL, "/", ":" and white space.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Final

MAX_INTERFACES: Final = 4096
MAX_ADDRESSES: Final = 16384
"""Interfaces and addresses of this machine that are read. A machine with more is used with the first of them."""

_READ_SIZE: Final = 1 << 17
"""Bytes. A message of the kernel has at most 32 KiB, or what one interface needs if that is more."""

_ATTEMPTS: Final = 3
"""The list is read so often if it changes meanwhile."""
_PATIENCE: Final = 2.0
"""Seconds. The kernel answers at once, except while another program changes many interfaces."""
_MESSAGE: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_INTERFACE: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_NUMBER: Final = struct.Struct("=i")

_GET_LINK, _GET_ADDRESS, _NEW_LINK, _NEW_ADDRESS = 18, 22, 16, 20
_ERROR, _DONE = 2, 3
_REQUEST_DUMP, _DUMP_INTERRUPTED = 0x301, 0x10
_NAME, _MASTER, _KIND_OF_LINK, _EXTENT, _ALTNAMES = 3, 10, 18, 29, 52
_KIND, _ALTNAME = 1, 53
_PEER, _LOCAL, _ADDRESS_FLAGS = 1, 2, 8
_TYPE_BITS, _WITHOUT_STATISTICS = 0x3FFF, 8
_UP, _LOOPBACK = 0x1, 0x8
_TEMPORARY, _OPTIMISTIC, _FAILED, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40
"""Constants of <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if.h> and <linux/if_addr.h>."""

type Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
type Attributes = dict[int, list[bytes]]


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
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
        kernel.settimeout(_PATIENCE)
        for _ in range(_ATTEMPTS):
            links, is_whole = _dump(kernel, _GET_LINK, _NEW_LINK, MAX_INTERFACES)
            rows, are_whole = _dump(kernel, _GET_ADDRESS, _NEW_ADDRESS, MAX_ADDRESSES)
            if is_whole and are_whole:
                break
    try:
        addresses: defaultdict[int, list[OwnAddress]] = defaultdict(list)
        for row in rows:
            _add_address(row, addresses)
        return tuple(sorted((_interface(link, addresses) for link in links), key=lambda i: i.index))
    except (struct.error, ValueError) as error:
        raise OSError(errno.EBADMSG, f"the kernel's list of interfaces: {error}") from None


def _dump(kernel: socket.socket, request: int, wanted: int, most: int) -> tuple[list[bytes], bool]:
    """Return the fixed part and the attributes of each message, and whether the list did not change meanwhile."""
    body = bytes(_ADDRESS.size)
    if request == _GET_LINK:
        body = bytes(_INTERFACE.size) + _ATTRIBUTE.pack(8, _EXTENT) + _NUMBER.pack(_WITHOUT_STATISTICS)
    kernel.send(_MESSAGE.pack(_MESSAGE.size + len(body), request, _REQUEST_DUMP, 0, 0) + body)
    found: list[bytes] = []
    is_whole = True
    while True:
        answer, _, flags, source = kernel.recvmsg(_READ_SIZE)
        if source[0] != 0:
            continue  # not of the kernel
        if flags & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, "the kernel's list of interfaces is too long")
        at = 0
        while at + _MESSAGE.size <= len(answer):
            length, kind, marks, _, _ = _MESSAGE.unpack_from(answer, at)
            content = answer[at + _MESSAGE.size : at + length]
            at += max(_MESSAGE.size, length + 3 & ~3)
            is_whole = is_whole and not marks & _DUMP_INTERRUPTED
            if kind == _DONE:
                return found, is_whole
            if kind == _ERROR:
                number = -_NUMBER.unpack_from(content)[0]
                raise OSError(number, os.strerror(number))
            if kind == wanted and len(found) < most:
                found.append(content)


def _attributes(content: bytes, at: int) -> Attributes:
    """Return the values by type. An interface has about 50 of them, so this loop is short."""
    found: Attributes = defaultdict(list)
    read, last = _ATTRIBUTE.unpack_from, len(content) - _ATTRIBUTE.size
    while at <= last:
        length, kind = read(content, at)
        found[kind & _TYPE_BITS].append(content[at + 4 : at + length])
        at += (length + 3 & ~3) or 4
    return found


def _interface(link: bytes, addresses: dict[int, list[OwnAddress]]) -> Interface:
    _, _, index, flags, _ = _INTERFACE.unpack_from(link)
    parts = _attributes(link, _INTERFACE.size)
    kinds = [kind for nested in parts[_KIND_OF_LINK] for kind in _attributes(nested, 0)[_KIND]]
    altnames = (name for nested in parts[_ALTNAMES] for name in _attributes(nested, 0)[_ALTNAME])
    return Interface(
        index=index,
        name=b"".join(parts[_NAME][:1]).rstrip(b"\0"),
        altnames=tuple(name.rstrip(b"\0") for name in altnames),
        kind=b"".join(kinds[:1]).rstrip(b"\0").decode("ascii", "replace"),
        master=_NUMBER.unpack(parts[_MASTER][0])[0] if _MASTER in parts else 0,
        flags=flags,
        addresses=tuple(addresses.get(index, ())),
    )


def _add_address(row: bytes, addresses: defaultdict[int, list[OwnAddress]]) -> None:
    family, prefix_length, flags, _, index = _ADDRESS.unpack_from(row)
    parts = _attributes(row, _ADDRESS.size)
    given = parts[_LOCAL] or parts[_PEER]
    if family not in (socket.AF_INET, socket.AF_INET6) or not given:
        return
    ip = ipaddress.ip_address(given[0])
    peer = ipaddress.ip_address(parts[_PEER][0]) if parts[_PEER] else ip
    if parts[_ADDRESS_FLAGS]:
        flags = _NUMBER.unpack(parts[_ADDRESS_FLAGS][0])[0]
    addresses[index].append(OwnAddress(ip, peer, prefix_length, flags))
