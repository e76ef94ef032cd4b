"""The journal has an entry for each command, with its user and its result: done, refused or denied."""

import asyncio
import subprocess
import sys

import pytest

from pskkey.daemon.event_kinds import DaemonEvent
from pskkey.daemon.event_table import EVENTS
from tests.system.journal_entries import check, under_journal, until_logged, with_journal_at
from tests.system.journal_socket import JournalSocket
from tests.system.loopback import Loopback
from tests.system.ordinary_user import UID, as_ordinary_user
from tests.system.pskkeyctl_process import run


@pytest.mark.root
async def test_commands_are_logged_with_their_users(loopback: Loopback) -> None:
    loopback.directory.chmod(0o755)
    directory = loopback.directory / "journal"
    directory.mkdir()
    with JournalSocket(directory / "socket") as journal, journal.followed() as entries:
        daemon = loopback.daemon("n0", {"control": {"users": ["daemon"]}}, with_journal_at(directory))
        daemon.start(under_journal(daemon))
        assert (await run(daemon, "wait", "--role", "master"))[0] == 0
        assert (await run(daemon, "rekey"))[0] == 0
        assert (await run(daemon, "switchover", "a\nb" + 300 * "x"))[0] == 1
        assert (await run(daemon, "switchover"))[0] == 1
        for _ in range(3):
            by_nobody = await asyncio.create_subprocess_exec(
                *as_ordinary_user(), sys.executable, "-m", "pskkey.tools.ctl.pskkeyctl", "--socket",
                daemon.control_socket, "rekey", stderr=subprocess.PIPE,
            )  # fmt: skip
            _, errors = await by_nobody.communicate()
            assert (by_nobody.returncode, b"you may not do this" in errors) == (4, True)
        await until_logged(entries, "was denied Rekey")
        size = len(entries)
        assert (await run(daemon, "rekey"))[0] == 0
        await until_logged(entries, "Rekey, asked for by user 0", size)
    given = [entry for entry in entries if entry.get("MESSAGE_ID") == EVENTS[DaemonEvent.COMMANDED].message_id]
    denied = [entry for entry in entries if entry.get("MESSAGE_ID") == EVENTS[DaemonEvent.COMMAND_DENIED].message_id]
    for entry in (*given, *denied):
        check(entry)
    by_root = "asked for by user 0 (process {PSKKEY_PID})"
    expected = (
        ("Rekey", f"Rekey, {by_root}: accepted", None),
        ("Switchover", f"Switchover to a b{197 * 'x'}, {by_root}: not done: NoSuchNode", "NoSuchNode"),
        (
            "Switchover",
            f"Switchover, {by_root}: not done: no other member is eligible to be master",
            "NotPossible",
        ),
    )
    for entry, (command, message, code) in zip(given, expected, strict=False):
        assert entry["MESSAGE"] == message.format(**entry)
        assert (entry["PSKKEY_UID"], entry["PSKKEY_COMMAND"], entry.get("PSKKEY_CODE")) == ("0", command, code)
    (entry,) = denied
    assert entry["MESSAGE"] == f"user {UID} was denied Rekey; [control] names who may administer"
    assert (entry["PSKKEY_UID"], entry["PSKKEY_COMMAND"]) == (str(UID), "Rekey")
