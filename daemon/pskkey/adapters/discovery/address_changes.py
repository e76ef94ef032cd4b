"""Word from the kernel that an address of this machine has come, gone or changed (rtnetlink(7))."""

import asyncio
import logging
import socket
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

SETTLE: Final = 0.5
"""Seconds from the first word of a change until it is told of: addresses come and go together with others."""

_READ_SIZE: Final = 65536
_IPV4_ADDRESSES: Final = 0x10
_IPV6_ADDRESSES: Final = 0x100
"""RTMGRP_* of <linux/rtnetlink.h>: what to be told of."""

_log = logging.getLogger("pskkey.network")


class AddressChanges:
    """To be waited for, in a `with` block. What has changed is for the one who waits to find out.

    Where the kernel does not announce changes (`are_announced`, after the beginning of the block), each wait lasts its
    time.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.bind((0, _IPV4_ADDRESSES | _IPV6_ADDRESSES))
        except OSError as error:
            _log.info("the kernel does not tell of changes of the network: %s", error.strerror)
            self._close()
        else:
            asyncio.get_running_loop().add_reader(self._socket, self._take, self._socket)
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
        """Return SETTLE seconds after a change, or without one after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
                await asyncio.sleep(SETTLE)
        self._changed.clear()

    def _take(self, kernel: socket.socket) -> None:
        self._changed.set()
        try:
            while kernel.recv(_READ_SIZE):
                pass
        except BlockingIOError:
            return
        except OSError as error:  # more than the buffer held: that is a change, too
            _log.debug("the kernel had more to tell than was read: %s", error.strerror)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
