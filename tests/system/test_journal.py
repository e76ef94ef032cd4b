"""The entries in systemd's journal: the fields of each event and its fixed id. No write to it delays the daemon."""

import asyncio
import io
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import pytest

from pskkey.client.watcher import AsyncKeyWatcher
from pskkey.config.psk import load_psk
from pskkey.daemon.event_kinds import DaemonEvent, NodeEvent
from pskkey.daemon.event_table import EVENTS
from pskkey.daemon.journal import Journal, log_event
from pskkey.daemon.logs import CLOSED_WITHIN, MAX_MESSAGE, TRIED_AGAIN_AFTER, WAITING_LINES, JournalHandler, is_journal
from pskkey.wire.advert import advert_key
from tests.lab.group import Group
from tests.system.journal_entries import check, under_journal, until_logged, with_journal_at
from tests.system.journal_socket import JournalSocket
from tests.system.leaks import leaks
from tests.system.loopback import Loopback

LOG = logging.getLogger("pskkey")
IDS = {
    "ROLE_CHANGED": "2d59f10e830b4086b0ad8ebbfd495d91",
    "ELECTED": "9b19c27c040943cb8f19337dd835fe8b",
    "MASTER_JOINED": "e00e8624a26247859742fa0b556abb9b",
    "MASTER_LOST": "d10eb36800f540b795668c395c526b6c",
    "JOIN_FAILED": "1c4b208b315f41ca90323c2097293c49",
    "MEMBER_JOINED": "834ee85d97864982b9a6b5ba22d9984f",
    "MEMBER_LOST": "c03892fb301a436eb42a26b58eae3d8e",
    "MEMBER_REFUSED": "a4200b2f53464bb8b5636f98bfc88c2a",
    "KEY_WANTED": "6b15ef1b29de41519d322c4ae933c0ad",
    "KEY_DISTRIBUTED": "ed03eb460c314e15bdb213bd20cfa108",
    "KEY_CHANGED": "284a1fc8f2d0450ea7924ce6869d01cf",
    "KEY_REQUEST_ANSWERED": "42e9527303b74b81a66f2daf4f1df47f",
    "KEY_REQUEST_REFUSED": "d864b5c97fae4abca9f6c5b54d4a7d5d",
    "TWO_MASTERS": "a32e320d5af34ee08523ebb69e72a884",
    "MERGED": "526317952f1a47fdb48e8ea2d91e6ea1",
    "HANDED_OVER": "d0627284ee65429da94211ee313740f4",
    "SESSION_RENEWED": "86e8d30bd024aeeb54f5c3e9a4f88e70",
    "FENCED": "e1b8512cc3044c089a2d75eca0361fe6",
    "SLEPT": "c515644caa5a463591d98b03840d790d",
    "DUPLICATE_ID": "414587ea03784760970d78ada23e9c68",
    "SECOND_SENDER": "733ba8a8cb0d446bbc0ab8f985dfdc91",
    "SENDER_ID_TAKEN": "6b37abcdf6d1478a85f2af8ca500cbd8",
    "NO_SENDER_ID": "37eaec45224a4a28be0c62af38b048b6",
    "PROTOCOL_ERROR": "2d3cc79610a943d5a83881dc6e4b64e0",
    "STARTED": "f635cbe98e4544ca95531f2a00a35ca1",
    "STOPPED": "769bd86d1ded4cce9294c01f1c9e02d8",
    "START_FAILED": "3310d2061898494681ea0a99e1cb1374",
    "RELOADED": "cd6851b6204b43878172751e8ec280f3",
    "RELOAD_FAILED": "6c32a3065e814fd99c67dfece3585419",
    "RESTART_NEEDED": "6cb26c65dd9642bc91d8fabc819ceb45",
    "CONDITION_BEGAN": "82052ef263a9457891336156dc1589a1",
    "CONDITION_ENDED": "ef7b483843924bf48cd3d841f9b6bd29",
    "COMMANDED": "360b46d3dd9047b59df96698b311340d",
    "COMMAND_DENIED": "3250bc4db9fb4ccea63eb8250eb4810a",
    "AUTHENTICATION_FAILED": "695060335cda470d960356b21f8ed94c",
}
"""Operators search by these ids: a row may be added, but none may change."""


