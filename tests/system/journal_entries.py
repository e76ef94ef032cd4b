"""Daemons that log to a journal of the test's own, and what their entries must be."""

import asyncio
import time
from pathlib import Path
from typing import Final

from pskkey.daemon.event_table import EVENTS
from tests.lab.daemon import Daemon
from tests.system.journal_socket import Entry
from tests.system.loopback import DIES_WITH_US

_COMMON: Final = {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER"}
_OF_EVENTS: Final = {"MESSAGE_ID", *(f"PSKKEY_{name}" for name in ("GROUP", "NODE", "ROLE", "TERM", "EPOCH"))}


def under_journal(daemon: Daemon) -> dict[str, str]:
    """Let a daemon believe that its log is the journal's stream; return the environment that says so."""
    log = daemon.directory / "log"
    log.touch()
    found = log.stat()
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def with_journal_at(directory: Path) -> tuple[str, ...]:
    """Return what to put before a command line so that it sees `directory` as /run/systemd/journal. Needs root."""
    steps = (
        'mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal; mount --bind "$0" /run/systemd/journal; exec "$@"'
    )
    return (*DIES_WITH_US, "unshare", "--mount", "sh", "-ec", steps, str(directory))


async def told(said: list[Entry], text: str, after: int = 0) -> None:
    """Wait until the journal was told this, after so many entries."""
    deadline = time.monotonic() + 10
    while not any(text in entry["MESSAGE"] for entry in said[after:]):
        assert time.monotonic() < deadline, [entry["MESSAGE"] for entry in said[-5:]]
        await asyncio.sleep(0.02)


def check(entry: Entry) -> None:
    """An entry has the fields of its row, and no others."""
    if "MESSAGE_ID" not in entry:
        assert entry.keys() == _COMMON
        return
    (row,) = (row for row in EVENTS.values() if row.message_id == entry["MESSAGE_ID"])
    own = {f"PSKKEY_{name.upper()}" for name in row.fields.split()}
    assert entry.keys() <= _COMMON | _OF_EVENTS | own, entry
    assert entry.keys() >= _COMMON | _OF_EVENTS - {"PSKKEY_EPOCH"}, entry
