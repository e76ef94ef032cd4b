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
    of LINKS were missed, the index is None.

    LINKS have a socket of their own. A stranger on the link can change addresses and routes at any rate (RFC 4861), but
    not interfaces. So a stranger can neither hide the end of an interface nor feign it.
    """

    def __init__(self, kinds: int, ended: Callable[[int | None, int], None] | None = None) -> None:
        self._kinds = kinds
        self._ended = ended
        self._changed = asyncio.Event()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        try:
            for kinds, read in ((self._kinds & LINKS, self._look_at_links), (self._kinds & ~LINKS, None)):
                if kinds:
                    self._listen(kinds, read)
        except OSError as error:
            _log.info("the kernel does not announce changes of the network: %s", error.strerror)
            self._close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def are_announced(self) -> bool:
        """Whether a change ends a wait."""
        return bool(self._sockets)

    async def wait(self, seconds: float) -> None:
        """Return SETTLE seconds after a change, or after `seconds` if there is none."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
                await asyncio.sleep(SETTLE)
        self._changed.clear()

    def _listen(self, kinds: int, read: Callable[[bytes], None] | None) -> None:
        """Receive these kinds on one socket more; `read` is called with each datagram. Raises OSError."""
        kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._sockets.append(kernel)
        kernel.bind((0, kinds))
        asyncio.get_running_loop().add_reader(kernel, self._read, kernel, read)

    def _read(self, kernel: socket.socket, read: Callable[[bytes], None] | None) -> None:
        self._changed.set()
        try:
            for _ in range(_READS_PER_WAKE_UP):
                datagram = kernel.recv(messages.READ_SIZE)
                if read is not None:
                    read(datagram)
        except BlockingIOError:
            return
        except OSError as error:  # the buffer was too small: that is a change, too
            _log.debug("the kernel announced more changes than were read: %s", error.strerror)
            is_overflow = error.errno == errno.ENOBUFS
            if not is_overflow:
                self._close()  # the error would come again at once, for ever
            if self._ended is not None and (read is not None or not is_overflow):
                self._ended(None, 0)

    def _look_at_links(self, datagram: bytes) -> None:
        for kind, _, payload in messages.read_messages(datagram):
            if kind in (messages.NEW_LINK, messages.DELETED_LINK):
                self._look_at_link(kind, payload)

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
        for kernel in self._sockets:
            asyncio.get_running_loop().remove_reader(kernel)
            kernel.close()
        self._sockets.clear()
