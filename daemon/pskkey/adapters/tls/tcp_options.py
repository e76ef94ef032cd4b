"""How TCP is to treat connections that carry a small message now and then, each of them urgent."""

import socket

_TCP_THIN_LINEAR_TIMEOUTS = 16  # linux/tcp.h; not in `socket`


def expect_small_messages(connection: socket.socket) -> None:
    """Send each message at once, and repeat a lost one without waiting twice as long each time (tcp(7)).

    A heartbeat that is lost twice would otherwise come after the peer was given up for dead.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1)
