"""What we tell systemd, and what it hands us: readiness, status, watchdog, descriptors (sd_notify(3))."""

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

SAID_AGAIN_AFTER: Final = 0.5
"""Seconds after which what the service manager had no room for is said again."""

ANSWER_WITHIN: Final = 2.0
"""Seconds for a service manager that has no room for a message with descriptors."""

_log = logging.getLogger("pskkey.systemd")


class Systemd:
    """The service manager, or nothing at all when the daemon runs from a shell."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._socket = sdnotify.SystemdNotifier().socket
        if self._socket is not None:
            # A service manager that hangs must not stop us: what it has no room for is dropped, and said again.
            self._socket.setblocking(False)
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watchdog = int(microseconds) / 1e6 if microseconds.isdecimal() and is_for_us else None
        self._status = ""
        self._unsaid: list[str] = []
        self._feeder: asyncio.Task[None] | None = None
        self._repeater: asyncio.Task[None] | None = None

    def ready(self) -> None:
        """The sockets listen. From now on the watchdog is fed, by the loop itself: a stuck loop starves it."""
        self._say_for_sure("READY=1")
        if self._watchdog and self._feeder is None:
            self._feeder = asyncio.create_task(self._feed(self._watchdog / 3))

    def reloading(self) -> None:
        """The files are read again; `reloaded` ends that, whatever came of it."""
        self._unsaid.clear()  # the READY=1 to come is as good as one that did not go out yet
        # systemd must be able to tell that this is later than its own signal (sd_notify(3), RELOADING=1).
        self._say_for_sure(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def reloaded(self) -> None:
        """The reload is over."""
        self._say_for_sure("READY=1")

    def status(self, text: str) -> None:
        """Show `text` in `systemctl status`."""
        if text != self._status:
            self._status = text
            self._say_status()

    async def stopping(self) -> None:
        """The daemon ends."""
        self._unsaid.clear()
        self._say("STOPPING=1")
        tasks = [task for task in (self._feeder, self._repeater) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _say_status(self) -> None:
        self._say(f"STATUS={self._status}")

    def _say(self, message: str) -> bool:
        """Return whether it went out, or there is nobody to hear it."""
        if self._socket is None:
            return True
        try:
            self._socket.send(message.encode())
        except OSError as error:
            _log.debug("the service manager was not told %s: %s", message.partition("\n")[0], error.strerror)
            return False
        return True

    def _say_for_sure(self, message: str) -> None:
        """Say what changes our state for the service manager, which waits for it: after what is still unsaid."""
        self._unsaid.append(message)
        self._say_unsaid()
        if self._unsaid and (self._repeater is None or self._repeater.done()):
            self._repeater = asyncio.create_task(self._repeat())

    def _say_unsaid(self) -> None:
        while self._unsaid and self._say(self._unsaid[0]):
            del self._unsaid[0]

    async def _repeat(self) -> None:
        while self._unsaid:
            await asyncio.sleep(SAID_AGAIN_AFTER)
            self._say_unsaid()

    async def _feed(self, interval: float) -> None:
        while True:
            self._say("WATCHDOG=1")
            self._say_status()
            await asyncio.sleep(interval)


@dataclass(frozen=True, slots=True)
class Inherited:
    """What systemd passed to us: listening sockets by the name of their unit's, and what it kept for us."""

    sockets: Mapping[str, socket.socket]
    """By `FileDescriptorName=` of the socket unit."""
    stored: Mapping[str, Sequence[int]]
    """The descriptors that an earlier process stored, by name; each name of `stored_as` is there."""


def inherited(environ: Mapping[str, str], stored_as: Collection[str]) -> Inherited:
    """Take over what systemd passed (sd_listen_fds(3)); to be called once. We store under the names `stored_as`.

    What we have no use for, another version of us may have stored. It is closed and given back for good.
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
            _log.warning("systemd passed something under the name %r that is no listening socket: not used", name)
            with contextlib.suppress(OSError):  # then it is passed again, and refused again
                notify_with(f"FDSTOREREMOVE=1\nFDNAME={name}")
            os.close(fd)
    return Inherited(sockets, stored)


def keeps_descriptors(environ: Mapping[str, str]) -> bool:
    """Return whether there is a service manager with a descriptor store for us (systemd.exec(5), $FDSTORE)."""
    return bool(environ.get("NOTIFY_SOCKET")) and environ.get("FDSTORE", "0") != "0"


def store(name: str, *fds: int) -> None:
    """Have the service manager keep these descriptors under `name`, and none that it kept there before.

    Without FDPOLL=0 it would drop at once a socket that is bound and neither connected nor listening.
    Waits for at most twice ANSWER_WITHIN. Raises OSError when it cannot be reached or has no room for the messages.
    """
    notify_with(f"FDSTOREREMOVE=1\nFDNAME={name}")
    notify_with(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", *fds)


def notify_with(message: str, *fds: int) -> None:
    """Say something with descriptors, for which `sdnotify` has no call. Waits for at most ANSWER_WITHIN.

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
