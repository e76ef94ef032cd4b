"""The socket address of an IP address, which may have a zone: the interface of a link-local address (RFC 4007).

getaddrinfo(3) is not used: it gets a text in the encoding of host names, which is not that of interfaces, and it does
not know alternative names that are longer than MAX_NAME.
"""

import errno
import ipaddress
import socket

from pskkey.rtnetlink.queries import index_of_zone

type Target = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
"""A socket address as `getsockname` returns it: IPv4 address and port, or IPv6 address, port, 0 and interface index.
A Python without IPv6 has the last form."""


def find_socket_address(address: str, port: int) -> tuple[socket.AddressFamily, Target]:
    """Return the family and the socket address of an IP address and a port.

    Raises socket.gaierror, an OSError, for a text that is no IP address. Raises OSError with a sentence as its
    `strerror`: ENODEV if this machine has no such interface now, EINVAL if the address needs one.
    """
    host, percent, zone = address.partition("%")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise socket.gaierror(socket.EAI_NONAME, f"{address!r} is not an IP address") from None
    if ip.version == 4:
        if percent:
            raise socket.gaierror(socket.EAI_NONAME, f"{address!r} is not an IP address: IPv4 has no zones")
        return socket.AF_INET, (str(ip), port)
    if not percent and ip.is_link_local:
        raise OSError(errno.EINVAL, f'it is link-local, so it needs its interface, as in "{address}%eth0"')
    index = index_of_zone(zone) if percent else 0
    if index is None:
        raise OSError(errno.ENODEV, f"this machine has no interface {zone!r} now")
    return socket.AF_INET6, (socket.inet_ntop(socket.AF_INET6, ip.packed), port, 0, index)
