"""TCP options for connections with a few small and urgent messages."""

import socket

_TCP_THIN_LINEAR_TIMEOUTS = 16  # linux/tcp.h; not in `socket`


def expect_small_messages(connection: socket.socket) -> None:
    """Send each message at once, and repeat a lost one without exponential backoff (tcp(7)).

    With backoff, a heartbeat that is lost twice would arrive after the peer was taken for dead.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1)
