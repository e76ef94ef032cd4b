"""`keys.sock` with real sockets: access, sessions, and protection of one session manager from another."""

import asyncio
import os
import socket
import stat
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pskkey.adapters.local.key_socket import MAX_CONNECTIONS, KeySocket
from pskkey.core.events import Attached, Direction, Disconnected, Event, Received, Session
from pskkey.errors import ConfigError
from pskkey.model import (
    ErrorMessage,
    Heartbeat,
    Key,
    KeyAck,
    KeyEntry,
    KeyRequest,
    KeyResponse,
    KeyState,
    KeyWatch,
    Message,
)
from pskkey.secret import Secret
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from tests.adapters.local.other_user import NOBODY, acts_as_nobody, let_everybody_enter

KEY = Key(Secret(bytes(range(64))), bytes(32), bytes(32))


def state(epoch: int) -> KeyState:
    return KeyState(4, frozenset({4}), (KeyEntry(epoch, KEY, send=True),))


@dataclass
class Daemon:
    """A key socket and its events."""

    path: Path
    sockets: KeySocket
    counters: Counter[str]
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    async def next(self) -> Event:
        async with asyncio.timeout(5):
            return await self.events.get()

    async def session(self) -> "tuple[SessionManager, Session]":
        """Connect and send a first message, which makes a session."""
        manager = SessionManager(self.path)
        await manager.send(encode(KeyWatch(will_send=False)))
        return manager, await self.attached()

    async def attached(self) -> Session:
        """Return the next session, which begins with a KEY_WATCH."""
        event = await self.next()
        assert isinstance(event, Attached)
        assert await self.next() == Received(event.session, KeyWatch(will_send=False))
        return event.session


@asynccontextmanager
async def daemon(path: Path, users: tuple[str, ...] = (), groups: tuple[str, ...] = ()) -> AsyncIterator[Daemon]:
    events: asyncio.Queue[Event] = asyncio.Queue()
    counters: Counter[str] = Counter()
    sockets = KeySocket(users, groups, events.put_nowait, counters)
    await sockets.start(path)
    try:
        yield Daemon(path, sockets, counters, events)
    finally:
        await sockets.stop()


class SessionManager:
    """A client of `keys.sock` that reads only on request."""

    def __init__(self, path: Path) -> None:
        self._reader = PacketReader(Channel.KEYS, Side.CLIENT)
        self._messages: list[Message] = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setblocking(False)
        self.socket.connect(str(path))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def receive(self) -> Message | None:
        """Return the next message, or None when the connection was closed."""
        async with asyncio.timeout(5):
            while not self._messages:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
                if not data:
                    return None
                self._messages += self._reader.receive_untrusted(data)
        return self._messages.pop(0)


