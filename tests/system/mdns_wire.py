"""The mDNS packets on the wire, from all senders."""

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from zeroconf._dns import DNSText
from zeroconf._protocol.incoming import DNSIncoming

GROUP, PORT = "224.0.0.251", 5353
LARGEST = 9000
"""Bytes of the largest packet (RFC 6762 section 17)."""


@dataclass(slots=True)
class Overheard:
    """The packets that arrive at a socket that only listens."""

    socket: socket.socket

    def packets(self) -> list[DNSIncoming]:
        """Return the packets since the last call."""
        taken = []
        while True:
            try:
                taken.append(DNSIncoming(self.socket.recv(LARGEST)))
            except BlockingIOError:
                return taken

    def count_from(self, address: str) -> int:
        """Return how many packets have come from this address since the last call, without reading them."""
        count = 0
        while True:
            try:
                count += self.socket.recvfrom(LARGEST)[1][0] == address
            except BlockingIOError:
                return count

    def announcements(self, name: str) -> list[bytes]:
        """Return the TXT records that an instance has announced unasked since the last call.

        python-zeroconf answers questions too. Such an answer has the unasked records among its additional records.
        """
        return _texts(name, [packet for packet in self.packets() if not packet.num_additionals])

    def lives(self, name: str) -> list[bool]:
        """Return for each TXT record of an instance since the last call: True if it is present, False for a goodbye."""
        records = [record for packet in self.packets() if packet.is_response() for record in packet.answers()]
        return [record.ttl > 0 for record in records if isinstance(record, DNSText) and record.name == name]

    def texts(self, name: str) -> list[bytes]:
        """Return the TXT records of an instance since the last call, asked for or not."""
        return _texts(name, self.packets())

    async def announced(self, name: str, within: float) -> None:
        """Wait for the next announcement of an instance. Raises TimeoutError."""
        deadline = time.monotonic() + within
        while not self.announcements(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} has not announced itself within {within} s")
            await asyncio.sleep(0.005)


def _texts(name: str, packets: list[DNSIncoming]) -> list[bytes]:
    records = [record for packet in packets if packet.is_response() for record in packet.answers()]
    return [r.text for r in records if isinstance(r, DNSText) and r.name == name and r.ttl]


@contextmanager
def overhear(address: str) -> Iterator[Overheard]:
    """Listen until the end of the block, on the interface that has this address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        listener.bind((GROUP, PORT))  # this address only: unicast packets are for one other program
        joined = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(address))
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        listener.setblocking(False)
        yield Overheard(listener)
