"""Notifications of the kernel that the network of this machine has changed."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pskkey.rtnetlink import messages

SETTLE: Final = 0.5
"""Seconds from the first notification to the report of a change: addresses seldom change one by one."""

LINKS: Final = 0x1
ADDRESSES: Final = 0x10 | 0x100
ROUTES: Final = 0x40 | 0x400 | 0x80 | 0x40000
"""The notifications to receive, of IPv4 and IPv6: RTMGRP_* of <linux/rtnetlink.h>. With the routes come their rules."""

_READS_PER_WAKE_UP: Final = 64
SMALLEST_MTU: Final = {4: 68, 6: 1280}
"""Bytes: IP of this version ends on an interface with a smaller MTU."""

_MTU: Final = 4

_log = logging.getLogger("pskkey.network")


class NetworkChanges:
    """Waits for changes of these kinds, in a `with` block. The caller finds out what has changed.

    If the kernel does not announce changes, each wait lasts its whole time. `are_announced` is valid inside the block.

    `ended` is called at once when IP may have ended on an interface, with the index of the interface and its MTU, which
    is 0 for a removed interface. Needs LINKS. IP ends on an interface with an MTU below SMALLEST_MTU. The kernel drops
    the multicast memberships there, and does not restore them, also if the same index comes again. When notifications
    were missed, the index is None.
    """

    def __init__(self, kinds: int, ended: Callable[[int | None, int], None] | None = None) -> None:
        self._kinds = kinds
        self._ended = ended
        self._changed = asyncio.Event()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.bind((0, self._kinds))
        except OSError as error:
            _log.info("the kernel does not announce changes of the network: %s", error.strerror)
            self._close()
        else:
            asyncio.get_running_loop().add_reader(self._socket, self._read, self._socket)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
        self._close()

    @property
    def are_announced(self) -> bool:
        """Whether a change ends a wait."""
        return self._socket is not None

    async def wait(self, seconds: float) -> None:
        """Return SETTLE seconds after a change, or after `seconds` if there is none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
                await asyncio.sleep(SETTLE)
        self._changed.clear()

    def _read(self, kernel: socket.socket) -> None:
        self._changed.set()
        try:
            for _ in range(_READS_PER_WAKE_UP):
                for kind, _, payload in messages.read_messages(kernel.recv(messages.READ_SIZE)):
                    if kind in (messages.NEW_LINK, messages.DELETED_LINK):
                        self._look_at_link(kind, payload)
        except BlockingIOError:
            return
        except OSError as error:  # the buffer was too small: that is a change, too
            _log.debug("the kernel announced more changes than were read: %s", error.strerror)
            if error.errno != errno.ENOBUFS:
                self.__exit__(None, None, None)  # the error would come again at once, for ever
            if self._ended is not None:
                self._ended(None, 0)

    def _look_at_link(self, kind: int, payload: bytes) -> None:
        (family, _, index, *_), attributes = messages.read_payload(messages.LINK, payload)
        if family != socket.AF_UNSPEC:
            return  # a bridge announces its ports so: the interface itself stays
        mtu = 0
        if kind == messages.NEW_LINK:
            mtu = messages.read_number(attributes[_MTU][0]) if attributes[_MTU] else SMALLEST_MTU[6]
        if mtu < SMALLEST_MTU[6] and self._ended is not None:
            self._ended(index, mtu)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
