"""Members of a multicast group, each with the key of its own daemon: the session manager in C, and one in Python.

All send the numbered datagrams of `session_manager.c`, so that each can tell what it has lost of the others.
"""

import asyncio
import os
import re
import signal
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

from pskkey import AsyncKeyWatcher, Suite
from pskkey.mcast import CannotSend, JoinedGroup, MulticastEndpoint, join
from tests.lab.daemon import Daemon

INTERFACE: Final = "127.0.0.1"
RATE: Final = 200
_NUMBERS: Final = struct.Struct("!QQ")  # one drawn at the start, and one that counts from 0


class StartDaemons(Protocol):
    """Starts daemons of one group and waits until all have its one key; the first is the master."""

    async def __call__(self, count: int, suite: Suite = ...) -> list[Daemon]: ...


class Place(NamedTuple):
    """A multicast group."""

    address: str
    port: int


@dataclass
class Tally:
    """What a member did: how many it sent, and for each sender id what it received and lost."""

    sent: int = 0
    received: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    lost: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    refused: int = 0


class CMember:
    """`session_manager.c`, running."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = asyncio.Event()
        self.lines: list[str] = []

    @classmethod
    @asynccontextmanager
    async def run(cls, program: Path, keys_socket: Path, place: Place) -> AsyncIterator[Self]:
        """Start it, and kill it at the end if nothing else has ended it."""
        options = ["--keys", str(keys_socket), "--group", place.address, "--port", str(place.port)]
        options += ["--interface", INTERFACE, "--rate", str(RATE)]
        process = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.PIPE)
        member = cls(process)
        reading = asyncio.create_task(member._read())
        try:
            yield member
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await reading

    async def says(self, *lines: str, within: float = 10.0) -> None:
        """Wait until it has printed all these lines, in this order, others between them or not."""
        try:
            async with asyncio.timeout(within):
                while not in_order(lines, self.lines):
                    self._said.clear()
                    await self._said.wait()
        except TimeoutError:
            raise AssertionError(f"{lines} was not said, but {self.lines}") from None

    def hears_with(self, epoch: int) -> bool:
        """Whether it sends with the key of `epoch` and receives with it."""
        begins = f"epoch {epoch}: sending as sender "
        return f"epoch {epoch}: installed for reception" in self.lines and any(x.startswith(begins) for x in self.lines)

    async def stop(self) -> Tally:
        """End it as systemd would; return what it counted."""
        self._process.send_signal(signal.SIGTERM)
        await self.says("sent *")
        assert await self._process.wait() == 0
        tally = Tally()
        for line in self.lines:
            if found := re.fullmatch(r"sender (\d+): received (\d+), lost (\d+)", line):
                sender, received, lost = map(int, found.groups())
                tally.received[sender], tally.lost[sender] = received, lost
            elif found := re.fullmatch(r"sent (\d+), received \d+, lost \d+, refused (\d+)", line):
                tally.sent, tally.refused = map(int, found.groups())
        return tally

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
            self._said.set()


def in_order(wanted: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether the wanted lines are there in this order; one that ends in * is a beginning."""
    rest = iter(lines)
    return all(any(_is(line, want) for line in rest) for want in wanted)


def _is(line: str, want: str) -> bool:
    return line.startswith(want[:-1]) if want.endswith("*") else line == want


