"""TCP options for connections with a few small and urgent messages."""

import socket
from typing import Final

from pskkey.adapters.host.socket_options import SocketOption

_TCP_THIN_LINEAR_TIMEOUTS: Final = 16  # linux/tcp.h; not in `socket`

TCP_OPTIONS: Final = (
    # Each message is sent at once.
    SocketOption("TCP_NODELAY", socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A lost message is repeated without exponential backoff (tcp(7)). With backoff, a heartbeat that is lost twice
    # would arrive after the peer was taken for dead.
    SocketOption("TCP_THIN_LINEAR_TIMEOUTS", socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1),
)
"""To be set before connect(), or before listen(): accepted connections inherit the options of the listening socket."""
