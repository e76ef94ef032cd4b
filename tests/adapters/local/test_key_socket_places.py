"""The places at `keys.sock`: silent connections lose theirs, each user has a limit, and root always finds one."""

import asyncio
import contextlib
import subprocess
from pathlib import Path

import pytest

from pskkey.adapters.local import key_socket
from pskkey.adapters.local.key_socket import MAX_CONNECTIONS, MAX_CONNECTIONS_OF_OTHERS, MAX_CONNECTIONS_OF_USER
from pskkey.adapters.local.local_access import LocalAccess
from pskkey.core.events import Disconnected
from pskkey.model import ErrorMessage, KeyWatch
from pskkey.wire.packet import encode
from tests.adapters.local.other_user import NOBODY, acts_as_nobody, let_everybody_enter
from tests.adapters.local.test_key_socket import Daemon, SessionManager, daemon

WATCH = encode(KeyWatch(will_send=False))

OCCUPY = """
import os, socket, sys
path, users, count, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), bytes.fromhex(sys.argv[4])
for user in range(users):
    if os.fork() == 0:
        os.setresuid(20000 + user, 20000 + user, 20000 + user)
        kept = []
        for _ in range(count):
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            try:
                s.sendall(first)
            except BrokenPipeError:
                pass
            kept.append(s)
        print(user, flush=True)
        sys.stdin.read()
        os._exit(0)
sys.stdin.read()
"""
"""Each user opens `count` connections and keeps them until standard input ends. Prints a line for each user."""


class Occupants:
    """Processes of other users that keep connections open."""

    def __init__(self, path: Path, users: int, count: int, first: bytes = b"") -> None:
        self._arguments = ("/usr/bin/python3", "-c", OCCUPY, path, str(users), str(count), first.hex())
        self._users = users

    async def __aenter__(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(20):
            for _ in range(self._users):
                assert await self._process.stdout.readline()

    async def __aexit__(self, *_: object) -> None:
        await self._process.communicate()


@pytest.fixture
def open_directory(tmp_path: Path) -> Path:
    """A directory that every user can enter."""
    return let_everybody_enter(tmp_path)


async def gets_a_place(here: Daemon) -> bool:
    """Whether a session manager of our own user gets a place."""
    manager = SessionManager(here.path)
    with contextlib.suppress(BrokenPipeError):
        await manager.send(WATCH)
    while not here.events.empty():
        here.events.get_nowait()
    refused = here.counters["connections_refused"]
    await asyncio.sleep(0.3)
    manager.socket.close()
    return here.counters["connections_refused"] == refused


async def wait_for_lost_places(here: Daemon, count: int) -> None:
    """Wait until `count` connections were refused or closed for a newer one. Check that there are no more."""
    async with asyncio.timeout(5):
        while True:
            if here.counters.total() >= count:
                break
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert here.counters.total() == count


async def test_silent_connection_is_closed_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_socket, "FIRST_MESSAGE_WITHIN", 0.2)
    async with daemon(tmp_path / "k") as here:
        silent, halting = SessionManager(here.path), SessionManager(here.path)
        talking, session = await here.session()
        await halting.send(WATCH[:-1])
        for manager in (silent, halting):
            answer = await manager.receive()
            assert isinstance(answer, ErrorMessage)
            assert (answer.code, answer.message) == ("silent", "no message came within 0.2 s")
            assert await manager.receive() is None
        assert here.counters["connections_silent"] == 2
        assert here.events.empty(), "a silent connection was never a session"
        here.sockets.send(session, ErrorMessage("x", "still there"))
        assert await talking.receive() == ErrorMessage("x", "still there")


async def test_oldest_silent_connection_makes_room_and_sessions_do_not(tmp_path: Path) -> None:
    async with daemon(tmp_path / "k") as here:
        talking = [await here.session() for _ in range(MAX_CONNECTIONS - 2)]
        first, second = SessionManager(here.path), SessionManager(here.path)
        newcomers = [await here.session() for _ in range(2)]
        for manager in (first, second):
            answer = await manager.receive()
            assert isinstance(answer, ErrorMessage)
            assert answer == ErrorMessage("busy", "no message had come, and its place was needed")
        refused = SessionManager(here.path)
        answer = await refused.receive()
        assert isinstance(answer, ErrorMessage)
        assert answer == ErrorMessage("busy", f"{MAX_CONNECTIONS} session managers are connected already")
        assert here.events.empty()
        for manager, _ in (*talking, *newcomers):
            manager.socket.close()


@acts_as_nobody
async def test_user_has_a_limited_number_of_places(open_directory: Path) -> None:
    async with daemon(open_directory / "k") as here:
        here.path.chmod(0o666)
        here.sockets.permit(permitted(20000))
        async with Occupants(here.path, 1, MAX_CONNECTIONS_OF_USER + 5, WATCH):
            await wait_for_lost_places(here, 5)
            assert await gets_a_place(here)


@acts_as_nobody
@pytest.mark.parametrize("first", [b"", WATCH])
async def test_root_finds_a_place_whatever_others_take(open_directory: Path, first: bytes) -> None:
    users = MAX_CONNECTIONS_OF_OTHERS // MAX_CONNECTIONS_OF_USER + 1
    async with daemon(open_directory / "k") as here:
        here.sockets.permit(permitted(*range(20000, 20000 + users), NOBODY))
        async with Occupants(here.path, users, MAX_CONNECTIONS_OF_USER, first):
            await wait_for_lost_places(here, MAX_CONNECTIONS_OF_USER)
            assert await gets_a_place(here)


@acts_as_nobody
async def test_session_ends_when_its_user_loses_access(open_directory: Path) -> None:
    async with daemon(open_directory / "k") as here:
        here.sockets.permit(permitted(20000))
        async with Occupants(here.path, 1, 1, WATCH):
            session = await here.attached()
            here.sockets.permit(permitted())
            assert await here.next() == Disconnected(
                session, "user 20000 may not fetch keys here any more; see [handoff]"
            )


def permitted(*users: int) -> LocalAccess:
    """Return the access of root, our own user and these users."""
    return LocalAccess(LocalAccess.of((), ()).uids | set(users), ())
