"""A network of one thread: an interface with many addresses that receives its own multicast. Needs root.

No other program uses it, so the test causes all packets that it counts there.
"""

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.lab.namespaces import INTERFACE
from tests.system.mdns_wire import GROUP, PORT, Overheard, overhear

OWN: Final = "10.83.0.1"
"""Our address; `source` returns those of others."""

MAX_SOURCES: Final = 200

HEADERS: Final = 42
"""Bytes of Ethernet, IPv4 and UDP before a message."""


def source(number: int) -> str:
    """Return the address of a stranger. The number is from 0 to MAX_SOURCES - 1."""
    return f"10.83.1.{number + 1}"


@contextmanager
def own_network(*lines: bytes | str) -> Iterator[None]:
    """Put the sockets and processes that this thread makes in the block into an empty network of their own.

    `lines` are the commands for `ip` that set it up.
    """
    former = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        os.unshare(os.CLONE_NEWNET)
        try:
            configure(*lines)
            yield
        finally:
            os.setns(former, os.CLONE_NEWNET)
    finally:
        os.close(former)


def configure(*lines: bytes | str) -> None:
    """Run commands of `ip` in the network of this thread."""
    encoded = [line if isinstance(line, bytes) else line.encode() for line in lines]
    subprocess.run(["ip", "-batch", "-"], input=b"\n".join(encoded), check=True)


def set_sysctl(path: str, value: int) -> None:
    """Set a value below /proc/sys/net in the network of this thread."""
    Path("/proc/sys/net", path).write_text(str(value))


def bridge(name: bytes | str, *addresses: str) -> list[bytes]:
    """Return the commands that make a bridge with these addresses and no others."""
    encoded = name if isinstance(name, bytes) else name.encode()
    lines = [b"link add %s type bridge", b"link set %s addrgenmode none", b"link set %s up"]
    for address in map(str.encode, addresses):
        lines += [b"address add " + address + b" dev %s" + (b" nodad" if b":" in address else b"")]
    return [line % encoded for line in lines]


def flood_of_addresses(interface: str) -> list[str]:
    """Return commands that change addresses so often that the notifications fill the buffer of a socket."""
    return [
        f"address {change} 192.0.2.{number}/32 dev {interface}"
        for _ in range(8)
        for change in ("add", "delete")
        for number in range(1, 255)
    ]


@contextmanager
def private_network() -> Iterator[None]:
    """Put the sockets that this thread makes in the block into a network of its own."""
    with own_network(
        "link set lo up",
        f"link add {INTERFACE} type veth peer name peer",
        f"link set {INTERFACE} addrgenmode none",  # duplicate address detection would delay it
        "link set peer up",
        f"link set {INTERFACE} multicast on up",
        f"address add {OWN}/16 dev {INTERFACE}",
        f"address add fe80::83/64 dev {INTERFACE} nodad",
        *(f"address add {source(number)}/16 dev {INTERFACE}" for number in range(MAX_SOURCES)),
        f"route add 224.0.0.0/4 dev {INTERFACE}",
    ):
        yield


class Stranger:
    """Sends to the multicast group of mDNS from one address."""

    def __init__(self, number: int = 0, port: int = PORT) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source(number)))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._socket.bind((source(number), port))

    def send(self, datagram: bytes) -> None:
        """Send a datagram to the multicast group."""
        self._socket.sendto(datagram, (GROUP, PORT))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Flood:
    """Sends messages at a rate from a thread, in turn from several addresses. Counts the packets of `OWN`."""

    def __init__(
        self, make: Callable[[int], bytes], rate: float, sources: Sequence[int] = (0,), port: int = PORT
    ) -> None:
        """`make` returns the message of a number; `rate` is in bytes a second, with the headers of IP and Ethernet."""
        self.sent = self.answers = 0
        self._make, self._rate = make, rate
        self._strangers = [Stranger(number, port) for number in sources]
        self._is_over = threading.Event()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            strangers = [stack.enter_context(stranger) for stranger in self._strangers]
            # It waits here, before the flood begins, while the kernel removes the namespace of another test.
            wire = stack.enter_context(overhear(OWN))
            self._thread = threading.Thread(target=self._run, args=(wire, strangers))
            self._thread.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()
        self._stack.close()

    def _run(self, wire: Overheard, strangers: Sequence[Stranger]) -> None:
        due, at = 0.0, time.monotonic()
        while not self._is_over.wait(0.005):
            now = time.monotonic()
            due = min(due + (now - at) * self._rate, 0.02 * self._rate)  # no burst after a pause of the machine
            at = now
            while due > 0.0:
                datagram = self._make(self.sent)
                strangers[self.sent % len(strangers)].send(datagram)
                self.sent += 1
                due -= len(datagram) + HEADERS
            self.answers += wire.count_from(OWN)


class LoopWatch:
    """Watches the running event loop: `longest_turn`, in seconds of processor time, and `errors`, its unhandled errors.

    It measures processor time, because other programs of the machine may use the processor at any time.
    """

    def __init__(self) -> None:
        self.longest_turn = 0.0
        self.errors: list[dict[str, Any]] = []
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        self._at = 0.0

    def __enter__(self) -> Self:
        self._loop.set_exception_handler(lambda _, context: self.errors.append(context))
        self._at = time.thread_time()
        self._loop.call_soon(self._turn)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._loop.set_exception_handler(None)

    def forget(self) -> None:
        """Begin the measurement again."""
        self.longest_turn, self._at = 0.0, time.thread_time()

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest_turn, self._at = max(self.longest_turn, now - self._at), now
        if not self._is_over:
            self._loop.call_later(0.001, self._turn)
