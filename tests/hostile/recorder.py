"""A recorder of the datagrams that a host hears, such as adverts of a role, so that they can be sent again later."""

import asyncio
import ctypes
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.hostile.stranger import MDNS
from tests.lab.group import Failed
from tests.lab.namespaces import Host

NAMED: Final = Path("/run/netns")
LARGEST: Final = 9000
"""Bytes of the largest datagram of mDNS (RFC 6762 section 17)."""
RECEIVE_BUFFER: Final = 8 << 20
IS_RESPONSE: Final = 0x80
"""The QR bit, in the third byte of a message."""
_CLONE_NEWNET: Final = 0x40000000


@contextmanager
def at(host: Host) -> Iterator[None]:
    """Make the sockets that are opened in this block belong to a host."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open("rb") as here, (NAMED / host.namespace).open("rb") as there:
        if libc.setns(there.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            yield
        finally:
            libc.setns(here.fileno(), _CLONE_NEWNET)


class Recorder:
    """A socket at a host that hears the datagrams to a group and a port; the defaults are those of mDNS."""

    def __init__(self, host: Host, group: str = MDNS[0], port: int = MDNS[1]) -> None:
        with at(host):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            self._socket.setsockopt(socket.SOL_SOCKET, option, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._socket.bind((group, port))
        joined = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton(host.ipv4))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def datagrams(self) -> list[bytes]:
        """Return the datagrams heard since the last call."""
        heard = []
        while True:
            try:
                heard.append(self._socket.recv(LARGEST))
            except BlockingIOError:
                return heard

    async def adverts(self, instance: str, role: str, within: float) -> list[bytes]:
        """Wait for announcements of an instance in a role (`m`, `l`) and return them. Raises Failed."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            wanted = (instance.encode(), f"role={role}".encode(), b"sig=")
            heard = [d for d in self.datagrams() if d[2] & IS_RESPONSE and all(part in d for part in wanted)]
            if heard:
                return heard
            await asyncio.sleep(0.02)
        raise Failed(f"{instance} has not announced itself with role {role} within {within} s")
