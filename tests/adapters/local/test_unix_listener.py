"""The life of a socket file: that of a dead daemon is replaced; that of a running one and other files stay."""

import asyncio
import logging
import os
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pskkey.adapters.complaints import Complaints
from pskkey.adapters.local import waiting_room
from pskkey.adapters.local.local_access import LocalAccess
from pskkey.adapters.local.unix_listener import UnixListener
from pskkey.errors import ConfigError
from tests.no_descriptors import no_descriptor_left

OURS = LocalAccess.of((), ())
LOG = logging.getLogger(__name__)
EVERYBODY = LocalAccess(OURS.uids | {4711}, ())


async def listen(
    path: Path, inherited: socket.socket | None = None, counters: Counter[str] | None = None
) -> UnixListener:
    listener = UnixListener(Counter() if counters is None else counters, Complaints(LOG))
    await listener.start(asyncio.Protocol, path, OURS, inherited)
    return listener


def can_connect(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def status(path: Path) -> os.stat_result:
    return path.stat()


def chmod(path: Path, mode: int) -> None:
    path.chmod(mode)


def replace(path: Path, mode: int) -> None:
    path.unlink()
    path.touch(mode)


def make(path: Path, mode: int) -> None:
    path.touch(mode)


def link_to(sock: Path, target: Path, link: Path, kept: Path) -> None:
    link.symlink_to(target)
    kept.hardlink_to(sock)


def is_there(path: Path) -> bool:
    return path.exists()


async def test_file_exists_as_long_as_the_listener(tmp_path: Path) -> None:
    listener = await listen(tmp_path / "s")
    assert can_connect(tmp_path / "s")
    listener.close()
    await listener.wait_closed()
    assert not is_there(tmp_path / "s")


async def test_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
        dead.listen()
    assert not can_connect(tmp_path / "s")
    listener = await listen(tmp_path / "s")
    assert can_connect(tmp_path / "s")
    listener.close()


async def test_socket_of_a_running_daemon_is_not_touched(tmp_path: Path) -> None:
    first = await listen(tmp_path / "s")
    with pytest.raises(ConfigError, match="/s: another daemon listens there; stop it or set another socket path"):
        await listen(tmp_path / "s")
    assert can_connect(tmp_path / "s")
    first.close()


async def test_socket_of_a_busy_daemon_is_not_touched(tmp_path: Path) -> None:
    clients = []
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        for _ in range(2):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect_ex(str(tmp_path / "s"))
            clients.append(client)
        with pytest.raises(ConfigError, match="another daemon listens there"):
            await listen(tmp_path / "s")
    for client in clients:
        client.close()


async def test_other_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ConfigError, match="/s: is in the way and no socket; remove it or set another socket path"):
        await listen(tmp_path / "s")
    assert (tmp_path / "s").read_text() == "precious"


async def test_replaced_file_is_not_removed(tmp_path: Path) -> None:
    first = await listen(tmp_path / "s")
    (tmp_path / "s").unlink()
    second = await listen(tmp_path / "s")
    first.close()
    assert can_connect(tmp_path / "s")
    second.close()


