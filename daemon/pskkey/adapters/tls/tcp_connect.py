"""Connects a TCP socket without blocking the event loop."""

import asyncio
import errno
import os
import socket
from typing import Any


async def connect(connecting: socket.socket, target: tuple[Any, ...]) -> None:
    """Connect to the socket address `target`, as getaddrinfo(3) returns it. Raises OSError.

    `loop.sock_connect` looks the address up once more. With a protocol that is not TCP itself, such as Multipath TCP,
    getaddrinfo(3) refuses that.
    """
    failure = connecting.connect_ex(target)
    if failure == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_writer(connecting, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_writer(connecting)
        failure = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise OSError(failure, os.strerror(failure))
