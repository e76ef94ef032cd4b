"""A daemon with the environment of its systemd unit keeps no copy of a retired key in its memory."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from pskkey.client.watcher import AsyncKeyWatcher
from tests.quality.tracked import ROOT
from tests.system.loopback import Loopback
from tests.system.pskkeyctl_process import run

PMS_SIZE = 48
"""Bytes of a PMS without its padding."""
RETIRED_WITHIN = 10.0
"""Seconds after a rekey, with a `retire_after` of 1 s."""


def environment_of(unit: str) -> dict[str, str]:
    """Return the environment variables that a systemd unit sets."""
    lines = (ROOT / "systemd" / unit).read_text("utf-8").splitlines()
    settings = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]
    return dict(setting.split("=", 1) for setting in settings)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, which runs, during the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + 5
        while Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.001)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def copies(pid: int, secret: bytes) -> int:
    """Count the copies of a secret in the writable memory of a process, all at the same moment.

    A process that runs may replace the only copy in a part that is not read yet by one in a part that was read.
    """
    found = 0
    with (
        stopped(pid),
        Path(f"/proc/{pid}/maps").open() as maps,
        Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory,
    ):
        for line in maps:
            span, permissions = line.split()[:2]
            if permissions.startswith("rw"):
                begin, end = (int(address, 16) for address in span.split("-"))
                memory.seek(begin)
                found += memory.read(end - begin).count(secret)
    return found


async def copies_of_a_retired_key(loopback: Loopback, environ: Mapping[str, str]) -> tuple[list[int], list[int]]:
    """Count the copies of a key in a master and two clients, while it is in use and after it is retired."""
    daemons = [loopback.daemon(f"n{n}", {"key": {"retire_after": 1.0}}) for n in range(3)]
    for daemon in daemons:
        daemon.start(environ)
    for daemon in daemons:
        assert (await run(daemon, "wait", "--synced"))[0] == 0
    async with AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(AsyncKeyWatcher(d.keys_socket, will_send=True)) for d in daemons]
        states = [await watcher.wait(5) for watcher in watchers]
        # The newest key, because a new session manager makes the group rekey.
        key = states[0].entries[-1].key
        secret = key.pms.reveal()[:PMS_SIZE]
        in_use = [copies(daemon.pid, secret) for daemon in daemons]
        assert (await run(daemons[0], "rekey", "--wait"))[0] == 0
        async with asyncio.timeout(RETIRED_WITHIN):
            for watcher, state in zip(watchers, states, strict=True):
                now = state
                while key in [entry.key for entry in now.entries]:
                    now = await watcher.wait()
        await asyncio.sleep(1.0)  # until the last packet, which lists another key, has overwritten it
        return in_use, [copies(daemon.pid, secret) for daemon in daemons]


@pytest.mark.root
@pytest.mark.parametrize("unit", ["pskkeyd.service", "pskkeyd@.service"])
async def test_a_retired_key_leaves_no_copy(loopback: Loopback, unit: str) -> None:
    in_use, retired = await copies_of_a_retired_key(loopback, environment_of(unit))
    assert all(in_use), "the count finds a key that is there"
    assert retired == [0, 0, 0]


@pytest.mark.root
async def test_count_finds_a_key_that_is_not_overwritten(loopback: Loopback) -> None:
    _, retired = await copies_of_a_retired_key(loopback, {})
    assert sum(retired) > 0
