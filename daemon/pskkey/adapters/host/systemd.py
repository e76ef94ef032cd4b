"""Notifications to systemd, and descriptors from it: readiness, status, watchdog (sd_notify(3))."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import sdnotify

LISTEN_FDS_START = 3

RETRY_AFTER: Final = 0.5
"""Seconds after which a message that the service manager had no room for is sent again."""

ANSWER_WITHIN: Final = 2.0
"""Seconds to wait while the service manager has no room for a message with descriptors."""

_log = logging.getLogger("pskkey.systemd")


class Systemd:
    """The service manager. Nothing is sent when the daemon runs from a shell."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._socket = sdnotify.SystemdNotifier().socket
        if self._socket is not None:
            # A service manager that hangs must not stop us: a message without room is dropped, and sent again.
            self._socket.setblocking(False)
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() and is_for_us else None
        self._status = ""
        self._unsent: list[str] = []
        self._feeder: asyncio.Task[None] | None = None
        self._repeater: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """Report that the sockets listen. From now on the event loop feeds the watchdog; a stuck loop does not."""
        self._send_reliably("READY=1")
        if self._watchdog and self._feeder is None:
            self._feeder = asyncio.create_task(self._feed(self._watchdog / 3))

    def reloading(self) -> None:
        """Report that a reload begins. `reloaded` ends it, also when the reload fails."""
        self._unsent.clear()  # the next READY=1 replaces one that was not sent yet
        # The time shows systemd that this is later than its own signal (sd_notify(3), RELOADING=1).
        self._send_reliably(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """Report that the reload is over."""
        self._send_reliably("READY=1")

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`."""
        if text != self._status:
            self._status = text
            self._send_status()

    async def stopping(self) -> None:
        """Report that the daemon ends."""
        self._unsent.clear()
        self._send("STOPPING=1")
        tasks = [task for task in (self._feeder, self._repeater) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _send_status(self) -> None:
        self._send(f"STATUS={self._status}")

    def _send(self, message: str) -> bool:
        """Send a message. Return whether it was sent, or there is no service manager."""
        if self._socket is None:
            return True
        try:
            self._socket.send(message.encode())
        except OSError as error:
            _log.debug("the service manager did not take %s: %s", message.partition("\n")[0], error.strerror)
            return False
        return True

    def _send_reliably(self, message: str) -> None:
        """Send a change of our state, after the unsent ones. Repeat it, because the service manager waits for it."""
        self._unsent.append(message)
        self._send_unsent()
        if self._unsent and (self._repeater is None or self._repeater.done()):
            self._repeater = asyncio.create_task(self._repeat())

    def _send_unsent(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            del self._unsent[0]

    async def _repeat(self) -> None:
        while self._unsent:
            await asyncio.sleep(RETRY_AFTER)
            self._send_unsent()

    async def _feed(self, interval: float) -> None:
        while True:
            self._send("WATCHDOG=1")
            self._send_status()
            await asyncio.sleep(interval)


@dataclass(frozen=True, slots=True)
class Inherited:
    """The descriptors that systemd passed to us: listening sockets, and those that it kept for us."""

    sockets: Mapping[str, socket.socket]
    """By `FileDescriptorName=` of the socket unit."""
    stored: Mapping[str, Sequence[int]]
    """The descriptors that an earlier process stored, by name. It has each name of `stored_as`."""


def inherited(environ: Mapping[str, str], stored_as: Collection[str]) -> Inherited:
    """Take the descriptors that systemd passed (sd_listen_fds(3)). Call it once. We store under the names `stored_as`.

    Another version of the daemon may have stored a descriptor that we do not use. It is closed and removed from the
    store.
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return Inherited({}, dict.fromkeys(stored_as, ()))
    count = int(environ.get("LISTEN_FDS", "0"))
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    sockets: dict[str, socket.socket] = {}
    stored: dict[str, list[int]] = {name: [] for name in stored_as}
    for number, name in zip(range(count), names, strict=False):
        fd = LISTEN_FDS_START + number
        os.set_inheritable(fd, False)
        if name in stored:
            stored[name].append(fd)
        elif (listening := _listening_socket(fd)) is not None:
            sockets[name] = listening
        else:
            _log.warning("the descriptor that systemd passed under the name %r is no listening socket: not used", name)
            with contextlib.suppress(OSError):  # then the next process gets it and refuses it again
                notify_with(f"FDSTOREREMOVE=1\nFDNAME={name}")
            os.close(fd)
    return Inherited(sockets, stored)


def keeps_descriptors(environ: Mapping[str, str]) -> bool:
    """Return whether there is a service manager with a descriptor store for us (systemd.exec(5), $FDSTORE)."""
    return bool(environ.get("NOTIFY_SOCKET")) and environ.get("FDSTORE", "0") != "0"


def store(name: str, *fds: int) -> None:
    """Store these descriptors in the service manager under `name`, and remove those that it kept there before.

    Without FDPOLL=0 it would drop at once a socket that is bound and neither connected nor listening.
    Waits for at most twice ANSWER_WITHIN. Raises OSError when the service manager cannot be reached or has no room.
    """
    notify_with(f"FDSTOREREMOVE=1\nFDNAME={name}")
    notify_with(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", *fds)


def notify_with(message: str, *fds: int) -> None:
    """Send a message with descriptors, for which `sdnotify` has no call. Waits for at most ANSWER_WITHIN.

    Raises OSError when the service manager cannot be reached or has no room.
    """
    notifier = sdnotify.SystemdNotifier().socket
    if notifier is None:
        raise OSError(errno.ENOTCONN, "it cannot be reached")
    with contextlib.closing(notifier):
        notifier.settimeout(ANSWER_WITHIN)
        socket.send_fds(notifier, [message.encode()], fds)


def _listening_socket(fd: int) -> socket.socket | None:
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return None
    passed = socket.socket(fileno=fd)
    if passed.family is socket.AF_UNIX and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return passed
    passed.detach()
    return None
