"""A daemon that its service manager restarts goes on with its keys, after a crash and after a stop."""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from pskkey.client.watcher import AsyncKeyWatcher
from pskkey.model import KeyState
from tests.lab.daemon import Daemon, Status
from tests.lab.group import Group, key_of
from tests.lab.service import Service
from tests.system.loopback import Loopback

WITHIN = 15.0


async def until(daemon: Daemon, is_true: Callable[[Status], bool]) -> Status:
    """Wait until a condition is true for the status; return the status."""
    deadline = time.monotonic() + WITHIN
    while (status := await daemon.status()) is None or not is_true(status):
        assert time.monotonic() < deadline, f"{status}\n{daemon.log}"
        await asyncio.sleep(0.02)
    return status


async def until_master(daemon: Daemon) -> Status:
    """Wait until the daemon is the master and has a key; return its status."""
    return await until(daemon, lambda status: status["role"] == "master" and key_of(status) is not None)


async def until_it_may_send(watcher: AsyncKeyWatcher) -> KeyState:
    """Wait until a session manager may send. Acknowledge each key on the way."""
    while True:
        state = await watcher.wait(WITHIN)
        for entry in state.entries:
            watcher.acknowledge(entry.epoch)
        if state.sender_id is not None and any(entry.send for entry in state.entries):
            return state


async def start_again(daemon: Daemon, number: signal.Signals) -> None:
    """End a daemon by a signal and start it again."""
    daemon.signal(number)
    await daemon.ended()
    daemon.start()


@asynccontextmanager
async def session_manager(daemon: Daemon) -> AsyncIterator[list[KeyState]]:
    """Attach a session manager that sends and acknowledges. Yield the states that it receives once it may send."""
    async with AsyncKeyWatcher(daemon.keys_socket, will_send=True) as watcher:
        states = [await until_it_may_send(watcher)]

        async def follow() -> None:
            while True:
                state = await watcher.wait()
                for entry in state.entries:
                    watcher.acknowledge(entry.epoch)
                states.append(state)

        following = asyncio.create_task(follow())
        try:
            yield states
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def until_quiet(received: Mapping[str, list[KeyState]]) -> dict[str, int]:
    """Wait until session managers receive no more states; return the number that each has received."""
    deadline = time.monotonic() + WITHIN
    counts: dict[str, int] = {}
    while counts != (found := {name: len(states) for name, states in received.items()}):
        assert time.monotonic() < deadline, counts
        counts = found
        await asyncio.sleep(1.0)
    return counts


