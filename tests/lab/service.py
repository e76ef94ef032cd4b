"""A daemon as systemd runs it: its sockets exist before and after it, and it gets back its stored descriptors.

This module imitates the parts of systemd that a daemon uses: LISTEN_FDS (sd_listen_fds(3)) with the sockets of the two
socket units, NOTIFY_SOCKET (sd_notify(3)), and the descriptor store. A session manager that connects while the daemon
is away waits in the queue of the socket.
"""

import asyncio
import fcntl
import os
import re
import select
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.lab.daemon import PSKKEYD, Daemon, Launch, Tables
from tests.quality.tracked import ROOT

UNIT: Final = ROOT / "systemd" / "pskkeyd.service"
FIRST_DESCRIPTOR: Final = 3

_STORE_SIZE: Final = re.compile(r"^FileDescriptorStoreMax=(\d+)$", re.MULTILINE)
_TAKE_PLACES: Final = 'eval "$1"; shift; export LISTEN_PID=$$; exec "$@"'
"""For bash: move descriptors to their numbers, and set LISTEN_PID to the pid that the daemon has after exec."""
_LONGEST_MESSAGE: Final = 4096


class Service(Daemon):
    """One daemon with its socket units and its descriptor store. Needs a running event loop from `start` on."""

    def __init__(self, directory: Path, tables: Tables, prefix: Sequence[str] = ()) -> None:
        super().__init__(directory, tables, prefix)
        size = _STORE_SIZE.search(UNIT.read_text())
        self._store_size = int(size[1]) if size else 0
        self._stored: list[tuple[str, int]] = []
        self._listening = {"keys": _listen(self.keys_socket), "control": _listen(self.control_socket)}
        self._notify_path = directory / "notify"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify.bind(os.fspath(self._notify_path))

    @property
    def stored(self) -> tuple[str, ...]:
        """The names of the descriptors in the store, sorted."""
        return tuple(sorted(name for name, _ in self._stored))

    def stored_as(self, name: str) -> tuple[int, ...]:
        """Return the descriptors in the store under this name, by our own numbers."""
        return tuple(fd for stored, fd in self._stored if stored == name)

    def launch(self) -> Launch:
        """Return how it is started: with its sockets, its stored descriptors, and the path of our notify socket."""
        asyncio.get_running_loop().add_reader(self._notify, self._take_messages)
        self._take_messages()
        given = [*((name, listening.fileno()) for name, listening in self._listening.items()), *self._stored]
        # The descriptors have high numbers (`_out_of_the_way`), so no move overwrites one that is still to be moved.
        places = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + len(given))
        moves = [f"exec {place}<&{fd} {fd}<&-" for place, (_, fd) in zip(places, given, strict=True)]
        environ = {
            "LISTEN_FDS": str(len(given)),
            "LISTEN_FDNAMES": ":".join(name for name, _ in given),
            "NOTIFY_SOCKET": os.fspath(self._notify_path),
            "FDSTORE": str(self._store_size),
        }
        wrapper = ("bash", "-c", _TAKE_PLACES, "bash", "; ".join(moves))
        command: tuple[str | Path, ...] = (*self.prefix, *wrapper, PSKKEYD, "--config", self.config)
        return Launch(command, environ, tuple(fd for _, fd in given))

    def store(self, name: str, fd: int) -> None:
        """Keep a descriptor for the daemon; it belongs to this object from now on."""
        self._store(name, fd)

    def destroy(self) -> None:
        """End everything that still runs and close all descriptors, also after an error."""
        super().destroy()
        if self._notify.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._notify)
            self._notify.close()
        for listening in self._listening.values():
            listening.close()
        for _, fd in self._stored:
            os.close(fd)
        self._stored.clear()

    def _take_messages(self) -> None:
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(self._notify, _LONGEST_MESSAGE, 16)
            except BlockingIOError:
                return
            fields = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
            name = fields.get("FDNAME", "stored")
            if fields.get("FDSTOREREMOVE") == "1":
                self._remove(name)
            for fd in fds:
                if fields.get("FDSTORE") == "1" and (fields.get("FDPOLL") == "0" or not _hung_up(fd)):
                    self._store(name, fd)
                else:
                    os.close(fd)

    def _store(self, name: str, fd: int) -> None:
        is_there = any(os.path.sameopenfile(fd, other) for _, other in self._stored)
        if is_there or len(self._stored) >= self._store_size:
            os.close(fd)
            return
        self._stored.append((name, _out_of_the_way(fd)))

    def _remove(self, name: str) -> None:
        for _, fd in [entry for entry in self._stored if entry[0] == name]:
            os.close(fd)
        self._stored = [entry for entry in self._stored if entry[0] != name]


def _hung_up(fd: int) -> bool:
    """Return whether systemd would drop a descriptor that it polls (sd_notify(3), FDPOLL=0)."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


def _listen(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.bind(os.fspath(path))
    path.chmod(0o660)
    made.listen()
    return socket.socket(fileno=_out_of_the_way(made.detach()))


def _out_of_the_way(fd: int) -> int:
    """Give a descriptor a number above those that a daemon inherits."""
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)
    os.close(fd)
    return moved
