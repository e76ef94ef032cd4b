"""Reserves the port of the key server for us while no process of ours runs.

A port is free from the death of one process until the next one binds it. Meanwhile any local user may bind it, if it is
above 1023. So each listening socket has a *reservation*: a socket that is bound to the same address and port, and does
not listen. The service manager stores it (systemd.service(5), FDSTORE).

The listening sockets themselves are not stored. They would accept connections after our death, which no process serves:
peers would wait for an answer instead of connecting to the next master.

Linux decides by SO_REUSEADDR (socket(7)). Two sockets with that option may be bound to one port, and one of them may
listen. While a reservation has the option, we open our listening socket. Then we clear the option: from now on no
program can bind that port, also after our listening socket is closed.
"""

import logging
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pskkey.adapters.host.systemd import store
from pskkey.adapters.tls.listening_sockets import EVERYWHERE, Target, bind, resolve

FD_NAME: Final = "port"
"""The name of all reservations in the store: `FDNAME=`, and in LISTEN_FDNAMES. There is one for each address."""

_log = logging.getLogger("pskkey.server")


class PortReservation:
    """The reservations for `port` of these addresses (none: all).

    `stored` are descriptors that an earlier process stored under FD_NAME. Those of another address or port are
    released: they block no program any more, and the next `store` removes them.
    """

    def __init__(self, stored: Sequence[int], addresses: Sequence[str], port: int) -> None:
        self._addresses = addresses
        self._port = port
        self._bound: dict[tuple[int, Target], socket.socket] = {}
        wanted = [resolve(address, port) for address in addresses or EVERYWHERE]
        for fd in stored:
            if (found := _tcp_socket(fd)) is None:
                _log.info(
                    "the descriptor that the service manager kept under the name %s is no TCP socket: not used", FD_NAME
                )
                os.close(fd)
                continue
            place = (found.family, found.getsockname())
            if place in wanted and place not in self._bound:
                self._bound[place] = found
            else:
                _set_reuse(found, 1)
                found.close()
        self._is_stored = len(self._bound) == len(stored) > 0

    @contextmanager
    def share_port(self) -> Iterator[None]:
        """Make the missing reservations. Inside the block a listening socket may be opened for each reservation.

        Raises ConfigError as `bind` does.
        """
        for reservation in self._bound.values():
            _set_reuse(reservation, 1)
        try:
            for address in self._addresses or EVERYWHERE:
                if (place := resolve(address, self._port)) in self._bound:
                    continue
                made = bind(address, self._port, optional=not self._addresses and bool(self._bound))
                if made is not None:
                    self._bound[place] = made
                    self._is_stored = False
            yield
        finally:
            for reservation in self._bound.values():
                _set_reuse(reservation, 0)

    def store(self) -> None:
        """Store the reservations in the service manager, unless it has exactly these."""
        if self._is_stored:
            return
        try:
            store(FD_NAME, *(reservation.fileno() for reservation in self._bound.values()))
            self._is_stored = True
        except OSError as error:
            _log.warning(
                "another program may take the port of the key server during a restart: the service manager did not "
                "take the reservation of the port: %s",
                error.strerror,
            )

    def close(self) -> None:
        """Close our descriptors. The service manager has its own."""
        for reservation in self._bound.values():
            reservation.close()
        self._bound.clear()


def _tcp_socket(fd: int) -> socket.socket | None:
    """Return `fd` as a TCP socket that does not listen. If it is none, return None and leave `fd` open."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return None
    found = socket.socket(fileno=fd)
    is_tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type is socket.SOCK_STREAM
    if is_tcp and not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return found
    found.detach()
    return None


def _set_reuse(bound: socket.socket, value: int) -> None:
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, value)
