"""TCP options for connections with a few small and urgent messages, on networks of any kind."""

import socket
from typing import Final

from pskkey.adapters.host.socket_options import SocketOption

SEGMENT: Final = 1220
"""Bytes of TCP options and data in a segment: 1280 bytes without the headers of IPv6 and TCP, 40 and 20 bytes."""

_TCP_THIN_LINEAR_TIMEOUTS: Final = 16  # linux/tcp.h; not in `socket`

TCP_OPTIONS: Final = (
    # Each message is sent at once.
    SocketOption("TCP_NODELAY", socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A lost message is repeated without exponential backoff (tcp(7)). With backoff, a heartbeat that is lost twice
    # would arrive after the peer was taken for dead.
    SocketOption("TCP_THIN_LINEAR_TIMEOUTS", socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1),
    # Every link that carries IPv6 takes packets of 1280 bytes (RFC 8200 section 5), and so do tunnels. A path that
    # drops larger ones, and sends no ICMP message, lets heartbeats and most handshakes through, but not a long GROUP.
    # Our SYN announces the size, so the peer keeps to it, too.
    SocketOption("TCP_MAXSEG", socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT),
)
"""To be set before connect(), or before listen(): accepted connections inherit the options of the listening socket."""
