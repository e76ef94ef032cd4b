"""Connects a TCP socket without blocking the event loop."""

import asyncio
import errno
import os
import socket

from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.tls.tcp_options import TCP_OPTIONS
from pskkey.rtnetlink.socket_address import Target, find_socket_address


async def connect(address: str, port: int, options: SocketOptions) -> socket.socket:
    """Return a socket that is connected to an IP address, which may have a zone. `options` sets TCP_OPTIONS on it.

    Raises OSError.
    """
    family, target = find_socket_address(address, port)
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        options.set(connecting, *TCP_OPTIONS)
        await _connect(connecting, target)
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _connect(connecting: socket.socket, target: Target) -> None:
    """Connect to a socket address. Raises OSError.

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