class PythonMember:
    """A session manager of a few lines of Python."""

    def __init__(self, session: JoinedGroup) -> None:
        self.session = session
        self.tally = Tally()
        self._run = int.from_bytes(os.urandom(8))
        self._heard: dict[int, tuple[int, int]] = {}
        self._hears = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def run(cls, keys_socket: Path, place: Place) -> AsyncIterator[Self]:
        """Join, send and receive until the end."""
        async with (
            join(place.address, place.port, interface=INTERFACE, path=keys_socket, timeout=10) as session,
            asyncio.TaskGroup() as tasks,
        ):
            member = cls(session)
            await session.ready()
            running = [tasks.create_task(member._send()), tasks.create_task(member._receive())]
            try:
                yield member
            finally:
                for task in running:
                    task.cancel()

    def hears_with(self, epoch: int) -> bool:
        """Whether it sends with the key of `epoch` and receives with it."""
        return self.session.send_epoch == epoch and epoch in self.session.epochs

    @property
    def heard(self) -> int:
        """How many datagrams it has received of all others together."""
        return sum(self.tally.received.values())

    async def hears(self, total: float, within: float = 5.0) -> None:
        """Wait until it has received more than `total` of all others together."""
        try:
            async with asyncio.timeout(within):
                while self.heard <= total:
                    self._hears.clear()
                    await self._hears.wait()
        except TimeoutError:
            raise AssertionError(f"only {self.heard} were heard, not more than {total}") from None

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                assert self.session.send(_NUMBERS.pack(self._run, self.tally.sent))
                self.tally.sent += 1
            except CannotSend:
                await self.session.ready()
            due += 1 / RATE
            await asyncio.sleep(due - loop.time())

    async def _receive(self) -> None:
        async for message in self.session:
            run, number = _NUMBERS.unpack(message.plaintext)
            heard_run, following = self._heard.get(message.sender_id, (None, 0))
            self.tally.received[message.sender_id] += 1
            self._hears.set()
            if run == heard_run:
                # Loopback does not reorder, so what is not next is lost.
                assert number >= following
                self.tally.lost[message.sender_id] += number - following
            self._heard[message.sender_id] = run, number + 1


async def one_key(daemons: Sequence[Daemon], within: float = 10.0) -> int:
    """Wait until all daemons have the same one key; return its epoch."""
    async with asyncio.timeout(within):
        while True:
            keys = set()
            for daemon in daemons:
                async with AsyncKeyWatcher(daemon.keys_socket) as watcher:
                    state = await watcher.wait()
                    keys.add(tuple((entry.epoch, entry.key.fingerprint) for entry in state.entries))
            if len(keys) == 1 and len(only := keys.pop()) == 1:
                return only[0][0]
            await asyncio.sleep(0.05)


async def settled(daemons: Sequence[Daemon], members: Sequence[CMember | PythonMember], within: float = 20.0) -> int:
    """Wait until all members send and receive with one key, and no other one is on its way; return its epoch.

    Each that begins has the group rekey, for it receives with no key from before.
    """
    async with asyncio.timeout(within):
        while True:
            epoch = await one_key(daemons, within)
            if all(member.hears_with(epoch) for member in members):
                return epoch
            await asyncio.sleep(0.05)


class Header(NamedTuple):
    """What a record says of itself in clear: with the key, this is the nonce."""

    epoch: int
    sender_id: int
    sequence: int


class Wire:
    """Sees every datagram of the group, without a key."""

    def __init__(self) -> None:
        self.headers: list[Header] = []

    @classmethod
    @asynccontextmanager
    async def tap(cls, place: Place) -> AsyncIterator[Self]:
        """Listen until the end; then no epoch, sender id and sequence number may have been there twice."""
        wire = cls()
        with MulticastEndpoint(place.address, place.port, wire._received, interface=INTERFACE):
            yield wire
        assert len(set(wire.headers)) == len(wire.headers), "a sequence number was used twice under one key"

    @property
    def senders(self) -> set[int]:
        """The sender ids of all that was sent."""
        return {header.sender_id for header in self.headers}

    def epochs_of(self, sender_id: int) -> list[int]:
        """The epochs in which this sender has sent, in order."""
        return sorted({header.epoch for header in self.headers if header.sender_id == sender_id})

    def _received(self, datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            content_type, version = datagram[0], datagram[1:3]
            assert (content_type, version) == (23, b"\xfe\xfd"), "nothing but application data, and no alerts"
            self.headers.append(
                Header(int.from_bytes(datagram[3:5]), datagram[5], int.from_bytes(datagram[6:11])),
            )
