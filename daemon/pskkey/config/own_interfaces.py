"""The interfaces and addresses of this machine that `[network] interfaces` means.

An entry is a name of an interface, an alternative name (ip-link(8), "property"), or an IP address. A link-local
address may have a zone: a name or the index of its interface. Without a zone it means each interface that has it.
"""

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Final

from pskkey.rtnetlink.interfaces import Interface, Ip, list_interfaces
from pskkey.rtnetlink.socket_address import find_socket_address

MAX_NAMED: Final = 20
"""Interfaces of this machine that a sentence names; a machine with containers has hundreds."""

NO_SUCH_ADDRESS: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV})
"""The errors of `bind` for an address that this machine does not have. ENODEV: there is no interface of this index."""


class Entry:
    """One entry of `[network] interfaces`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._ip: Ip | None = None
        self._zone: str | None = None
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            return
        self._ip = ip
        if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
            self._ip, self._zone = ipaddress.IPv6Address(int(ip)), ip.scope_id

    def means_all_of(self, interface: Interface) -> bool:
        """Whether it means the interface with all its addresses."""
        return self._ip is None and interface.is_called(self.text)

    def means(self, ip: Ip, interface: Interface) -> bool:
        """Whether it means this address of this interface by its address."""
        if ip != self._ip:
            return False
        return self._zone is None or interface.is_called(self._zone) or self._zone == str(interface.index)

    def is_here(self, interfaces: Sequence[Interface]) -> bool:
        """Whether one of the interfaces has this name or address."""
        return any(
            self.means_all_of(interface) or any(self.means(address.ip, interface) for address in interface.addresses)
            for interface in interfaces
        )


def find_missing(names: Sequence[str], interfaces: Sequence[Interface]) -> tuple[str, ...]:
    """Return the `names`, entries of `[network] interfaces`, that none of these interfaces has, in their order."""
    return tuple(name for name in names if not Entry(name).is_here(interfaces))


def missing_interfaces(names: Sequence[str]) -> tuple[str, ...]:
    """Return the entries of `[network] interfaces` that this machine does not have; none if that is not known."""
    there = _listed() if names else ()
    return find_missing(names, there) if there else ()


def is_own_address(address: str) -> bool:
    """Return whether this machine has an address of `[network] addresses` now; True also if that is not known."""
    try:
        family, place = find_socket_address(address, 0)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(place)
    except OSError as error:
        return error.errno not in NO_SUCH_ADDRESS
    return True


def list_labels() -> list[str]:
    """Return the names of all interfaces of this machine; none if the kernel does not list them."""
    return [interface.label for interface in _listed()]


def describe_missing(missing: Sequence[str], there: Sequence[str]) -> str:
    """Return the sentence for the operator about interfaces that are missing, and those that are `there`."""
    more = f" and {len(there) - MAX_NAMED} more" if len(there) > MAX_NAMED else ""
    has = (", ".join(there[:MAX_NAMED]) or "none that can be listed") + more
    return f"[network] interfaces: this machine has no {' and no '.join(missing)} now; it has {has}"


def _listed() -> Sequence[Interface]:
    try:
        return list_interfaces()
    except OSError:
        return ()
