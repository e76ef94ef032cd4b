"""Reloads at awkward moments: while a file is being written, many at once, before a daemon is ready, as it ends."""

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
"""How often a test tries to be there at the right moment: a busy machine may hold it up for longer than that lasts."""

UNDISTURBED = 0.15
"""Seconds between two writes to a file that is at rest for the daemon after 0.2."""


class Rests:
    """For how long a file was left in peace between our writes."""

    def __init__(self) -> None:
        self.longest = 0.0
        """Seconds, from the beginning of a write to the end of the next: not less than it was."""
        self._since = math.inf

    @contextmanager
    def end(self) -> Iterator[None]:
        """Write to it in the block."""
        begun = time.monotonic()
        yield
        self.longest = max(self.longest, time.monotonic() - self._since)
        self._since = begun


async def test_a_file_that_is_being_written_is_waited_for(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    for _ in range(ATTEMPTS):
        edit(daemon, {"node": {"priority": 7}})
        lines = daemon.config.read_text().splitlines(keepends=True)
        size = len(daemon.log)
        with daemon.config.open("w") as file:  # what an editor does that writes in place
            rests = Rests()
            for number, part in enumerate(batched(lines, 2, strict=False)):
                with rests.end():
                    file.writelines(part)
                    file.flush()
                if number == 0:
                    daemon.signal(signal.SIGHUP)
                await asyncio.sleep(0.05)
        said = await until(daemon, "reloaded", size)
        await reload(daemon)  # and what was said to the former is whole
        if "reloaded: [node] priority changed from 100 to 7" in said and "[network]" not in daemon.log[size:]:
            return
        assert rests.longest >= UNDISTURBED, daemon.log[size:]
        edit(daemon, {"node": {"priority": 100}})
        await reload(daemon)
    pytest.fail(f"we were held up each time: {said}")


async def test_a_file_that_never_rests_is_given_up(loopback: Loopback) -> None:
    daemon = await one_daemon(loopback)
    text = daemon.config.read_text()
    for _ in range(ATTEMPTS):
        size = len(daemon.log)
        deadline = time.monotonic() + 15
        rests = Rests()
        with rests.end():
            daemon.config.write_text(text + "\n")
        daemon.signal(signal.SIGHUP)
        said = ""
        while "reloaded" not in said:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.03)
            said = daemon.log[size:]
            with rests.end():
                daemon.config.write_text(text + "\n")
        if "is still being written; reload when it is complete" in said:
            return
        assert rests.longest >= UNDISTURBED, said
    pytest.fail(f"we were held up each time: {said}")


async def test_many_wishes_are_few_reloads(loopback: Loopback) -> None:
    with NotifySocket(loopback.directory / "notify") as notify:
        daemon = await one_daemon(loopback, environment=notify.environment)
        for priority in range(50):
            edit(daemon, {"node": {"priority": priority}})
            daemon.signal(signal.SIGHUP)
        await until(daemon, "to 49")
        await asyncio.sleep(0.5)
        assert (await status_of(daemon))["node"]["priority"] == 49
        deadline = time.monotonic() + 10
        while (told := Counter(notify.heard))["READY=1"] != told["RELOADING=1"] + 1:
            assert time.monotonic() < deadline, told
            await asyncio.sleep(0.05)
        assert 1 <= told["RELOADING=1"] <= 10


async def test_a_wish_while_it_stops_does_no_harm(loopback: Loopback) -> None:
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


async def test_a_wish_before_it_is_ready_is_served_then(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    with loopback.psk.open("a") as file:  # as many as there may be, which take their time to read
        file.writelines(f"{number}:{secrets.token_hex(16)}\n" for number in range(1700))
    for _ in range(ATTEMPTS):
        size = len(daemon.log)
        daemon.start()
        if await _reads_its_files(daemon, size):
            # It is not there yet to take signals. Now one changes.
            edit(daemon, {"node": {"priority": 7}})
            daemon.signal(signal.SIGHUP)
            if "pskkeyd 0" not in daemon.log[size:]:
                break
        edit(daemon, {"node": {"priority": 100}})
        await daemon.stop()
    else:
        pytest.fail("we have come too late each time")
    said = await until(daemon, "reloaded: ", size)
    assert said.index("pskkeyd 0") < said.index("reloaded: ")
    assert (await status_of(daemon))["node"]["priority"] == 7


async def _reads_its_files(daemon: Daemon, size: int) -> bool:
    """Wait until it does; False when it was ready, so that its log went on after this `size`, before we saw that."""
    deadline = time.monotonic() + 10
    while not _blocks_only(daemon, signal.SIGHUP):
        assert time.monotonic() < deadline
        if "pskkeyd 0" in daemon.log[size:]:
            return False
        await asyncio.sleep(0.001)
    return True


def _blocks_only(daemon: Daemon, number: signal.Signals) -> bool:
    """Tell whether signals of this kind, and no others, wait for the process (proc_pid_status(5)).

    All of them wait for a moment whenever a process or a thread begins.
    """
    fields = dict(line.split(b":", 1) for line in daemon.proc("status").splitlines())
    return int(fields[b"SigBlk"], 16) == 1 << (number - 1)