def has_sending_session(status: Status) -> bool:
    """Return whether a session manager that sends is attached."""
    return any(session["sender"] for session in status["sessions"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_restart_of_a_lone_daemon_sends_no_new_state_to_its_session_manager(
    loopback: Loopback, number: signal.Signals
) -> None:
    daemon = loopback.service("n1")
    daemon.start()
    async with session_manager(daemon) as states:
        before = await until_master(daemon)
        await start_again(daemon, number)
        again = await until_master(daemon)
        await until(daemon, has_sending_session)
        await asyncio.sleep(1.0)
        assert states == states[:1]
    assert again["term"] > before["term"]
    assert again["sender_id"] == states[0].sender_id
    assert [key["epoch"] for key in again["keys"]] == [1]
    assert daemon.stored == ("keystate", "port")


@pytest.mark.parametrize("role", ["client", "master"])
async def test_killed_member_comes_back_with_its_lease_and_no_rekey_follows(loopback: Loopback, role: str) -> None:
    services = [loopback.service(f"n{number}") for number in (1, 2, 3)]
    group = Group(services)
    group.start()
    async with AsyncExitStack() as stack:
        received = {service.name: await stack.enter_async_context(session_manager(service)) for service in services}
        counts = await until_quiet(received)
        _, before = await group.together(WITHIN)
        (killed, *_) = group.of(before, role)
        await start_again(killed, signal.SIGKILL)
        await group.together(WITHIN)
        await until(killed, has_sending_session)
        await asyncio.sleep(1.5)
        _, after = await group.together(WITHIN)
        assert {name: states[counts[name] :] for name, states in received.items()} == {name: [] for name in received}
    for name, status in after.items():
        was = before[name]
        assert status is not None
        assert was is not None
        assert status["sender_id"] == was["sender_id"]
        assert [key["epoch"] for key in status["keys"]] == [key["epoch"] for key in was["keys"]]


async def test_daemon_with_another_node_id_does_not_use_the_stored_keys(loopback: Loopback) -> None:
    daemon = loopback.service("n1")
    daemon.start()
    before = await until_master(daemon)
    daemon.config.write_text(daemon.config.read_text().replace(daemon.id, "feedfacefeedface"))
    await start_again(daemon, signal.SIGKILL)
    assert key_of(await until_master(daemon)) != key_of(before)
    assert daemon.stored == ("keystate", "port")


@pytest.mark.parametrize("damage", ["wiped", "flipped", "cannot be written", "read only", "not ours"])
async def test_damaged_store_is_reported_and_not_used(loopback: Loopback, damage: str) -> None:
    daemon = loopback.service("n1")
    daemon.start()
    before = await until_master(daemon)
    daemon.signal(signal.SIGKILL)
    await daemon.ended()
    spoil(stored_in(daemon), damage)
    size = len(daemon.log)
    daemon.start()
    after = await until_master(daemon)
    assert key_of(after) != key_of(before)
    assert ("beginning anew" in daemon.log[size:]) == (damage != "wiped")
    assert daemon.stored == ("keystate", "port")
    await start_again(daemon, signal.SIGKILL)
    assert key_of(await until_master(daemon)) == key_of(after), "the new one is kept"


def spoil(fd: int, damage: str) -> None:
    """Damage the stored file in this way."""
    size = os.fstat(fd).st_size
    match damage:
        case "wiped":
            os.pwrite(fd, bytes(size), 0)
        case "flipped":
            os.pwrite(fd, bytes(byte ^ 0x10 if byte else 0 for byte in os.pread(fd, size, 0)), 0)
        case "cannot be written":
            sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
            os.pwrite(sealed, os.pread(fd, size, 0), 0)
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE
            fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, seals)
            replace(fd, sealed)
        case "read only":
            replace(fd, os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))
        case "not ours":
            replace(fd, os.open(os.devnull, os.O_RDWR))


def replace(fd: int, other: int) -> None:
    """Put another file in the place of `fd`."""
    os.dup2(other, fd)
    os.close(other)


async def test_stored_descriptor_of_another_version_is_released(loopback: Loopback) -> None:
    daemon = loopback.service("n1")
    daemon.store("novelty", os.open(os.devnull, os.O_RDWR))
    daemon.start()
    await until_master(daemon)
    assert "'novelty' is no listening socket" in daemon.log
    assert daemon.stored == ("keystate", "port")


async def test_service_without_a_store_logs_that_a_restart_keeps_no_keys(loopback: Loopback) -> None:
    daemon = loopback.service("n1")
    daemon.start({"FDSTORE": "0"})
    await until_master(daemon)
    assert "a restart does not keep the keys: FileDescriptorStoreMax= of the service is 0" in daemon.log
    assert daemon.stored == ()


async def test_store_is_sealed_and_keeps_no_retired_key(loopback: Loopback) -> None:
    daemon = loopback.service("n1", {"key": {"retire_after": 0.5}})
    daemon.start()
    before = await until_master(daemon)
    fd = stored_in(daemon)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SEAL
    pms = read_pms(fd)
    assert len(pms) == 1
    await daemon.call("Rekey")
    await until(daemon, lambda status: [key["epoch"] for key in status["keys"]] == [before["keys"][0]["epoch"] + 1])
    assert len(read_pms(fd)) == 1
    assert read_pms(fd) != pms


async def test_daemon_without_a_service_manager_keeps_no_keys(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    daemon.start()
    before = await until_master(daemon)
    await start_again(daemon, signal.SIGKILL)
    assert key_of(await until_master(daemon)) != key_of(before)


def stored_in(service: Service) -> int:
    """Return the descriptor of the key state in its store."""
    (fd,) = service.stored_as("keystate")
    return fd


def read_pms(fd: int) -> set[bytes]:
    """Return the pre-master secrets that lie in a store: they begin with the version of DTLS."""
    content = os.pread(fd, os.fstat(fd).st_size, 0)
    places = [at for at in range(len(content) - 64) if content[at : at + 2] == b"\xfe\xfd"]
    found = {content[at : at + 64] for at in places}
    return {pms for pms in found if pms[48:] == bytes(16) and any(pms[2:48])}