def test_ids_never_change() -> None:
    assert {event.name: entry.message_id for event, entry in EVENTS.items()} == IDS
    assert len(set(IDS.values())) == len(IDS)
    assert all(re.fullmatch("[0-9a-f]{32}", identifier) for identifier in IDS.values())


def test_every_event_has_a_row() -> None:
    assert EVENTS.keys() == {*NodeEvent, *DaemonEvent}


@contextmanager
def logging_to(path: Path, stream: TextIO | None = None) -> Iterator[None]:
    """Log to the journal at `path`. Without one, log to `stream`, or else to the file `stderr` beside `path`."""
    with (path.parent / "stderr").open("a") as fallback:
        handler = JournalHandler(stream or fallback, path)
        before = LOG.level
        LOG.addHandler(handler)
        LOG.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            LOG.setLevel(before)
            LOG.removeHandler(handler)
            handler.close()


def test_events_have_their_fields(tmp_path: Path) -> None:
    journal = Journal(lambda: {"role": "master", "term": 3, "epoch": None})
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        journal.log_event(NodeEvent.MEMBER_JOINED, "n2 joined", {"peer": "0badcafe", "address": "10.0.0.2"})
        log_event(DaemonEvent.START_FAILED, "no", {})
        LOG.warning("something %s", "else")
        LOG.critical("worst")
        LOG.error("bad")
        LOG.debug("fine")
        assert received.read() == [
            {
                "MESSAGE": "n2 joined",
                "PRIORITY": "6",
                "SYSLOG_IDENTIFIER": "pskkeyd",
                "MESSAGE_ID": IDS["MEMBER_JOINED"],
                "PSKKEY_ROLE": "master",
                "PSKKEY_TERM": "3",
                "PSKKEY_PEER": "0badcafe",
                "PSKKEY_ADDRESS": "10.0.0.2",
            },
            {"MESSAGE": "no", "PRIORITY": "3", "SYSLOG_IDENTIFIER": "pskkeyd", "MESSAGE_ID": IDS["START_FAILED"]},
            {"MESSAGE": "something else", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "pskkeyd"},
            {"MESSAGE": "worst", "PRIORITY": "2", "SYSLOG_IDENTIFIER": "pskkeyd"},
            {"MESSAGE": "bad", "PRIORITY": "3", "SYSLOG_IDENTIFIER": "pskkeyd"},
            {"MESSAGE": "fine", "PRIORITY": "7", "SYSLOG_IDENTIFIER": "pskkeyd"},
        ]


@pytest.mark.parametrize("text", ["a\nMESSAGE_ID=forged\n", "\n", "=", "ü€😀", "a" * 300 + "\n"])
def test_text_from_peers_forges_no_fields(tmp_path: Path, text: str) -> None:
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        log_event(NodeEvent.MEMBER_LOST, text, {"peer": text})
        (entry,) = received.read()
    assert (entry["MESSAGE"], entry["PSKKEY_PEER"], entry["MESSAGE_ID"]) == (text, text, IDS["MEMBER_LOST"])


def test_a_long_message_is_cut_and_not_lost(tmp_path: Path) -> None:
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        LOG.info("x" * 10_000_000)
        (entry,) = received.read()
    assert entry["MESSAGE"] == "x" * MAX_MESSAGE