async def test_attached_names_the_process(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        manager = SessionManager(here.path)
        await manager.send(encode(KeyRequest()))
        event = await here.next()
        assert isinstance(event, Attached)
        assert event.session == Session(Direction.LOCAL, 1)
        assert await here.next() == Received(event.session, KeyRequest())
        assert (event.process.pid, event.process.uid) == (os.getpid(), os.geteuid())
        manager.socket.close()
        assert await here.next() == Disconnected(event.session, "the session manager closed the connection")


async def test_each_message_is_received_once_and_in_order(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        manager, session = await here.session()
        sent: list[Message] = [KeyWatch(will_send=True), KeyRequest(), KeyAck(7), Heartbeat()]
        stream = b"".join(encode(message) for message in sent)
        for at in range(len(stream)):
            await manager.send(stream[at : at + 1])
        assert [await here.next() for _ in sent] == [Received(session, message) for message in sent]
        assert here.events.empty()


async def test_answers_go_to_the_right_session_manager(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        (one, first), (other, second) = await here.session(), await here.session()
        here.sockets.send(second, state(2))
        here.sockets.send(first, KeyResponse(KEY))
        assert await one.receive() == KeyResponse(KEY)
        assert await other.receive() == state(2)


async def test_disconnect_sends_the_error_and_reports_nothing(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        manager, session = await here.session()
        here.sockets.disconnect(session, ErrorMessage("leaving", "good-bye"))
        assert await manager.receive() == ErrorMessage("leaving", "good-bye")
        assert await manager.receive() is None
        here.sockets.send(session, Heartbeat())
        here.sockets.disconnect(session)
        await asyncio.sleep(0.02)
        assert here.events.empty()


@pytest.mark.parametrize(
    "rubbish", [b"\x02\x01\x00\x00", b"GET / HTTP/1.1", b"\x01\x10\x00\x02{}", b"\x01\x01\xff\xff"]
)
async def test_rubbish_ends_its_own_session_only(tmp_path: Path, rubbish: bytes) -> None:
    async with daemon(tmp_path / "k") as here:
        good, first = await here.session()
        bad, second = await here.session()
        await bad.send(rubbish)
        event = await here.next()
        assert isinstance(event, Disconnected)
        assert event.session == second
        assert event.reason.startswith("the session manager sent a bad packet: ")
        assert here.counters["bad_packets"] == 1
        answer = await bad.receive()
        assert isinstance(answer, ErrorMessage)
        assert answer.code == "bad_packet"
        assert await bad.receive() is None
        here.sockets.send(first, state(1))
        assert await good.receive() == state(1)
        assert here.events.empty()


async def test_slow_reader_gets_the_newest_state(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        manager, session = await here.session()
        for epoch in range(1, 20001):
            here.sockets.send(session, state(epoch))
            here.sockets.send(session, Heartbeat())
        epochs: list[int] = []
        while not epochs or epochs[-1] != 20000:
            message = await manager.receive()
            if isinstance(message, KeyState):
                epochs.append(message.entries[0].epoch)
        assert epochs == sorted(epochs)
        assert len(epochs) < 5000, "of the states that did not fit, only the newest is sent"
        await manager.send(encode(KeyAck(20000)))
        assert await here.next() == Received(session, KeyAck(20000))


async def test_session_manager_that_asks_but_never_reads_is_held_back(tmp_path: Path) -> None:
    answered: Counter[Session] = Counter()

    def answer(event: Event) -> None:
        if isinstance(event, Received):
            answered[event.session] += 1
            sockets.send(event.session, KeyResponse(KEY))

    sockets = KeySocket((), (), answer, Counter())
    await sockets.start(tmp_path / "k")
    unreading, other = SessionManager(tmp_path / "k"), SessionManager(tmp_path / "k")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(unreading.send(encode(KeyRequest()) * 1_000_000), 0.5)
    (count,) = answered.values()
    assert 0 < count < 20000, "no request is read while answers wait"
    await other.send(encode(KeyRequest()))
    assert await other.receive() == KeyResponse(KEY)
    await asyncio.wait_for(sockets.stop(), 5)


async def test_session_manager_with_too_much_unread_is_closed(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        manager, session = await here.session()
        for _ in range(20000):
            here.sockets.send(session, KeyResponse(KEY))
        assert await here.next() == Disconnected(session, "the session manager asks for more than it reads")
        assert here.events.empty()
        manager.socket.close()


async def test_connections_are_limited(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        managers = []
        for _ in range(MAX_CONNECTIONS):
            manager, _ = await here.session()
            managers.append(manager)
        refused = SessionManager(here.path)
        answer = await refused.receive()
        assert isinstance(answer, ErrorMessage)
        assert answer.code == "busy"
        assert await refused.receive() is None
        assert here.counters["connections_refused"] == 1
        managers.pop().socket.close()
        assert isinstance(await here.next(), Disconnected)
        manager, _ = await here.session()
        managers.append(manager)
        for manager in managers:
            manager.socket.close()


async def test_stop_closes_sessions_and_removes_the_file(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        manager, _ = await here.session()
        await here.sockets.stop()
        assert await manager.receive() is None
        assert not here.path.exists()
        assert here.events.empty()


async def test_file_has_mode_0660_or_is_open_when_users_are_named(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k"):
        assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o660
    async with daemon(tmp_path / "k", users=("nobody",)):
        assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o666


async def test_missing_default_group_is_ignored(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k", groups=("pskkey",)) as here:
        await here.session()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="no-such-group is no group of this machine; create it"):
        KeySocket((), ("no-such-group",), lambda _: None, Counter())
    with pytest.raises(ConfigError, match="no-such-user is no user of this machine; create it"):
        KeySocket(("no-such-user",), (), lambda _: None, Counter())


CONNECT = """
import contextlib, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
with contextlib.suppress(BrokenPipeError):
    s.send(bytes([1, 1, 0, 0]))
print(s.recv(9999))
"""


async def connect_as(path: Path, groups: list[int]) -> bytes:
    """Connect as user nobody with these supplementary groups, in another process. Return the answer."""
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/python3", "-c", CONNECT, path,
        user=NOBODY, group=NOBODY, extra_groups=groups, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return output


@pytest.fixture
def open_directory(tmp_path: Path) -> Path:
    """A directory that every user can enter."""
    return let_everybody_enter(tmp_path)


@acts_as_nobody
async def test_other_user_cannot_open_the_socket(open_directory: Path) -> None:
    async with daemon(open_directory / "k") as here:
        assert b"PermissionError" in await connect_as(here.path, [])
        assert here.events.empty()


@acts_as_nobody
async def test_other_user_who_can_open_the_socket_is_denied(open_directory: Path) -> None:
    async with daemon(open_directory / "k") as here:
        here.path.chmod(0o666)
        output = await connect_as(here.path, [1, 2])
        assert b'"code":"denied"' in output
        assert b"user 65534 may not fetch keys here" in output
        assert here.counters["connections_refused"] == 1
        assert here.events.empty()


@acts_as_nobody
@pytest.mark.parametrize(
    ("users", "groups", "own"),
    [(("nobody",), (), []), ((), ("daemon",), [1]), ((), ("bin", "daemon"), [1]), ((), ("nogroup",), [])],
)
async def test_named_users_and_groups_are_admitted(
    open_directory: Path, users: tuple[str, ...], groups: tuple[str, ...], own: list[int]
) -> None:
    async with daemon(open_directory / "k", users, groups) as here:
        async with asyncio.TaskGroup() as tasks:
            connecting = tasks.create_task(connect_as(here.path, own))
            event = await here.next()
            assert isinstance(event, Attached)
            assert event.process.uid == NOBODY
            here.sockets.disconnect(event.session, ErrorMessage("leaving", "welcome all the same"))
        assert b"welcome all the same" in connecting.result()
