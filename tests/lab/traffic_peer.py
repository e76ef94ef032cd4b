"""A session manager that sends one multicast DTLS datagram a tick, and notes all datagrams that it sends or hears.

    python -m tests.lab.traffic_peer NUMBER KEYS_SOCKET REPORT

It follows `keys.sock` with the product's own code and sends to GROUP, PORT. It writes `hears NUMBER` to
standard output when it hears a peer for the first time, and with its own number when it sends for the first time.
Commands on standard input, one a line: `hush` ends the sending, `report` writes the file REPORT and ends the process.
The end of the input ends the process too.

Content of a datagram, big-endian: number of the peer u16, number of the tick u32, time of sending u64 (nanoseconds of
CLOCK_MONOTONIC, which all processes of a machine share).
"""

import asyncio
import base64
import gc
import json
import os
import struct
import sys
import time
import zlib
from array import array
from pathlib import Path
from typing import Any, Final

from pskkey.mcast import CannotSend, JoinedGroup, Message, join

GROUP: Final = "239.255.83.1"
PORT: Final = 5083
TICK_NS: Final = 20_000_000
LATE_NS: Final = 1_000_000_000
"""A datagram with a longer delay counts as lost."""

SENT: Final = ord("s")
MUTED: Final = ord("m")
REFUSED: Final = ord("r")
"""The outcome of a tick: a datagram was sent; there was no key to send with; the network did not accept it."""

MISSING: Final = 0
HEARD: Final = 1

_PAYLOAD: Final = struct.Struct(">HIQ")
_STDIN: Final = 0
_RECEIVE_BUFFER: Final = 16 << 20


class TrafficPeer:
    """The sender and the receiver of one node, and their notes."""

    def __init__(self, number: int, session: JoinedGroup) -> None:
        self._number = number
        self._session = session
        self._hushed = False
        self._ticks = bytearray()
        self._times = array("Q")
        self._heard: dict[int, bytearray] = {}
        self._slowest = 0
        self._late = 0
        self._repeated = 0
        self._reasons: list[tuple[int, str]] = []

    async def send(self) -> None:
        """Send on every tick of the clock until hushed; after a stall, send for all overdue ticks at once."""
        begin = time.monotonic_ns()
        while not self._hushed:
            due = begin + len(self._ticks) * TICK_NS
            await asyncio.sleep((due - time.monotonic_ns()) / 1e9)
            self._tick()

    async def receive(self) -> None:
        """Note every datagram that arrives."""
        async for message in self._session:
            self._note(message)

    def hush(self) -> None:
        """Send nothing more."""
        self._hushed = True

    def report(self) -> dict[str, Any]:
        """Return the notes for JSON; arrays are packed by `packed`."""
        return {
            "number": self._number,
            "ticks": packed(self._ticks),
            "times": packed(self._times),
            "heard": {number: packed(marks) for number, marks in self._heard.items()},
            "late": self._late,
            "repeated": self._repeated,
            "slowest_ns": self._slowest,
            "muted_because": self._reasons,
            "host_drops": _host_drops(),
        }

    def _tick(self) -> None:
        now = time.monotonic_ns()
        tick = len(self._ticks)
        try:
            taken = self._session.send(_PAYLOAD.pack(self._number, tick, now))
        except CannotSend as error:
            outcome = MUTED
            if not self._reasons or self._ticks[-1] != MUTED:
                self._reasons.append((now, str(error)))
        else:
            outcome = SENT if taken else REFUSED
            if self._number not in self._heard:
                self._heard[self._number] = bytearray()
                print("hears", self._number, flush=True)
        self._ticks.append(outcome)
        self._times.append(now)

    def _note(self, message: Message) -> None:
        number, tick, sent_at = _PAYLOAD.unpack(message.plaintext)
        delay = time.monotonic_ns() - sent_at
        marks = self._heard.get(number)
        if marks is None:
            marks = self._heard[number] = bytearray()
            print("hears", number, flush=True)
        if tick >= len(marks):
            marks.extend(bytes(tick + 1024 - len(marks)))
        self._slowest = max(self._slowest, delay)
        if delay > LATE_NS:
            self._late += 1
        elif marks[tick]:
            self._repeated += 1
        else:
            marks[tick] = HEARD


def packed(notes: bytearray | array[int]) -> str:
    """Return notes, numbers in the order of this machine, small enough for a line of JSON."""
    return base64.b64encode(zlib.compress(bytes(notes), 1)).decode("ascii")


def unpacked(text: str) -> bytes:
    """Return the notes that `packed` has packed."""
    return zlib.decompress(base64.b64decode(text))


def _host_drops() -> int:
    """Return how many datagrams the kernel had no room for at our socket (proc(5), /proc/net/udp)."""
    lines = Path("/proc/self/net/udp").read_text("ascii").splitlines()[1:]
    return sum(int(fields[-1]) for fields in map(str.split, lines) if int(fields[1].rpartition(":")[2], 16) == PORT)


async def _run(number: int, keys: str) -> dict[str, Any] | None:
    """Send and receive until a command ends it; return the notes if the command is `report`."""
    loop = asyncio.get_running_loop()
    commands: asyncio.Queue[str] = asyncio.Queue()

    def read() -> None:
        for word in os.read(_STDIN, 4096).decode("ascii").split() or ["end"]:
            commands.put_nowait(word)

    loop.add_reader(_STDIN, read)
    async with join(GROUP, PORT, path=keys, receive_buffer=_RECEIVE_BUFFER) as session:
        peer = TrafficPeer(number, session)
        async with asyncio.TaskGroup() as tasks:
            streaming = [tasks.create_task(peer.send()), tasks.create_task(peer.receive())]
            while (command := await commands.get()) == "hush":
                peer.hush()
            for task in streaming:
                task.cancel()
        return peer.report() if command == "report" else None


def main() -> None:
    """Run the command line."""
    number, keys, path = sys.argv[1:]
    # The notes are kept to the end. A garbage collection would look like a slow network.
    gc.disable()
    report = asyncio.run(_run(int(number), keys))
    if report is not None:
        Path(path).write_text(json.dumps(report))


if __name__ == "__main__":
    main()
