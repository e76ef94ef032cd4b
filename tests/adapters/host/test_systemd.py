"""Notifications to a service manager over a real socket (sd_notify(3)) that has no room for a while."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pskkey.adapters.host.systemd import Systemd


class Manager:
    """The service manager's end of the socket. It reads only on request."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._path = path

    def fill(self) -> None:
        """Leave no room for another message."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            other.connect(str(self._path))
            try:
                while True:
                    other.send(b"X_OTHER=1")
            except BlockingIOError:
                return

    def read(self) -> list[str]:
        """Return the messages that are there, without those of `fill`."""
        messages = []
        try:
            while True:
                messages.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            return [message.partition("\n")[0] for message in messages if message != "X_OTHER=1"]

    async def receive(self, count: int) -> list[str]:
        """Return at least `count` messages, or those that came within 5 seconds."""
        deadline = time.monotonic() + 5
        received = self.read()
        while len(received) < count and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            received += self.read()
        return received

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    yield manager
    manager.close()


async def test_ready_is_sent_until_it_is_received(manager: Manager) -> None:
    systemd = Systemd(os.environ)
    manager.fill()
    systemd.ready()
    assert manager.read() == []
    assert await manager.receive(1) == ["READY=1"]
    await systemd.stopping()
    assert manager.read() == ["STOPPING=1"]


async def test_end_of_a_reload_is_sent_after_its_begin_until_it_is_received(manager: Manager) -> None:
    systemd = Systemd(os.environ)
    systemd.ready()
    systemd.reloading()
    assert manager.read() == ["READY=1", "RELOADING=1"]
    manager.fill()
    systemd.reloaded()
    assert manager.read() == []
    assert await manager.receive(1) == ["READY=1"]
    manager.fill()
    for _ in range(3):
        systemd.reloading()
        systemd.reloaded()
    assert manager.read() == []
    assert await manager.receive(2) == ["RELOADING=1", "READY=1"]
    await systemd.stopping()


async def test_unsent_notifications_are_not_sent_after_the_end(manager: Manager) -> None:
    systemd = Systemd(os.environ)
    manager.fill()
    systemd.ready()
    await systemd.stopping()
    manager.read()
    await asyncio.sleep(0.7)
    assert manager.read() == []


async def test_status_beyond_latin_letters_arrives(manager: Manager) -> None:
    systemd = Systemd(os.environ)
    systemd.status("Master of Grüße → 世界")
    assert manager.read() == ["STATUS=Master of Grüße → 世界"]
    await systemd.stopping()
