"""Daemons that log to a journal of the test, and a check of their entries."""

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
    """Return an environment in which a daemon takes its log for the stream of the journal."""
    log = daemon.directory / "log"
    log.touch()
    found = log.stat()
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def with_journal_at(directory: Path) -> tuple[str, ...]:
    """Return the start of a command line whose rest sees `directory` as /run/systemd/journal. Needs root."""
    steps = (
        'mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/journal; mount --bind "$0" /run/systemd/journal; exec "$@"'
    )
    return (*DIES_WITH_US, "unshare", "--mount", "sh", "-ec", steps, str(directory))


async def until_logged(entries: list[Entry], text: str, after: int = 0) -> None:
    """Wait until the journal has an entry with `text` behind its first `after` entries."""
    deadline = time.monotonic() + 10
    while not any(text in entry["MESSAGE"] for entry in entries[after:]):
        assert time.monotonic() < deadline, [entry["MESSAGE"] for entry in entries[-5:]]
        await asyncio.sleep(0.02)


def check(entry: Entry) -> None:
    """Check that an entry has the fields of its row, and no others."""
    if "MESSAGE_ID" not in entry:
        assert entry.keys() == _COMMON
        return
    (row,) = (row for row in EVENTS.values() if row.message_id == entry["MESSAGE_ID"])
    own = {f"PSKKEY_{name.upper()}" for name in row.fields.split()}
    assert entry.keys() <= _COMMON | _OF_EVENTS | own, entry
    assert entry.keys() >= _COMMON | _OF_EVENTS - {"PSKKEY_EPOCH"}, entry
