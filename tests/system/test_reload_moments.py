"""Reloads at difficult moments: while a file is being written, many at once, before a daemon is ready, as it ends."""

import asyncio
import math
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import batched

import pytest

from tests.lab.daemon import Daemon
from tests.system.loopback import Loopback
from tests.system.notify_socket import NotifySocket
from tests.system.reloading import edit, reload, until
from tests.system.starting import one_daemon, status_of

ATTEMPTS = 5
"""How often a test tries to meet the right moment. A busy machine may delay it for longer than the moment lasts."""

UNDISTURBED = 0.15
"""Seconds between two writes to a file. For the daemon a file is at rest 0.2 s after a write."""


class Pauses:
    """The pauses between our writes to a file."""

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds from the beginning of a write to the end of the next, so no less than the real pause."""
        self._since = math.inf

    @contextmanager
    def end(self) -> Iterator[None]:
        """End a pause: the block writes to the file."""
        begun = time.monotonic()
        yield
        self.longest = max(self.longest, time.monotonic() - self._since)
        self._since = begun


async def test_reload_waits_for_a_file_that_is_being_written(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    for _ in range(ATTEMPTS):
        edit(daemon, {"node": {"priority": 7}})
        lines = daemon.config.read_text().splitlines(keepends=True)
        size = len(daemon.log)
        with daemon.config.open("w") as file:  # as an editor that writes in place
            pauses = Pauses()
            for number, part in enumerate(batched(lines, 2, strict=False)):
                with pauses.end():
                    file.writelines(part)
                    file.flush()
                if number == 0:
                    daemon.signal(signal.SIGHUP)
                await asyncio.sleep(0.05)
        log = await until(daemon, "reloaded", size)
        await reload(daemon)  # after it the lines of the former are complete
        if "reloaded: [node] priority changed from 100 to 7" in log and "[network]" not in daemon.log[size:]:
            return
        assert pauses.longest >= UNDISTURBED, daemon.log[size:]
        edit(daemon, {"node": {"priority": 100}})
        await reload(daemon)
    pytest.fail(f"the machine delayed us each time: {log}")


async def test_reload_gives_up_on_a_file_that_never_rests(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    text = daemon.config.read_text()
    for _ in range(ATTEMPTS):
        size = len(daemon.log)
        deadline = time.monotonic() + 15
        pauses = Pauses()
        with pauses.end():
            daemon.config.write_text(text + "\n")
        daemon.signal(signal.SIGHUP)
        log = ""
        while "reloaded" not in log:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.03)
            log = daemon.log[size:]
            with pauses.end():
                daemon.config.write_text(text + "\n")
        if "is still being written; reload when it is complete" in log:
            return
        assert pauses.longest >= UNDISTURBED, log
    pytest.fail(f"the machine delayed us each time: {log}")


async def test_many_signals_cause_few_reloads(loopback: Loopback) -> None:
    with NotifySocket(loopback.directory / "notify") as notify:
        daemon = await one_daemon(loopback, environment=notify.environment)
        for priority in range(50):
            edit(daemon, {"node": {"priority": priority}})
            daemon.signal(signal.SIGHUP)
        await until(daemon, "to 49")
        await asyncio.sleep(0.5)
        assert (await status_of(daemon))["node"]["priority"] == 49
        deadline = time.monotonic() + 10
        while (counts := Counter(notify.heard))["READY=1"] != counts["RELOADING=1"] + 1:
            assert time.monotonic() < deadline, counts
            await asyncio.sleep(0.05)
        assert 1 <= counts["RELOADING=1"] <= 10


async def test_sighup_during_the_stop_does_no_harm(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    edit(daemon, {"node": {"priority": 7}})
    daemon.signal(signal.SIGHUP)
    daemon.signal(signal.SIGTERM)
    while daemon.exit_code is None:
        with suppress(ProcessLookupError):
            daemon.signal(signal.SIGHUP)
        await asyncio.sleep(0.0005)
    assert await daemon.ended() == 0
    assert "Traceback" not in daemon.log


async def test_sighup_before_the_daemon_is_ready_causes_a_reload_afterwards(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with loopback.psk.open("a") as file:  # nearly as many as it may have: reading them takes time
        file.writelines(f"{number}:{secrets.token_hex(16)}\n" for number in range(1700))
    for _ in range(ATTEMPTS):
        size = len(daemon.log)
        daemon.start()
        if await _reads_its_files(daemon, size):
            # The daemon does not serve signals yet. Now a file changes.
            edit(daemon, {"node": {"priority": 7}})
            daemon.signal(signal.SIGHUP)
            if "pskkeyd 0" not in daemon.log[size:]:
                break
        edit(daemon, {"node": {"priority": 100}})
        await daemon.stop()
    else:
        pytest.fail("we were too late each time")
    log = await until(daemon, "reloaded: ", size)
    assert log.index("pskkeyd 0") < log.index("reloaded: ")
    assert (await status_of(daemon))["node"]["priority"] == 7


async def _reads_its_files(daemon: Daemon, size: int) -> bool:
    """Wait until it reads them. Return False if it was ready before we saw that: its log then goes on after `size`."""
    deadline = time.monotonic() + 10
    while not _blocks_only(daemon, signal.SIGHUP):
        assert time.monotonic() < deadline
        if "pskkeyd 0" in daemon.log[size:]:
            return False
        await asyncio.sleep(0.001)
    return True


def _blocks_only(daemon: Daemon, number: signal.Signals) -> bool:
    """Return whether the process blocks this signal and no others (proc_pid_status(5)).

    Each process or thread blocks all signals for a moment when it begins.
    """
    fields = dict(line.split(b":", 1) for line in daemon.proc("status").splitlines())
    return int(fields[b"SigBlk"], 16) == 1 << (number - 1)
