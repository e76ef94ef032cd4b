"""KeyWatcher and AsyncKeyWatcher against the daemon's end of `keys.sock`, played by this test, on real sockets."""

import asyncio
import contextlib
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pskkey.client.watcher import AsyncKeyWatcher, KeyWatcher
from pskkey.errors import PeerError
from pskkey.model import (
    ErrorMessage,
    Heartbeat,
    Key,
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyState,
    KeyWatch,
    Message,
)
from pskkey.secret import Secret
from pskkey.wire.packet import Channel, PacketReader, Side, encode
from tests.adapters.local.other_user import acts_as_nobody, let_everybody_enter
from tests.no_descriptors import no_descriptor_left


def state(*epochs: int, filling: int = 1) -> KeyState:
    key = Key(Secret(bytes([filling]) * 64), bytes(32), bytes(32))
    return KeyState(4, frozenset({4}), tuple(KeyEntry(epoch, key, send=epoch == epochs[-1]) for epoch in epochs))


class Daemon:
    """The daemon's end: accepts one connection at a time, and sends and receives what the test asks for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.listener.settimeout(5)
        self.connection = socket.socket(socket.AF_UNIX)

    def accept(self) -> None:
        self.connection.close()
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(5)
        self._reader = PacketReader(Channel.KEYS, Side.SERVER)
        self._received: list[Message] = []

    def send(self, *messages: Message) -> None:
        self.connection.sendall(b"".join(map(encode, messages)))

    def receive(self) -> Message:
        while not self._received:
            data = self.connection.recv(4096)
            assert data, "the watcher left"
            self._received += self._reader.receive_untrusted(data)
        return self._received.pop(0)

    def receive_watch(self) -> KeyWatch:
        message = self.receive()
        assert isinstance(message, KeyWatch)
        assert message.context != 0
        return message

    def close(self) -> None:
        self.connection.close()
        self.listener.close()
        self.path.unlink()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    here = Daemon(tmp_path / "keys.sock")
    yield here
    here.connection.close()
    here.listener.close()


class Watcher:
    """Either watcher, with the same methods for a test."""

    def __init__(self, watch: AsyncKeyWatcher | KeyWatcher) -> None:
        self.watch = watch

    async def wait(self, timeout: float = 5) -> KeyState:
        if isinstance(self.watch, AsyncKeyWatcher):
            return await self.watch.wait(timeout)
        return self.watch.wait(timeout)

    async def close(self) -> None:
        if isinstance(self.watch, AsyncKeyWatcher):
            await self.watch.close()
        else:
            self.watch.close()

    async def reach(self, daemon: Daemon) -> None:
        """Let the watcher work until it has connected and sent its first message, and accept it."""
        await self._work_until_readable(daemon.listener, "the watcher does not connect")
        daemon.accept()
        # Its time may have ended between the two, and a test that waits for the message keeps it from its work.
        await self._work_until_readable(daemon.connection, "the watcher does not send")

    async def _work_until_readable(self, awaited: socket.socket, fault: str) -> None:
        give_up = time.monotonic() + 5
        while not select.select([awaited], [], [], 0)[0]:
            assert time.monotonic() < give_up, fault
            await self.step()

    async def step(self) -> None:
        """Let the watcher work without expecting a change."""
        with pytest.raises(TimeoutError):
            await self.wait(0.03)


@pytest.fixture(params=[KeyWatcher, AsyncKeyWatcher], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> type[KeyWatcher] | type[AsyncKeyWatcher]:
    chosen: type[KeyWatcher] | type[AsyncKeyWatcher] = request.param
    return chosen


@pytest.fixture
def watcher(daemon: Daemon, kind: type[KeyWatcher] | type[AsyncKeyWatcher]) -> Watcher:
    return Watcher(kind(daemon.path, will_send=True))


async def test_first_wait_returns_the_present_state_and_later_waits_return_changes(
    daemon: Daemon, watcher: Watcher
) -> None:
    await watcher.reach(daemon)
    assert daemon.receive_watch().will_send
    daemon.send(state(1))
    assert await watcher.wait() == state(1)
    daemon.send(state(1), Heartbeat())
    await watcher.step()
    daemon.send(state(1, 2), state(2), state(2, 3))
    assert await watcher.wait() == state(2, 3)
    await watcher.close()


async def test_watcher_connects_as_soon_as_a_descriptor_is_free(daemon: Daemon, watcher: Watcher) -> None:
    with no_descriptor_left():
        await watcher.step()
    await watcher.reach(daemon)
    assert daemon.receive_watch().will_send
    await watcher.close()


async def test_acknowledgements_and_requests_reach_the_daemon(daemon: Daemon, watcher: Watcher) -> None:
    await watcher.reach(daemon)
    daemon.send(state(1, 2))
    await watcher.wait()
    watcher.watch.acknowledge(2)
    watcher.watch.acknowledge(9)
    watcher.watch.request_new_key(KeyNewReason.SEQUENCE_HIGH_WATER)
    daemon.receive_watch()
    assert [daemon.receive() for _ in range(2)] == [KeyAck(2), KeyNew(KeyNewReason.SEQUENCE_HIGH_WATER)]
    await watcher.close()


async def test_reconnect_is_hidden_from_the_caller_and_repeats_acknowledgements(
    daemon: Daemon, watcher: Watcher
) -> None:
    await watcher.reach(daemon)
    daemon.send(state(1))
    await watcher.wait()
    watcher.watch.acknowledge(1)
    first = daemon.receive_watch()
    daemon.connection.close()
    await watcher.step()
    watcher.watch.request_new_key()
    await watcher.reach(daemon)
    assert daemon.receive_watch() == first, "the sequence context is the same"
    assert daemon.receive() == KeyNew(KeyNewReason.OPERATOR)
    daemon.send(state(1))
    await watcher.step()
    assert daemon.receive() == KeyAck(1)
    daemon.send(state(1, 2))
    assert await watcher.wait() == state(1, 2)
    await watcher.close()


async def test_another_key_under_a_known_epoch_is_not_acknowledged(daemon: Daemon, watcher: Watcher) -> None:
    await watcher.reach(daemon)
    daemon.send(state(1, filling=1))
    await watcher.wait()
    watcher.watch.acknowledge(1)
    daemon.connection.close()
    await watcher.reach(daemon)
    daemon.send(state(1, filling=2))
    assert await watcher.wait() == state(1, filling=2)
    watcher.watch.request_new_key()
    daemon.receive_watch()
    assert daemon.receive() == KeyNew(KeyNewReason.OPERATOR)
    await watcher.close()


async def test_rubbish_and_errors_lead_to_a_new_connection(daemon: Daemon, watcher: Watcher) -> None:
    await watcher.reach(daemon)
    daemon.connection.sendall(b"HTTP/1.1 200 OK\r\n")
    await watcher.reach(daemon)
    daemon.send(ErrorMessage("busy", "too many session managers"))
    with pytest.raises(TimeoutError, match=r"keys\.sock: no key state: the daemon reports: too many session managers"):
        await watcher.wait(0.5)
    await watcher.reach(daemon)
    daemon.send(state(1))
    assert await watcher.wait() == state(1)
    await watcher.close()


async def test_denial_is_reported_at_once(daemon: Daemon, watcher: Watcher) -> None:
    await watcher.reach(daemon)
    daemon.send(ErrorMessage("denied", "user 5 may not fetch keys here"))
    daemon.connection.close()
    with pytest.raises(PeerError, match=r"keys\.sock: user 5 may not fetch keys here") as caught:
        await watcher.wait()
    assert caught.value.code == "denied"
    await watcher.close()


async def test_after_a_denial_that_follows_a_state_the_watcher_connects_again(daemon: Daemon, watcher: Watcher) -> None:
    await watcher.reach(daemon)
    daemon.send(state(1), ErrorMessage("denied", "not any more"))
    daemon.connection.close()
    assert await watcher.wait() == state(1)
    await watcher.step()
    await watcher.close()


async def test_daemon_may_come_later(tmp_path: Path, kind: type[KeyWatcher] | type[AsyncKeyWatcher]) -> None:
    watcher = Watcher(kind(tmp_path / "later.sock"))
    with pytest.raises(TimeoutError, match=r"later\.sock: no key state: No such file or directory"):
        await watcher.wait(0.5)
    daemon = Daemon(tmp_path / "later.sock")

    def serve() -> None:
        daemon.accept()
        assert not daemon.receive_watch().will_send
        daemon.send(state(1))

    server = threading.Thread(target=serve)
    server.start()
    assert await watcher.wait() == state(1)
    server.join()
    await watcher.close()
    daemon.close()


async def test_path_comes_from_the_environment(
    daemon: Daemon, kind: type[KeyWatcher] | type[AsyncKeyWatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PSKKEY_KEYS_SOCKET", str(daemon.path))
    watcher = Watcher(kind())
    await watcher.reach(daemon)
    daemon.send(state(1))
    assert await watcher.wait() == state(1)
    await watcher.close()


def test_fileno_reports_changes_across_reconnects(daemon: Daemon) -> None:
    with KeyWatcher(daemon.path) as watcher:
        number = watcher.fileno()

        def wait_readable() -> KeyState | None:
            ready, _, _ = select.select([watcher], [], [], 5)
            assert ready
            with contextlib.suppress(TimeoutError):
                return watcher.wait(0)
            return None

        assert wait_readable() is None
        daemon.accept()
        daemon.send(state(1))
        assert wait_readable() == state(1)
        assert select.select([watcher], [], [], 0) == ([], [], [])
        daemon.connection.close()
        assert wait_readable() is None
        assert wait_readable() is None
        daemon.accept()
        daemon.send(state(2))
        assert wait_readable() == state(2)
        assert watcher.fileno() == number


def test_waiting_costs_no_processor_time(tmp_path: Path) -> None:
    with KeyWatcher(tmp_path / "none.sock") as watcher:
        before = time.process_time()
        with pytest.raises(TimeoutError):
            watcher.wait(0.5)
        assert time.process_time() - before < 0.1


def test_close_leaves_no_descriptor(daemon: Daemon) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    watcher = KeyWatcher(daemon.path)
    with pytest.raises(TimeoutError):
        watcher.wait(0.01)
    watcher.close()
    watcher.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_cancelled_wait_loses_no_state(daemon: Daemon) -> None:
    async with AsyncKeyWatcher(daemon.path) as watcher:
        waiting = asyncio.create_task(watcher.wait())
        await asyncio.sleep(0.02)
        daemon.accept()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        daemon.send(state(1))
        assert await watcher.wait(5) == state(1)


@acts_as_nobody
async def test_socket_that_we_may_not_open_is_a_denial(tmp_path: Path, daemon: Daemon) -> None:
    daemon.path.chmod(0o600)
    let_everybody_enter(tmp_path)
    for name in ("KeyWatcher", "AsyncKeyWatcher"):
        call = "asyncio.run(w.wait(5))" if name.startswith("Async") else "w.wait(5)"
        code = (
            f"import os, sys, asyncio; sys.path.insert(0, sys.argv[2]); from pskkey.client.watcher import {name}\n"
            f"os.setgroups([]); os.setgid(65534); os.setuid(65534); w = {name}(sys.argv[1]); {call}"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, daemon.path, "daemon", stderr=subprocess.PIPE
        )
        _, output = await process.communicate()
        assert b"PeerError" in output
        assert b"keys.sock: permission denied; become root" in output


async def test_each_watcher_is_a_sequence_context_of_its_own(
    daemon: Daemon, kind: type[KeyWatcher] | type[AsyncKeyWatcher]
) -> None:
    contexts = set()
    for _ in range(2):
        watcher = Watcher(kind(daemon.path, will_send=True))
        await watcher.reach(daemon)
        contexts.add(daemon.receive_watch().context)
        await watcher.close()
        daemon.connection.close()
    assert len(contexts) == 2
