"""Listening TCP sockets, and the error when one cannot be opened."""

import errno
import logging
import socket
from collections.abc import Sequence
from typing import Final

from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.tls.tcp_options import TCP_OPTIONS
from pskkey.config.own_interfaces import NO_SUCH_ADDRESS
from pskkey.errors import ConfigError
from pskkey.rtnetlink.socket_address import Target, find_socket_address

BACKLOG: Final = 512
"""Connections in the queue of one socket. The kernel drops the SYN of one more."""

EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  the operator's default
EVERYWHERE_WITH: Final = {"both": (), "v4": EVERYWHERE[:1], "v6": EVERYWHERE[1:]}
"""The addresses of the key server by [network] ip if none are configured. None at all are EVERYWHERE, where one that
this machine does not have is left out."""
_ANY_PORT_TRIES: Final = 8
_log = logging.getLogger("pskkey.tls")

type Place = tuple[socket.AddressFamily, Target]
"""Where a socket listens. That of a link-local address has the index of its interface."""


GIVE_BACK: Final = "give this machine the address, or correct [network] addresses"
"""The remedy for an address that is missing."""


class PortTaken(ConfigError):
    """Another program has the port on one of the addresses."""


class AddressMissing(ConfigError):
    """This machine does not have the address now; `why` is a reason in a few words, if one is known."""

    def __init__(self, address: str, why: str = "") -> None:
        now = f"now ({why})" if why else "now"
        super().__init__(f"{address} is not an address of this machine {now}, so the key server cannot listen on it")


def open_listening_sockets(addresses: Sequence[str], port: int, options: SocketOptions) -> list[socket.socket]:
    """Return one listening socket for each IP address; none given: one for all of IPv4 and one for all of IPv6.

    `options` sets TCP_OPTIONS on them. With port 0 the system chooses one port for all. Raises ConfigError when an
    address cannot be used (see `bind`). Then no socket stays open.
    """
    for _ in range(_ANY_PORT_TRIES - 1 if port == 0 else 0):
        try:
            return _open_all(addresses, port, options)
        except PortTaken:  # a port that is free on one address may be taken on another
            continue
    return _open_all(addresses, port, options)


def _open_all(addresses: Sequence[str], port: int, options: SocketOptions) -> list[socket.socket]:
    opened: list[socket.socket] = []
    try:
        for address in addresses or EVERYWHERE:
            try:
                listener = bind(address, port)
            except AddressMissing:
                if addresses or not opened:
                    raise
                _log.info("This machine has no IPv6, so the key server listens on IPv4 only")
                continue
            opened.append(listener)
            options.set(listener, *TCP_OPTIONS)
            _listen(listener, address, port)
            port = listener.getsockname()[1]
    except ConfigError:
        for listener in opened:
            listener.close()
        raise
    return opened


def resolve(address: str, port: int) -> Place:
    """Return where to listen on an IP address. Raises ConfigError when it is none, AddressMissing without its zone."""
    try:
        return find_socket_address(address, port)
    except socket.gaierror:
        raise ConfigError(f"{address!r} is not an IP address; to listen on all addresses, give none") from None
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise AddressMissing(address, f"no interface {address.partition('%')[2]!r} is there") from None
        raise ConfigError(f"{address} cannot be listened on: {error.strerror}") from None


def bind(address: str, port: int) -> socket.socket:
    """Return a TCP socket that is bound there.

    Raises AddressMissing when the address is not one of this machine, PortTaken when the port is taken, and
    ConfigError for any other reason.
    """
    family, target = resolve(address, port)
    bound: socket.socket | None = None
    try:
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(target)
    except OSError as error:
        if bound is not None:
            bound.close()
        raise _explained(error, address, port) from None
    return bound


def _listen(bound: socket.socket, address: str, port: int) -> None:
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        raise _explained(error, address, port) from None


def _explained(error: OSError, address: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return PortTaken(f"port {port} of {address} is in use by another program; stop that or choose another port")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} of {address} may not be used by this user; choose one above 1023")
    if error.errno in NO_SUCH_ADDRESS:
        return AddressMissing(address)
    return ConfigError(f"cannot listen on port {port} of {address}: {error.strerror}")
