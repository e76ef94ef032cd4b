"""A stranger that sends datagrams to the group of mDNS at a rate: `python -m tests.hostile.stranger ORDERS`.

Orders: `packets` (base64), `bytes_per_second`, `sources` (addresses of this host, used by turns). The kernel takes many
datagrams in one sendmmsg(2), so the attack costs the attacker little compared with the receivers.
"""

import base64
import ctypes
import select
import socket
import sys
import time
from typing import Final

from tests.hostile.attacker import Sent, orders, report

MDNS: Final = ("224.0.0.251", 5353)
TICK: Final = 0.01
"""Seconds between two rounds of sending."""
SEND_BUFFER: Final = 4 << 20
MOST_LATE: Final = 0.1
"""Seconds for which sending may be delayed; datagrams that were due before that are not sent any more."""
MOST_AT_ONCE: Final = 1024
"""Datagrams in one sendmmsg(2) (UIO_MAXIOV)."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """`struct msghdr` of sendmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Header(ctypes.Structure):
    """`struct mmsghdr` of sendmmsg(2): a message, and how many of its bytes were sent."""

    _fields_ = (("message", _Message), ("sent", ctypes.c_uint))


def mdns_socket(source: str) -> socket.socket:
    """Return a socket that sends from port 5353 of this address to the group of mDNS."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
    made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    made.bind((source, MDNS[1]))
    made.connect(MDNS)
    return made


def main() -> None:
    """Send until standard input ends."""
    read = orders()
    packets = [base64.b64decode(packet) for packet in read["packets"]]
    sockets = [mdns_socket(source) for source in read["sources"]]
    vectors = (_Vector * len(packets))(*(_Vector(packet, len(packet)) for packet in packets))
    headers = (_Header * len(packets))()
    for header, vector in zip(headers, vectors, strict=True):
        header.message.vectors, header.message.vector_count = ctypes.pointer(vector), 1
    sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
    sent = Sent()
    rate: float = read["bytes_per_second"]
    due, last, place, turn = 0.0, time.monotonic(), 0, 0
    while not select.select([sys.stdin], [], [], TICK)[0]:
        now = time.monotonic()
        due, last = min(due + rate * (now - last), rate * MOST_LATE), now
        while due > 0:
            count = 0
            while due > 0 and place + count < len(packets) and count < MOST_AT_ONCE:
                due -= len(packets[place + count])
                count += 1
            done = sendmmsg(sockets[turn].fileno(), ctypes.byref(headers[place]), count, 0)
            turn = (turn + 1) % len(sockets)
            if done < 0:
                sent.refused += count
                break
            sent.packets += done
            sent.bytes += sum(map(len, packets[place : place + done]))
            place = (place + count) % len(packets)
    report(sent)


if __name__ == "__main__":
    main()
