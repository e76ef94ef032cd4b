"""Members of a multicast group, each with the key of its own daemon: the session manager in C, and one in Python.

All send the numbered datagrams of `session_manager.c`, so that each member can count the lost datagrams of the others.
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
_NUMBERS: Final = struct.Struct("!QQ")  # a random number of this run, and a count from 0


class StartDaemons(Protocol):
    """Starts daemons of one group, and waits until all have the same one key. The first one is the master."""

    async def __call__(self, count: int, suite: Suite = ...) -> list[Daemon]: ...


class Place(NamedTuple):
    """A multicast group."""

    address: str
    port: int


@dataclass
class Tally:
    """The datagram counts of one member: sent, refused, and for each sender id received and lost."""

    sent: int = 0
    received: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    lost: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    refused: int = 0


class CMember:
    """A running `session_manager.c`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._printed = asyncio.Event()
        self.lines: list[str] = []

    @classmethod
    @asynccontextmanager
    async def run(cls, program: Path, keys_socket: Path, place: Place) -> AsyncIterator[Self]:
        """Start it. At the end, kill it if it still runs."""
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

    async def wait_until_printed(self, *lines: str, within: float = 10.0) -> None:
        """Wait until it has printed all these lines, in this order. Other lines may be between them."""
        try:
            async with asyncio.timeout(within):
                while not in_order(lines, self.lines):
                    self._printed.clear()
                    await self._printed.wait()
        except TimeoutError:
            raise AssertionError(f"the lines {lines} were not printed; printed were {self.lines}") from None

    def is_using_epoch(self, epoch: int) -> bool:
        """Whether it sends with the key of `epoch` and receives with it."""
        begins = f"epoch {epoch}: sending as sender "
        return f"epoch {epoch}: installed for reception" in self.lines and any(x.startswith(begins) for x in self.lines)

    async def stop(self) -> Tally:
        """End it by SIGTERM, as systemd does; return its counts."""
        self._process.send_signal(signal.SIGTERM)
        await self.wait_until_printed("sent *")
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
        """End it by SIGKILL."""
        self._process.kill()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.lines.append(line.decode().rstrip("\n"))
            self._printed.set()


def in_order(wanted: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether `lines` has the wanted lines in this order. A wanted line that ends in * is only a prefix."""
    rest = iter(lines)
    return all(any(_is(line, want) for line in rest) for want in wanted)


def _is(line: str, want: str) -> bool:
    return line.startswith(want[:-1]) if want.endswith("*") else line == want


class PythonMember:
    """A short session manager in Python."""

    def __init__(self, session: JoinedGroup) -> None:
        self.session = session
        self.tally = Tally()
        self._run = int.from_bytes(os.urandom(8))
        self._last_numbers: dict[int, tuple[int, int]] = {}
        self._has_received = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def run(cls, keys_socket: Path, place: Place) -> AsyncIterator[Self]:
        """Join the group, and send and receive until the end."""
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

    def is_using_epoch(self, epoch: int) -> bool:
        """Whether it sends with the key of `epoch` and receives with it."""
        return self.session.send_epoch == epoch and epoch in self.session.epochs

    @property
    def received(self) -> int:
        """The number of datagrams that it has received from all others together."""
        return sum(self.tally.received.values())

    async def wait_until_received(self, total: float, within: float = 5.0) -> None:
        """Wait until it has received more than `total` datagrams from all others together."""
        try:
            async with asyncio.timeout(within):
                while self.received <= total:
                    self._has_received.clear()
                    await self._has_received.wait()
        except TimeoutError:
            raise AssertionError(f"only {self.received} datagrams were received, not more than {total}") from None

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
            last_run, following = self._last_numbers.get(message.sender_id, (None, 0))
            self.tally.received[message.sender_id] += 1
            self._has_received.set()
            if run == last_run:
                # Loopback does not reorder, so the numbers in between are lost.
                assert number >= following
                self.tally.lost[message.sender_id] += number - following
            self._last_numbers[message.sender_id] = run, number + 1


async def wait_until_one_key(daemons: Sequence[Daemon], within: float = 10.0) -> int:
    """Wait until all daemons have the same key and no other; return its epoch."""
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


async def wait_until_settled(
    daemons: Sequence[Daemon], members: Sequence[CMember | PythonMember], within: float = 20.0
) -> int:
    """Wait until all members send and receive with one key, and the daemons have no other; return its epoch.

    Each new member makes the group rekey, because it does not receive with a key from before its start.
    """
    async with asyncio.timeout(within):
        while True:
            epoch = await wait_until_one_key(daemons, within)
            if all(member.is_using_epoch(epoch) for member in members):
                return epoch
            await asyncio.sleep(0.05)


class Header(NamedTuple):
    """The fields that a record carries in clear. They make the nonce, so they must not come twice under one key."""

    epoch: int
    sender_id: int
    sequence: int


class Wire:
    """Records the header of every datagram of the group, without a key."""

    def __init__(self) -> None:
        self.headers: list[Header] = []

    @classmethod
    @asynccontextmanager
    async def tap(cls, place: Place) -> AsyncIterator[Self]:
        """Listen until the end. Then assert that no two datagrams had the same epoch, sender id and sequence number."""
        wire = cls()
        with MulticastEndpoint(place.address, place.port, wire._received, interface=INTERFACE):
            yield wire
        assert len(set(wire.headers)) == len(wire.headers), "a sequence number was used twice under one key"

    @property
    def senders(self) -> set[int]:
        """The sender ids of all datagrams."""
        return {header.sender_id for header in self.headers}

    def epochs_of(self, sender_id: int) -> list[int]:
        """Return the epochs in which this sender has sent, in ascending order."""
        return sorted({header.epoch for header in self.headers if header.sender_id == sender_id})

    def _received(self, datagrams: Sequence[bytes]) -> None:
        for datagram in datagrams:
            content_type, version = datagram[0], datagram[1:3]
            assert (content_type, version) == (23, b"\xfe\xfd"), "the datagram is not application data"
            self.headers.append(
                Header(int.from_bytes(datagram[3:5]), datagram[5], int.from_bytes(datagram[6:11])),
            )
