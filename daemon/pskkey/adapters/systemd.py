"""What we tell systemd, and what it hands us: readiness, status, watchdog, descriptors (sd_notify(3))."""

import asyncio
import logging
import os
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sdnotify

LISTEN_FDS_START = 3

_log = logging.getLogger("pskkey.systemd")


class Systemd:
    """The service manager, or nothing at all when the daemon runs from a shell."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._notifier = sdnotify.SystemdNotifier()
        if self._notifier.socket is not None:
            # A service manager that hangs must not stop us: what it has no room for is dropped, and said again.
            self._notifier.socket.setblocking(False)
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() and is_for_us else None
        self._status = ""
        self._feeder: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """The sockets listen. From now on the watchdog is fed, by the loop itself: a stuck loop starves it."""
        self._notifier.notify("READY=1")
        if self._watchdog and self._feeder is None:
            self._feeder = asyncio.create_task(self._feed(self._watchdog / 3))

    def reloading(self) -> None:
        """The files are read again; `reloaded` ends that, whatever came of it."""
        # systemd must be able to tell that this is later than its own signal (sd_notify(3), RELOADING=1).
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """The reload is over."""
        self._notifier.notify("READY=1")

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`."""
        if text != self._status:
            self._status = text
            self._say_status()

    async def stopping(self) -> None:
        """The daemon ends."""
        self._notifier.notify("STOPPING=1")
        if self._feeder is not None:
            self._feeder.cancel()
            await asyncio.gather(self._feeder, return_exceptions=True)

    def _say_status(self) -> None:
        # sdnotify writes Latin-1, systemd reads UTF-8.
        self._notifier.notify(f"STATUS={self._status}".encode().decode("latin-1"))

    async def _feed(self, interval: float) -> None:
        while True:
            self._notifier.notify("WATCHDOG=1")
            self._say_status()
            await asyncio.sleep(interval)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What systemd passed to us: listening sockets by the name of their unit's, and what it kept for us."""

    sockets: Mapping[str, socket.socket]
    """By `FileDescriptorName=` of the socket unit."""
    stored: Sequence[int]
    """The descriptors that were stored under `stored_as`."""


def inherited(environ: Mapping[str, str], stored_as: str) -> Inherited:
    """Take over what systemd passed (sd_listen_fds(3)); to be called once.

    What we have no use for, another version of us may have stored. It is closed and given back for good.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return Inherited({}, ())
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    sockets, stored = {}, []
    for number, name in zip(range(count), names, strict=False):
        fd = LISTEN_FDS_START + number
        os.set_inheritable(fd, False)
        if name == stored_as:
            stored.append(fd)
        elif (listening := _listening_socket(fd)) is not None:
            sockets[name] = listening
        else:
            _log.warning("systemd passed something under the name %r that is no listening socket: not used", name)
            sdnotify.SystemdNotifier().notify(f"FDSTOREREMOVE=1\nFDNAME={name}")
            os.close(fd)
    return Inherited(sockets, stored)


def _listening_socket(fd: int) -> socket.socket | None:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return None
    passed = socket.socket(fileno=fd)
    if passed.family is socket.AF_UNIX and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return passed
    passed.detach()
    return None
