#!/usr/bin/python3
"""A session manager in Python: multicast DTLS under the group key of the local pskkeyd.

It works like session_manager.c, and together with it: it sends a numbered datagram at a steady rate, receives those of
the other members, and prints at the end how many were lost.
"""

import argparse
import asyncio
import contextlib
import secrets
import signal
import struct
import sys
from dataclasses import dataclass

import pskkey
import pskkey.mcast

DENIED = 4
"""The exit code for a user who may not read the group key, as that of pskkeyctl."""
PAYLOAD = struct.Struct(">QQ")
"""One number drawn at the sender's start, and one that counts from 0."""


@dataclass
class Sender:
    """The datagrams from one sender id."""

    run: int = -1
    next: int = 0
    received: int = 0
    lost: int = 0

    def count(self, payload: bytes) -> None:
        """Take a datagram of this sender."""
        self.received += 1
        if len(payload) != PAYLOAD.size:
            return  # of a program that does not number
        run, number = PAYLOAD.unpack(payload)
        if run == self.run and number < self.next:  # it was not lost but late
            self.lost -= 1
            return
        if run == self.run:
            self.lost += number - self.next
        self.run, self.next = run, number + 1


async def send(group: pskkey.mcast.JoinedGroup, rate: float) -> None:
    """Send for ever."""
    run, number = secrets.randbits(64), 0
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        try:
            group.send(PAYLOAD.pack(run, number))
            number += 1
        except pskkey.mcast.CannotSend:
            await group.ready()  # until there is a key to send with
            due = loop.time()
        due += 1 / rate
        await asyncio.sleep(due - loop.time())


async def receive(group: pskkey.mcast.JoinedGroup, senders: dict[int, Sender]) -> None:
    """Receive for ever."""
    async for message in group:
        senders.setdefault(message.sender_id, Sender()).count(message.plaintext)


async def take_part(options: argparse.Namespace, senders: dict[int, Sender]) -> None:
    """Be a member of the group for ever. Waits for the daemon, if it is not there yet."""
    async with (
        pskkey.mcast.join(options.group, options.port, interface=options.interface) as group,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(send(group, options.rate))
        tasks.create_task(receive(group, senders))


async def run(options: argparse.Namespace) -> None:
    """Take part until SIGTERM, Ctrl-C or the end of the duration, then print what was received."""
    senders: dict[int, Sender] = {}
    part = asyncio.create_task(take_part(options, senders))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, part.cancel)
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        await asyncio.wait_for(part, options.duration)
    for sender_id, sender in sorted(senders.items()):
        print(f"sender {sender_id}: received {sender.received}, lost {sender.lost}")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Send and receive over multicast DTLS.")
    parser.add_argument("--group", default="239.255.0.1")
    parser.add_argument("--port", type=int, default=12345)
    parser.add_argument("--interface", help="by its name, index or address; default: what the system chooses")
    parser.add_argument("--rate", type=float, default=50.0, help="datagrams a second")
    parser.add_argument("--duration", type=float, help="seconds; default: until SIGTERM or Ctrl-C")
    options = parser.parse_args()
    mistakes: list[Exception] = []
    try:
        asyncio.run(run(options))
    except* pskkey.PskkeyError as errors:
        mistakes += errors.exceptions
    for mistake in mistakes:
        print(f"{parser.prog}: {mistake}", file=sys.stderr)
    if mistakes:
        raise SystemExit(DENIED if isinstance(mistakes[0], pskkey.PeerError) else 1)


if __name__ == "__main__":
    main()
