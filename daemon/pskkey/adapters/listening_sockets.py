"""Listening TCP sockets, and what to tell the operator when one cannot be had."""

import errno
import logging
import socket
from collections.abc import Sequence

from pskkey.errors import ConfigError

BACKLOG = 512
_ANY_PORT_TRIES = 8
_log = logging.getLogger("pskkey.tls")


def open_listening_sockets(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Return one listening socket for each IP address; for none given, one for all of IPv4 and one for all of IPv6.

    With port 0 the system chooses one, the same for all. Raises ConfigError, and leaves nothing open, when an address
    is not one of this machine or the port is taken.
    """
    for _ in range(_ANY_PORT_TRIES - 1 if port == 0 else 0):
        try:
            return _open_all(addresses, port)
        except _PortTaken:  # what is free on one address need not be on the next
            continue
    return _open_all(addresses, port)


class _PortTaken(ConfigError):
    """The port is in use on one of the addresses."""


def _open_all(addresses: Sequence[str], port: int) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for address in addresses or ("0.0.0.0", "::"):  # noqa: S104  the operator's default
            listener = _open(address, port, optional=not addresses and bool(opened))
            if listener is not None:
                opened.append(listener)
                port = listener.getsockname()[1]
    except ConfigError:
        for listener in opened:
            listener.close()
        raise
    return opened


def _open(address: str, port: int, *, optional: bool) -> socket.socket | None:
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        raise ConfigError(f"{address!r} is not an IP address; to listen on all addresses, give none") from None
    family, kind, protocol, _, target = found[0]
    listener: socket.socket | None = None
    try:
        listener = socket.socket(family, kind, protocol)
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(target)
        listener.listen(BACKLOG)
    except OSError as error:
        if listener is not None:
            listener.close()
        if optional and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            _log.info("This machine has no IPv6, so the key server listens on IPv4 only")
            return None
        raise _told(error, address, port) from None
    return listener


def _told(error: OSError, address: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return _PortTaken(f"port {port} of {address} is in use by another program; stop that or choose another port")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} of {address} may not be used by this user; choose one above 1023")
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return ConfigError(f"{address} is not an address of this machine, so the key server cannot listen on it")
    return ConfigError(f"cannot listen on port {port} of {address}: {error.strerror}")
