"""A user of a host that may connect to the sockets, and misuses them: `python -m tests.hostile.local_user ORDERS`.

Orders: `kind` (one of KINDS), `keys` and `control` (paths of sockets), `bytes_per_second` in all. It runs as USER.
"""

import contextlib
import json
import os
import pwd
import resource
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from tests.hostile.attacker import Sent, orders, report

USER: Final = "nobody"
GROUP: Final = "nogroup"
BURST: Final = 4096
"""Bytes in one write."""
RETRY_AFTER: Final = 0.1
"""Seconds before a connection that was refused or closed is opened anew."""
DESCRIPTORS: Final = 4096
TICK: Final = 0.01
"""Seconds between two rounds."""

KEY_REQ: Final = b"\x01\x01\x00\x00"
KEY_WATCH: Final = b"\x01\x02\x00\x01\x00"
KEY_NEW: Final = b"\x01\x05\x00\x01\x02"
"""As in ARCHITECTURE: version, type, size, payload."""
GET_STATUS: Final = json.dumps({"method": "io.pskkey.Control.GetStatus"}).encode() + b"\0"


@dataclass(frozen=True, slots=True)
class Kind:
    """One attack: the socket, the number of connections to each, their first bytes, and the bytes that they repeat."""

    socket: str
    connections: int
    first: bytes = b""
    repeated: bytes = b""


KINDS: Final = {
    "keys-flood": Kind("keys", 64, KEY_WATCH, KEY_WATCH),
    "keys-requests": Kind("keys", 16, b"", KEY_REQ),
    "keys-places": Kind("keys", 300),
    "keys-rekeys": Kind("keys", 4, KEY_WATCH, KEY_NEW),
    "control-flood": Kind("control", 16, b"", GET_STATUS),
    "control-places": Kind("control", 300),
}


class Connection:
    """One connection, opened anew whenever it is closed."""

    def __init__(self, path: str, kind: Kind, selector: selectors.BaseSelector) -> None:
        self._path, self._kind, self._selector = path, kind, selector
        self._socket: socket.socket | None = None
        self._retry_at = 0.0

    def open(self, sent: Sent) -> None:
        """Connect, unless that was tried a moment ago."""
        if self._socket is not None or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY_AFTER
        made = socket.socket(socket.AF_UNIX)
        made.setblocking(False)
        try:
            made.connect(self._path)
            sent.packets += 1
            if self._kind.first:
                made.send(self._kind.first)
        except OSError:
            made.close()
            sent.refused += 1
            return
        self._selector.register(made, selectors.EVENT_READ, self)
        self._socket = made

    def read(self) -> None:
        """Read and discard all data; notice the end of the connection."""
        if self._socket is not None:
            with contextlib.suppress(BlockingIOError):
                try:
                    while taken := self._socket.recv(1 << 16):
                        if len(taken) < 1 << 16:
                            return
                except ConnectionError:
                    pass
                self._drop()

    def write(self, burst: bytes, sent: Sent) -> None:
        """Send as much as the socket accepts."""
        if self._socket is not None and burst:
            try:
                sent.bytes += self._socket.send(burst)
                sent.packets += 1
            except BlockingIOError:
                sent.refused += 1
            except OSError:
                self._drop()

    def _drop(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None


def attack(read: dict[str, Any], sent: Sent) -> None:
    """Attack until standard input ends."""
    kind = KINDS[read["kind"]]
    burst = kind.repeated * (BURST // len(kind.repeated)) if kind.repeated else b""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        connections = [Connection(path, kind, selector) for path in read[kind.socket] for _ in range(kind.connections)]
        began, place = time.monotonic(), 0
        while True:
            for key, _ in selector.select(TICK):
                if key.data is None:
                    return
                key.data.read()
            for connection in connections:
                connection.open(sent)
            due = read["bytes_per_second"] * (time.monotonic() - began) - sent.bytes
            for _ in range(min(len(connections), max(0, int(due / BURST)))):
                connections[place].write(burst, sent)
                place = (place + 1) % len(connections)
            time.sleep(TICK / 2)


def become_user() -> None:
    """Become USER, with as many descriptors as root may have: only the limits of the daemon are under test."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, DESCRIPTORS), most))
    entry = pwd.getpwnam(USER)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def main() -> None:
    """Attack until standard input ends."""
    read, sent = orders(), Sent()
    become_user()
    attack(read, sent)
    report(sent)


if __name__ == "__main__":
    main()
