"""Notifications of the kernel that an address of this machine was added, removed or changed (rtnetlink(7))."""

import asyncio
import logging
import socket
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

SETTLE: Final = 0.5
"""Seconds from the first notification to the report of a change: addresses seldom change one by one."""

_READ_SIZE: Final = 65536
_IPV4_ADDRESSES: Final = 0x10
_IPV6_ADDRESSES: Final = 0x100
"""RTMGRP_* of <linux/rtnetlink.h>: the notifications to receive."""

_log = logging.getLogger("pskkey.network")


class AddressChanges:
    """Waits for changes, in a `with` block. The caller finds out what has changed.

    If the kernel does not announce changes, each wait lasts its whole time. `are_announced` is valid inside the block.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.bind((0, _IPV4_ADDRESSES | _IPV6_ADDRESSES))
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
            while kernel.recv(_READ_SIZE):
                pass
        except BlockingIOError:
            return
        except OSError as error:  # the buffer was too small: that is a change, too
            _log.debug("the kernel announced more changes than were read: %s", error.strerror)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
