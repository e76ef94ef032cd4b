"""The forms of interfaces and addresses in the configuration. Each form that is refused has a reason of its own.

A link-local IPv6 address may carry its zone (RFC 4007 section 11): `fe80::a%eth0` or `fe80::a%2`. The zone stays in the
value as it stands in the file.
"""

import ipaddress
from collections.abc import Iterable

from pskkey.rtnetlink.interfaces import MAX_ALTERNATIVE_NAME, MAX_INDEX, Ip
from pskkey.rtnetlink.queries import index_of_zone


def parse_interface(text: str) -> str:
    """Return a name of an interface, or the canonical form of one of its addresses. Raises ValueError."""
    if (address := _address(text)) is None:
        name, colon, _ = text.partition(":")
        if colon and text.count(":") == 1 and _is_name(name):
            raise ValueError(f'is the label of an address; write "{name}", or the address')
        if not _is_name(text):
            raise ValueError("is no interface name and no IP address")
        return text
    if address.is_unspecified or address.is_multicast:
        raise ValueError("is not an address that an interface has")
    return str(address)


def parse_host_address(text: str) -> str:
    """Return the canonical form of an address that can be listened on. Raises ValueError."""
    if (address := _address(text)) is None:
        raise ValueError("is not an IP address")
    if address.is_unspecified or address.is_multicast:
        raise ValueError("is not an address that others could connect to")
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local and address.scope_id is None:
        raise ValueError(f'is link-local, so it needs its interface, as in "{address}%eth0"')
    return str(address)


def find_excluded(names: Iterable[str], ip: str) -> str | None:
    """Return the first address in `names` that [network] ip ("both", "v4" or "v6") excludes."""
    for name in names:
        try:
            version = ipaddress.ip_address(name).version
        except ValueError:
            continue
        if ip not in ("both", f"v{version}"):
            return name
    return None


def find_repeated_address(addresses: Iterable[str]) -> str | None:
    """Return the first of these addresses in canonical form that is the same as an earlier one.

    A zone may be given by name and by number.
    """
    seen = set()
    for address in addresses:
        host, _, zone = address.partition("%")
        place = host, _zone_index(zone)
        if place in seen:
            return address
        seen.add(place)
    return None


def _address(text: str) -> Ip | None:
    """Return the address; None when the text is none. Raises ValueError with the reason for a form that is refused."""
    bare, slash, _ = text.partition("/")
    host, percent, zone = bare.partition("%")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if slash:
        raise ValueError(f'has a prefix length; write "{bare}"')
    if isinstance(address, ipaddress.IPv6Address) and (mapped := address.ipv4_mapped) is not None:
        raise ValueError(f'is an IPv4 address in the form of IPv6; write "{mapped}"')
    if not percent:
        return address
    if address.version == 4 or not address.is_link_local:
        raise ValueError(f'has a zone, which only a link-local IPv6 address has; write "{host}"')
    if not _is_zone(zone):
        raise ValueError("has no name or number of an interface behind the %")
    return ipaddress.ip_address(bare)


def _is_name(text: str) -> bool:
    """Return whether the kernel allows such a name (`dev_valid_name` of net/core/dev.c), and people can read it."""
    if not 1 <= len(text.encode("utf-8", "surrogatepass")) <= MAX_ALTERNATIVE_NAME or text in (".", ".."):
        return False
    return text.isprintable() and not any(letter.isspace() or letter in "/:" for letter in text)


def _is_zone(zone: str) -> bool:
    if zone.isascii() and zone.isdigit() and len(zone) <= len(str(MAX_INDEX)):
        return 0 < int(zone) <= MAX_INDEX
    return _is_name(zone) and "%" not in zone


def _zone_index(zone: str) -> int | str:
    """Return the number of a zone, or its text when this machine has no such interface now."""
    try:
        return index_of_zone(zone) or zone
    except OSError:
        return zone
