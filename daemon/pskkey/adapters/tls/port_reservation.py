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
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from pskkey.adapters.host.systemd import store
from pskkey.adapters.tls.listening_sockets import Place, bind

FD_NAME: Final = "port"
"""The name of all reservations in the store: `FDNAME=`, and in LISTEN_FDNAMES. There is one for each address."""

_log = logging.getLogger("pskkey.server")


class PortReservation:
    """The reservations of the port of the key server, one for each place where it listens.

    `stored` are descriptors that an earlier process stored under FD_NAME.
    """

    def __init__(self, stored: Sequence[int]) -> None:
        self._bound: dict[Place, socket.socket] = {}
        for fd in stored:
            if (found := _tcp_socket(fd)) is None:
                _log.info(
                    "the descriptor that the service manager kept under the name %s is no TCP socket: not used", FD_NAME
                )
                os.close(fd)
                continue
            place = (found.family, found.getsockname())
            if place in self._bound:
                _set_reuse(found, 1)
                found.close()
            else:
                self._bound[place] = found
        self._is_stored = len(self._bound) == len(stored)

    def release_all_but(self, places: Container[Place]) -> None:
        """Release the other reservations: they block no program any more, and the next `store` removes them."""
        for place in [place for place in self._bound if place not in places]:
            released = self._bound.pop(place)
            _set_reuse(released, 1)
            released.close()
            self._is_stored = False

    @contextmanager
    def share_port(self, place: Place, address: str, port: int) -> Iterator[None]:
        """Reserve a port of `address`, which resolves to `place`. Inside the block a socket may listen there, too.

        Raises ConfigError as `bind` does.
        """
        if place not in self._bound:
            self._bound[place] = bind(address, port)
            self._is_stored = False
        reserved = self._bound[place]
        _set_reuse(reserved, 1)
        try:
            yield
        finally:
            _set_reuse(reserved, 0)

    def store(self) -> None:
        """Store the reservations in the service manager, unless it has exactly these. After a failure it has none."""
        if self._is_stored or not self._bound:
            return
        self._is_stored = True  # also after a failure: another attempt would wait for the service manager again
        try:
            store(FD_NAME, *(reservation.fileno() for reservation in self._bound.values()))
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
