"""A daemon with a low limit of open files: it goes on without those that it cannot open, and recovers."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from pskkey.model import KeyWatch
from pskkey.wire.packet import encode
from tests.lab.daemon import Control, Daemon, Status
from tests.lab.group import Group
from tests.system.loopback import DIES_WITH_US, Loopback
from tests.system.starting import status_of

LIMIT: Final = 48
"""Open files of the daemon. It needs fewer than 20 itself."""
CONNECTIONS: Final = 60
"""More than the daemon can accept, and fewer than it would refuse."""
OBSERVED: Final = 2.0
"""Seconds."""
FAILURES_A_SECOND: Final = 12
MOST_PROCESSOR_TIME: Final = 0.5
"""Seconds within OBSERVED. A loop that spins takes nearly all of them."""


def limited(loopback: Loopback) -> Daemon:
    """Return a daemon that is not started, whose interface has a name, which it must look up for each status."""
    prefix = (*DIES_WITH_US, "prlimit", f"--nofile={LIMIT}:{LIMIT}", "--")
    return loopback.daemon("n1", {"network": {"interfaces": ["lo"]}}, prefix)


@contextmanager
def crowd(path: Path) -> Iterator[None]:
    """Keep so many connections open at a Unix socket that the daemon has no descriptor left."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.connect(str(path))
            if path.name == "keys.sock":
                connection.send(encode(KeyWatch(will_send=False)))
        yield


async def accept_failures(daemon: Daemon) -> int:
    """Return the counter of a daemon. The connection for this question was opened before."""
    count: int = (await status_of(daemon))["counters"].get("accept_failures", 0)
    return count


async def becomes(condition: Callable[[Status], bool], daemon: Daemon) -> None:
    """Wait until the status of the daemon fulfils this condition. Raises TimeoutError."""
    async with asyncio.timeout(10):
        while True:
            if condition(await status_of(daemon)):
                return
            await asyncio.sleep(0.02)


async def run_out(daemon: Daemon) -> None:
    """Wait until the daemon has no descriptor left."""
    await becomes(lambda status: "accept_failures" in status["counters"], daemon)


def processor_time(daemon: Daemon) -> float:
    fields = daemon.proc("stat").rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def serves_session_managers(daemon: Daemon) -> bool:
    reader, writer = await asyncio.open_unix_connection(daemon.keys_socket)
    writer.write(encode(KeyWatch(will_send=False)))
    answer = await reader.read(1)
    writer.close()
    return bool(answer)


@pytest.mark.parametrize("name", ["keys.sock", "control.sock"])
async def test_accepting_pauses_without_descriptors_and_goes_on_with_them(loopback: Loopback, name: str) -> None:
    daemon = limited(loopback)
    daemon.start()
    await Group([daemon]).together(20)
    with crowd(daemon.directory / name):
        await run_out(daemon)
        before, spent = await accept_failures(daemon), processor_time(daemon)
        await asyncio.sleep(OBSERVED)  # the time over which it is measured
        assert 1 <= await accept_failures(daemon) - before <= OBSERVED * FAILURES_A_SECOND
        assert processor_time(daemon) - spent < MOST_PROCESSOR_TIME
    async with asyncio.timeout(10):
        assert await serves_session_managers(daemon)
        assert await Control(daemon.control_socket).status() is not None
    assert daemon.log.count(f"{daemon.directory / name}: accepting a connection failed: Too many open files") == 1
    assert "Traceback" not in daemon.log
    assert "Exception in" not in daemon.log


async def test_without_descriptors_a_status_and_a_reload_are_answered(loopback: Loopback) -> None:
    daemon = limited(loopback)
    daemon.start()
    await Group([daemon]).together(20)
    with crowd(daemon.keys_socket):
        await run_out(daemon)
        assert (await status_of(daemon))["warnings"] == []
        daemon.signal(signal.SIGHUP)
        await becomes(lambda status: any("the last reload failed" in text for text in status["warnings"]), daemon)
    assert "not reloaded, nothing changed" in daemon.log
    assert "Too many open files" in daemon.log
    assert "Traceback" not in daemon.log


async def test_node_without_descriptors_joins_its_group_when_it_has_some(loopback: Loopback) -> None:
    daemon, other = limited(loopback), loopback.daemon("n2", {"network": {"interfaces": ["lo"]}})
    daemon.start()
    await Group([daemon]).together(20)
    with crowd(daemon.keys_socket):
        await run_out(daemon)
        other.start()
        await becomes(lambda _: "could not join" in daemon.log + other.log, daemon)
    await Group([daemon, other]).together(20)
    assert "Traceback" not in daemon.log