async def test_missing_directory_is_made(tmp_path: Path) -> None:
    listener = await listen(tmp_path / "run" / "s")
    assert can_connect(tmp_path / "run" / "s")
    listener.close()


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (lambda directory: directory / "no" / "such" / "s", "cannot listen there: No such file or directory; set"),
        (lambda directory: directory / ("x" * 120), "cannot listen there: the path is too long for a Unix socket"),
        (lambda directory: directory / ("x" * 300), "cannot listen there: File name too long; set"),
    ],
)
async def test_impossible_paths_are_reported(tmp_path: Path, place: Callable[[Path], Path], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        await listen(place(tmp_path))


async def test_inherited_socket_is_used_and_its_file_stays(tmp_path: Path) -> None:
    inherited = socket.socket(socket.AF_UNIX)
    inherited.bind(str(tmp_path / "s"))
    inherited.listen()
    kept = os.dup(inherited.fileno())
    listener = await listen(tmp_path / "elsewhere", inherited)
    assert can_connect(tmp_path / "s")
    assert not is_there(tmp_path / "elsewhere")
    listener.close()
    assert can_connect(tmp_path / "s"), "connections queue until the next daemon takes the socket"
    os.close(kept)


async def test_mode_of_the_file_follows_the_access(tmp_path: Path) -> None:
    listener = await listen(tmp_path / "s")
    for access, mode in ((EVERYBODY, 0o666), (OURS, 0o660)):
        listener.permit(access)
        assert stat.S_IMODE(status(tmp_path / "s").st_mode) == mode
    # The mode of another file in its place stays.
    replace(tmp_path / "s", 0o600)
    listener.permit(EVERYBODY)
    assert stat.S_IMODE(status(tmp_path / "s").st_mode) == 0o600
    listener.close()


async def test_mode_that_cannot_be_changed_for_want_of_a_descriptor_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listener = await listen(tmp_path / "s")
    with no_descriptor_left():
        listener.permit(EVERYBODY)
    assert "Too many open files" in caplog.text
    listener.permit(EVERYBODY)
    assert stat.S_IMODE(status(tmp_path / "s").st_mode) == 0o666
    listener.close()


SWAP = """
import os, sys
place, link, kept = sys.argv[1:]
print(flush=True)
while True:
    os.link(link, place + ".new", follow_symlinks=False)
    os.replace(place + ".new", place)
    os.link(kept, place + ".new")
    os.replace(place + ".new", place)
"""
"""Replaces the socket by a link and back, in a loop. A user who may write to the directory could do so."""


async def test_link_in_the_place_of_the_socket_is_not_followed(tmp_path: Path) -> None:
    target, link, kept = tmp_path / "target", tmp_path / "link", tmp_path / "kept"
    make(target, 0o600)
    listener = await listen(tmp_path / "s")
    link_to(tmp_path / "s", target, link, kept)
    arguments = ("-c", SWAP, tmp_path / "s", link, kept)
    swapping = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=subprocess.PIPE)
    try:
        assert swapping.stdout is not None
        await swapping.stdout.readline()
        modes = set()
        for turn in range(4000):
            listener.permit((EVERYBODY, OURS)[turn % 2])
            modes.add(stat.S_IMODE(status(kept).st_mode))
    finally:
        swapping.kill()
        await swapping.communicate()
    assert stat.S_IMODE(status(target).st_mode) == 0o600
    assert modes == {0o660, 0o666}, "the socket itself was found sometimes"
    listener.close()


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077])
async def test_mode_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    former = os.umask(umask)
    try:
        listener = await listen(tmp_path / "s")
        assert stat.S_IMODE(status(tmp_path / "s").st_mode) == 0o660
        assert os.umask(umask) == umask
    finally:
        os.umask(former)
    listener.close()


@pytest.mark.parametrize(
    ("mode", "access", "warnings"), [(0o660, EVERYBODY, 2), (0o666, EVERYBODY, 0), (0o660, OURS, 0)]
)
async def test_unit_of_an_inherited_socket_that_keeps_users_out_causes_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, access: LocalAccess, warnings: int
) -> None:
    inherited = socket.socket(socket.AF_UNIX)
    inherited.bind(str(tmp_path / "s"))
    chmod(tmp_path / "s", mode)
    listener = UnixListener(Counter(), Complaints(LOG))
    await listener.start(asyncio.Protocol, tmp_path / "elsewhere", access, inherited)
    listener.permit(access)
    listener.close()
    assert stat.S_IMODE(status(tmp_path / "s").st_mode) == mode
    logged = [record.message for record in caplog.records]
    assert len(logged) == warnings
    assert all(sentence.startswith(f"{tmp_path}/s: the configuration names users") for sentence in logged)


async def test_connection_that_is_closed_before_its_turn_is_counted_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting_room, "PLACES", 2)
    counters: Counter[str] = Counter()
    listener = await listen(tmp_path / "s", counters=counters)
    clients = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for client in clients:
        client.connect(str(tmp_path / "s"))
        client.setblocking(False)
    await asyncio.sleep(0.2)
    closed = [client for client in clients if is_closed(client)]
    assert counters == {"connections_refused": len(closed)}
    assert 0 < len(closed) < len(clients)
    assert {record.message for record in caplog.records} == {
        f"user {os.geteuid()}: a connection was closed before its turn: too many wait"
    }
    listener.close()
    for client in clients:
        client.close()


def is_closed(client: socket.socket) -> bool:
    try:
        return not client.recv(1)
    except BlockingIOError:
        return False
