"""What goes over the wire of mDNS on loopback, packet by packet."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from zeroconf._protocol.incoming import DNSIncoming

from tests.system.loopback import MULTICAST_INTERFACE

GROUP, PORT = "224.0.0.251", 5353
LARGEST = 9000
"""Bytes of the largest packet (RFC 6762 section 17)."""


@dataclass(slots=True)
class Overheard:
    """The packets since it was last asked, of all programs that talk there."""

    socket: socket.socket

    def packets(self) -> list[DNSIncoming]:
        """Return the packets that came since the last call."""
        taken = []
        while True:
            try:
                taken.append(DNSIncoming(self.socket.recv(LARGEST)))
            except BlockingIOError:
                return taken

    def answers(self, name: str) -> int:
        """Return how many packets since the last call had records of that name with time to live."""
        return sum(any(r.name == name and r.ttl for r in packet.answers()) for packet in self.packets())


@contextmanager
def overhear() -> Iterator[Overheard]:
    """Listen until the end of the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listener.bind((GROUP, PORT))  # this address only: what is sent to one program is not for us
        joined = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(MULTICAST_INTERFACE))
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        listener.setblocking(False)
        yield Overheard(listener)
