"""The interface of a multicast group. A program may call it by several names; each means the index that it has now.

    the text             the interface
    a name               the one with this name or alternative name, as long as 127 bytes
    digits               the one with this index, unless a name is written so
    an IP address        one that has this address
    fe80::1%ZONE         ZONE, which is one of the above, if it has this address
    ff02::1%ZONE         ZONE: a group has a zone, too
    no text              the one that the routing table chooses for the group

An index belongs to one life of an interface: an interface that was removed and made anew has another one.
"""

import os
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from pskkey.errors import ConfigError, Unreachable
from pskkey.rtnetlink.interfaces import MAX_ALTERNATIVE_NAME
from pskkey.rtnetlink.queries import index_of_route, index_of_zone, indexes_of_address
from pskkey.rtnetlink.questions import NoNetlink

MAX_NAMED: Final = 20
"""Interfaces of this machine that a sentence names; a machine with containers has hundreds."""

_NO_ADDRESS: Final = IPv4Address(0)


class ContradictoryInterfaces(ConfigError):
    """The zone of the group and the argument `interface` mean two interfaces."""


@dataclass(frozen=True, slots=True)
class Place:
    """An interface as the kernel takes it.

    `index` 0 leaves the choice to the kernel. `local`: the IPv4 address to send from, 0.0.0.0 for any. `is_chosen`:
    whether the program chose the interface; else each datagram goes by the routing table.
    """

    index: int
    local: IPv4Address = _NO_ADDRESS
    is_chosen: bool = False


def parse_group(group: str) -> tuple[IPv4Address | IPv6Address, str | None]:
    """Return the address of a multicast group, and its zone. Raises ConfigError."""
    text, percent, zone = group.partition("%")
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if address is None or not address.is_multicast:
        raise ConfigError(
            f"group: {group!r} is no multicast address; allowed are 224.0.0.0 to 239.255.255.255 and ff00::/8"
        )
    return address, zone if percent else None


class MeantInterface:
    """The interface that `group` and `interface` mean. Raises ConfigError for a text that can mean none."""

    def __init__(self, group: str, interface: str | None) -> None:
        self._group, zone = parse_group(group)
        self._texts: dict[str, str] = {}
        for argument, text in (("group", zone), ("interface", interface)):
            if text is not None:
                _check_text(argument, text)
                self._texts[argument] = text
        if not self._texts and self._group.version == 6 and self._group.packed[1] & 0xF in (1, 2):
            raise ConfigError(f"group: {group} is a group of one link; name its interface, as in {group}%eth0")
        self._local = _NO_ADDRESS
        address, _ = _split_address(interface or "")
        if isinstance(address, IPv4Address) and self._group.version == 4:
            self._local = address

    @property
    def is_chosen(self) -> bool:
        """Whether the program names an interface."""
        return bool(self._texts)

    def __str__(self) -> str:
        if not self._texts:
            return "the default interface"
        return f"interface {self._texts.get('interface', self._texts.get('group'))!r}"

    def find(self, current: int = 0) -> Place | None:
        """Return where the interface is now; None if it is not there.

        `current`: the index to prefer if several interfaces are meant. Raises OSError.
        """
        if not self._texts:
            return self._find_default()
        found = []
        for text in self._texts.values():
            try:
                found.append(_indexes_of(text))
            except NoNetlink:
                if self._local == _NO_ADDRESS:
                    return None
        if not found:  # the kernel itself finds the interface of an IPv4 address
            return Place(0, self._local, is_chosen=True)
        common = set.intersection(*found)
        if not common:
            return None
        return Place(current if current in common else min(common), self._local, is_chosen=True)

    def check(self) -> None:
        """Raise ContradictoryInterfaces, or ConfigError or Unreachable if the interface is not there now."""
        self.check_agreement()
        try:
            place = self.find()
        except OSError as error:
            raise Unreachable(f"cannot look for {self}: {error.strerror}") from error
        if place is None:
            why = self.describe_absence()
            raise ConfigError(f"interface: {why}") if self._texts else Unreachable(why)

    def check_agreement(self) -> None:
        """Raise ContradictoryInterfaces if the zone of the group is not the interface. One may be missing now."""
        if len(self._texts) < 2:
            return
        try:
            by_zone, by_name = (_indexes_of(text) for text in self._texts.values())
        except OSError:
            return
        if by_zone and by_name and not by_zone & by_name:
            zone, name = self._texts.values()
            raise ContradictoryInterfaces(
                f"the zone of the group means the interface {zone!r}, and interface means {name!r}; leave one out"
            )

    def describe_absence(self) -> str:
        """Return the sentence for the operator about an interface that is not there now."""
        for text in self._texts.values():
            try:
                missing = not _indexes_of(text)
            except OSError as error:
                return f"cannot look for {text!r}: {error.strerror}"
            if missing and _split_address(text)[0] is not None:
                return f"no interface of this host has the address {text!r} now"
            if missing:
                return f"{text!r} is no interface of this host now; it has {_name_interfaces()}"
        if self._texts:
            return f"the zone of the group and {self} mean two interfaces now"
        return f"there is no route to {self._group} now"

    def _find_default(self) -> Place | None:
        try:
            index = index_of_route(self._group)
        except NoNetlink:
            index = 0
        return None if index is None else Place(index)


def _check_text(argument: str, text: str) -> None:
    address, zone = _split_address(text)
    if address is not None and zone is None:
        return
    name = text if zone is None else zone
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= MAX_ALTERNATIVE_NAME or "\0" in name:
        raise ConfigError(
            f"{argument}: {text[:MAX_ALTERNATIVE_NAME]!r} cannot be an interface; allowed are a name of up to "
            f"{MAX_ALTERNATIVE_NAME} bytes, an index, or an address"
        )


def _split_address(text: str) -> tuple[IPv4Address | IPv6Address | None, str | None]:
    """Return the address and the zone in a text; no address if the text is a name."""
    before, percent, zone = text.partition("%")
    try:
        return ip_address(before), zone if percent else None
    except ValueError:
        return None, None


def _indexes_of(text: str) -> set[int]:
    """Return the indexes of the interfaces that a text means now. Raises OSError."""
    address, zone = _split_address(text)
    if address is None:
        return _indexes_of_name(text)
    indexes = indexes_of_address(address)
    return indexes if zone is None else indexes & _indexes_of_name(zone)


def _indexes_of_name(name: str) -> set[int]:
    index = index_of_zone(name)
    return set() if index is None else {index}


def _name_interfaces() -> str:
    try:
        names = [ascii(name)[1:-1] for _, name in socket.if_nameindex()]
    except OSError:
        return "others"
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