def test_no_character_is_cut_in_two(tmp_path: Path) -> None:
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        for text in ("x", "xx", "xxx"):
            LOG.info("%s%s", text, "€" * MAX_MESSAGE)
            (entry,) = received.read()
            assert entry["MESSAGE"] == text + "€" * ((MAX_MESSAGE - len(text)) // 3)


def test_control_characters_do_not_reach_the_terminal_of_a_reader(tmp_path: Path) -> None:
    text, shown = "a\x1b[2J\0\r\x9b\x7f\tü\nb", "a\ufffd[2J\ufffd\ufffd\ufffd\ufffd\tü\nb"
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        log_event(NodeEvent.MEMBER_LOST, text, {"peer": text})
        (entry,) = received.read()
    assert (entry["MESSAGE"], entry["PSKKEY_PEER"]) == (shown, shown)
    with logging_to(tmp_path / "none"):
        LOG.info(text)
    lines = "".join(f"<6>{line}\n" for line in shown.split("\n"))
    assert (tmp_path / "stderr").read_text(encoding="utf-8") == lines


def test_exception_is_logged_completely(tmp_path: Path) -> None:
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        LOG.error("failed", exc_info=RuntimeError("a defect"))
        (entry,) = received.read()
    assert entry["MESSAGE"] == "failed\nRuntimeError: a defect"


def test_logging_does_not_wait_for_a_hanging_journal_and_reports_lost_lines_later(tmp_path: Path) -> None:
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        begun = time.monotonic()
        for number in range(2000):
            LOG.info("line %d", number)
        assert time.monotonic() - begun < 2
        taken = received.read()
        size = len(taken)
        later = 0
        while taken[-1]["MESSAGE"] != "later":  # each record sends those that wait, as far as there is room
            LOG.info("later")
            later += 1
            taken += received.read()
    *lines, lost, last = taken
    assert [entry["MESSAGE"] for entry in lines] == [f"line {number}" for number in range(size + WAITING_LINES)]
    missing = 2000 + later - len(lines) - 1
    assert (lost["MESSAGE"], lost["PRIORITY"]) == (f"{missing} lines were not taken by the journal", "4")
    assert last["MESSAGE"] == "later"


async def test_a_burst_above_the_room_of_the_journal_is_logged_whole_without_another_line(tmp_path: Path) -> None:
    with JournalSocket(tmp_path / "s") as received, logging_to(received.path):
        for number in range(WAITING_LINES):
            LOG.info("line %d", number)
        taken = received.read()
        assert len(taken) < WAITING_LINES, "it fits into the socket"
        while len(taken) < WAITING_LINES:
            await asyncio.sleep(TRIED_AGAIN_AFTER)
            taken += received.read()
    assert [entry["MESSAGE"] for entry in taken] == [f"line {number}" for number in range(WAITING_LINES)]


def test_lines_that_wait_are_logged_at_the_end(tmp_path: Path) -> None:
    with JournalSocket(tmp_path / "s") as received, received.followed() as entries, logging_to(received.path):
        for number in range(WAITING_LINES):
            LOG.info("line %d", number)
    assert [entry["MESSAGE"] for entry in entries] == [f"line {number}" for number in range(WAITING_LINES)]


def test_the_end_does_not_wait_for_a_hanging_journal(tmp_path: Path) -> None:
    with JournalSocket(tmp_path / "s") as received:
        with logging_to(received.path):
            for number in range(WAITING_LINES):
                LOG.info("line %d", number)
            begun = time.monotonic()
        assert time.monotonic() - begun < 2 * CLOSED_WITHIN
        assert received.read()


def test_without_a_journal_lines_go_to_standard_error_with_their_priority(tmp_path: Path) -> None:
    with logging_to(tmp_path / "none"):
        LOG.warning("two\nlines")
        log_event(DaemonEvent.STOPPED, "stopped", {"group": "g"})
    assert (tmp_path / "stderr").read_text() == "<4>two\n<4>lines\n<6>stopped\n"
    # The journal comes back, as after its restart.
    with logging_to(tmp_path / "s"):
        LOG.info("before")
        with JournalSocket(tmp_path / "s") as received:
            LOG.info("there")
            assert [entry["MESSAGE"] for entry in received.read()] == ["there"]
        LOG.info("after")
    assert (tmp_path / "stderr").read_text().endswith("<6>before\n<6>after\n")


def test_logging_does_not_wait_for_a_hanging_standard_error(tmp_path: Path) -> None:
    reading_end, writing_end = socket.socketpair()
    with reading_end, writing_end, writing_end.makefile("w") as stream, logging_to(tmp_path / "none", stream):
        begun = time.monotonic()
        for _ in range(5000):
            LOG.info("x" * 1000)
        assert time.monotonic() - begun < 3
        assert reading_end.recv(1004) == b"<6>" + b"x" * 1000 + b"\n"


def test_standard_error_is_the_journal_only_if_journal_stream_names_it(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as stream, (tmp_path / "b").open("w") as other:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert is_journal(stream, environ)
        assert not is_journal(other, environ)
        assert not is_journal(stream, {})
        assert not is_journal(stream, {"JOURNAL_STREAM": ""})
    assert not is_journal(stream, environ)
    assert not is_journal(io.StringIO(), environ)


@pytest.mark.root
async def test_daemon_logs_its_events_to_the_journal(loopback: Loopback) -> None:
    directory = loopback.directory / "journal"
    directory.mkdir()
    with JournalSocket(directory / "socket") as journal, journal.followed() as entries:
        tables = {"log": {"level": "debug"}}
        master, client = (loopback.daemon(name, tables, with_journal_at(directory)) for name in ("n0", "n1"))
        for daemon, running in ((master, [master]), (client, [master, client])):
            daemon.start(under_journal(daemon))
            await Group(running).together(20)
        secrets = {"the PSK": load_psk(loopback.psk).active.key.reveal()}
        secrets["the signing key"] = advert_key(load_psk(loopback.psk).active.key).reveal()
        async with AsyncKeyWatcher(master.keys_socket, will_send=False) as watcher:
            for slot in (await watcher.wait(5)).entries:
                secrets[f"the PMS of epoch {slot.epoch}"] = slot.key.pms.reveal()
        good = master.config.read_text()
        for content in ("[nonsense", good + "\n[limits]\nmembers = 9\n", good.replace("port = 11111", "port = 11112")):
            master.config.write_text(content)
            size = len(entries)
            master.signal(signal.SIGHUP)
            await until_logged(entries, "reloaded", size)
        await until_logged(entries, "takes effect at the next restart")  # this line follows the last "reloaded"
        master.signal(signal.SIGKILL)
        await until_logged(entries, "we are master of term 2")
        assert await client.stop() == 0
        await until_logged(entries, "stopped")
    assert not leaks(secrets, {"the journal": b"\n".join(journal.datagrams)})
    for entry in entries:
        check(entry)
    by_id = {entry["MESSAGE_ID"]: entry for entry in entries if "MESSAGE_ID" in entry}
    for event, fields in {
        "STARTED": {"PSKKEY_GROUP": loopback.group},
        "MEMBER_JOINED": {"PSKKEY_PEER": client.id, "PSKKEY_NODE": master.id, "PSKKEY_EPOCH": "1"},
        "MASTER_JOINED": {"PSKKEY_PEER": master.id, "PSKKEY_NODE": client.id, "PSKKEY_ROLE": "client"},
        "MASTER_LOST": {"PSKKEY_PEER": master.id, "PSKKEY_CODE": "lost", "PRIORITY": "4"},
        "ELECTED": {"PSKKEY_NODE": client.id, "PSKKEY_ROLE": "master", "PSKKEY_TERM": "2", "PSKKEY_EPOCH": "1"},
        "KEY_CHANGED": {"PSKKEY_EPOCH": "1"},
        "RELOADED": {"PSKKEY_NODE": master.id},
        "RELOAD_FAILED": {"PRIORITY": "3"},
        "RESTART_NEEDED": {"PSKKEY_SETTING": "network.port"},
        "STOPPED": {"PSKKEY_NODE": client.id, "MESSAGE": "stopped"},
    }.items():
        assert fields.items() <= by_id[IDS[event]].items(), event
    assert not master.log
    assert not client.log


@pytest.mark.root
async def test_failed_start_is_an_event_in_the_journal(loopback: Loopback) -> None:
    directory = loopback.directory / "journal"
    directory.mkdir()
    with JournalSocket(directory / "socket") as journal:
        daemon = loopback.daemon("n0", prefix=with_journal_at(directory))
        loopback.psk.unlink()
        daemon.start(under_journal(daemon))
        assert await daemon.ended() == 2
        (entry,) = journal.read()
    assert (entry["MESSAGE_ID"], entry["PRIORITY"]) == (IDS["START_FAILED"], "3")
    assert "the PSK file cannot be opened" in entry["MESSAGE"]
