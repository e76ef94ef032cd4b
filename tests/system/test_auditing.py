"""The events for an auditor: each failed authentication, and each KEY_REQ of a client that has not joined."""

import asyncio
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from pskkey import KeyClient
from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import Psk, load_psk
from pskkey.daemon.event_kinds import DaemonEvent, NodeEvent
from pskkey.daemon.event_table import EVENTS
from pskkey.daemon.repeated_events import MAX_SOURCES
from pskkey.errors import PeerError
from pskkey.secret import Secret
from tests.keyserver.openssl import ECDHE_PSK, TLS_1_3
from tests.lab.daemon import Daemon, Status
from tests.system.journal_entries import check, under_journal, until_logged, with_journal_at
from tests.system.journal_socket import Entry, JournalSocket
from tests.system.leaks import leaks
from tests.system.loopback import PORT, Loopback
from tests.system.plain_client import JOIN, KEY_STATE, PlainClient, join
from tests.system.pskkeyctl_process import event, run, started
from tests.system.reloading import edit

CONNECTIONS = 2000
AT_ONCE = 32

pytestmark = pytest.mark.root


@dataclass
class Audited:
    """A daemon that is the master of a group of one node, and its journal."""

    daemon: Daemon
    address: str
    entries: list[Entry]
    journal: JournalSocket

    def of(self, kind: NodeEvent | DaemonEvent) -> list[Entry]:
        """Return the entries of an event."""
        return [entry for entry in self.entries if entry.get("MESSAGE_ID") == EVENTS[kind].message_id]

    async def status(self) -> Status:
        status = await self.daemon.status()
        assert status is not None
        return status

    async def until_counted(self, counter: str, number: int) -> None:
        """Wait until a counter of the daemon has reached a number."""
        deadline = time.monotonic() + 60
        while (count := (await self.status())["counters"].get(counter, 0)) < number:
            assert time.monotonic() < deadline, f"{counter} is {count}"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def audited(loopback: Loopback) -> AsyncIterator[Audited]:
    directory = loopback.directory / "journal"
    directory.mkdir()
    with JournalSocket(directory / "socket") as journal, journal.followed() as entries:
        daemon = loopback.daemon("n0", prefix=with_journal_at(directory))
        daemon.start(under_journal(daemon))
        assert (await run(daemon, "wait", "--role", "master"))[0] == 0
        yield Audited(daemon, loopback.address(daemon), entries, journal)
    for entry in entries:
        check(entry)


async def connect_from(source: str, address: str, psk: Psk, *options: str) -> None:
    """Fail to authenticate with `openssl s_client`."""
    command = ["openssl", "s_client", "-connect", f"{address}:{PORT}", "-bind", f"{source}:0", *options]
    command += ["-psk", psk.key.reveal().hex(), "-psk_identity", psk.identity]
    null = asyncio.subprocess.DEVNULL
    client = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=null, stderr=null)
    assert await asyncio.wait_for(client.wait(), 10) != 0


async def test_failed_authentications_are_events_with_their_address_identity_and_number(loopback: Loopback) -> None:
    wrong = Secret(os.urandom(32))
    async with audited(loopback) as node, started(node.daemon, "--json", "monitor") as monitor:
        await event(monitor, event="start")
        for _ in range(3):
            await connect_from("127.0.0.7", node.address, Psk("group", wrong), *TLS_1_3)
        await connect_from("127.0.0.8", node.address, Psk("stranger", wrong), *ECDHE_PSK)
        await connect_from("127.0.0.9", node.address, Psk("group", wrong), *ECDHE_PSK)
        await until_logged(node.entries, "127.0.0.9")
        total = 0
        while total < 5:
            seen = await event(monitor, event="warning", counter="authentications_failed")
            total = int(str(seen["total"]))
        assert (await node.status())["counters"]["authentications_failed"] == 5
        assert "authentications failed: 5" in (await run(node.daemon, "status"))[1]
        assert await node.daemon.stop() == 0
        await until_logged(node.entries, "stopped")
    found = [
        tuple(entry[f"PSKKEY_{name}"] for name in ("ADDRESS", "IDENTITY", "DIRECTION", "CODE", "COUNT"))
        for entry in node.of(DaemonEvent.AUTHENTICATION_FAILED)
    ]
    assert found == [
        ("127.0.0.7", "group", "in", "wrong_key", "1"),
        ("127.0.0.8", "stranger", "in", "unknown_identity", "1"),
        ("127.0.0.9", "group", "in", "wrong_key", "1"),
        ("127.0.0.7", "group", "in", "wrong_key", "2"),
    ]
    secrets = {"the PSK": load_psk(loopback.psk).active.key.reveal(), "the wrong key": wrong.reveal()}
    assert not leaks(secrets, {"the journal": b"\n".join(node.journal.datagrams)})


async def test_key_requests_of_clients_that_have_not_joined_are_events_and_can_be_refused(loopback: Loopback) -> None:
    async with audited(loopback) as node, started(node.daemon, "--json", "monitor") as monitor:
        await event(monitor, event="start")
        client = KeyClient(loopback.psk, port=PORT, bind="127.0.0.7")
        keys = [await asyncio.to_thread(client.get_key, node.address) for _ in range(3)]
        (in_use,) = (await node.status())["keys"]
        assert {key.fingerprint for key in keys} == {in_use["fingerprint"]}
        await until_logged(node.entries, "got the group key by KEY_REQ")
        await event(monitor, event="warning", counter="key_requests_answered")

        edit(node.daemon, {"tls": {"key_requests": False}})
        node.daemon.signal(signal.SIGHUP)
        await until_logged(node.entries, "reloaded: [tls] key_requests changed from true to false")
        with pytest.raises(PeerError, match="only to members") as refused:
            await asyncio.to_thread(client.get_key, node.address)
        assert refused.value.code == "key_requests_off"
        await event(monitor, event="warning", counter="key_requests_refused")
        counters = (await node.status())["counters"]
        assert (counters["key_requests_answered"], counters["key_requests_refused"]) == (3, 1)
        assert await node.daemon.stop() == 0
        await until_logged(node.entries, "stopped")
    for kind, counts in ((NodeEvent.KEY_REQUEST_ANSWERED, ["1", "2"]), (NodeEvent.KEY_REQUEST_REFUSED, ["1"])):
        found = node.of(kind)
        assert [entry["PSKKEY_COUNT"] for entry in found] == counts
        assert {(entry["PSKKEY_ADDRESS"], entry["PSKKEY_IDENTITY"]) for entry in found} == {("127.0.0.7", "group")}


async def test_joiner_that_takes_the_key_and_leaves_is_an_event(loopback: Loopback) -> None:
    async with audited(loopback) as node:
        for _ in range(3):
            client = await PlainClient.connect(loopback, node.daemon)
            client.send(JOIN, join(loopback))
            await client.receive(KEY_STATE)
            client.close()
        await node.until_counted("key_requests_answered", 3)
        assert await node.daemon.stop() == 0
        await until_logged(node.entries, "stopped")
    found = node.of(NodeEvent.KEY_REQUEST_ANSWERED)
    assert [entry["PSKKEY_COUNT"] for entry in found] == ["1", "2"]
    assert {(entry["PSKKEY_ADDRESS"], entry["PSKKEY_IDENTITY"]) for entry in found} == {("127.0.0.1", "group")}
    assert "got the group key by JOIN as later, and left before it was a member" in found[0]["MESSAGE"]
    assert not node.of(NodeEvent.MEMBER_JOINED)


async def test_a_member_joins_although_key_requests_are_off(loopback: Loopback) -> None:
    async with audited(loopback) as node:
        edit(node.daemon, {"tls": {"key_requests": False}})
        node.daemon.signal(signal.SIGHUP)
        await until_logged(node.entries, "reloaded")
        member = loopback.daemon("n1", {"tls": {"key_requests": False}})
        member.start()
        assert (await run(member, "wait", "--role", "client"))[0] == 0
        client = KeyClient(loopback.psk, port=PORT)
        with pytest.raises(PeerError) as refused:
            await asyncio.to_thread(client.get_key, loopback.address(member))
        assert refused.value.code == "key_requests_off", "a node that is not master refuses it too"


@pytest.mark.slow
async def test_flood_of_failed_authentications_leaves_few_entries_that_count_all(loopback: Loopback) -> None:
    """1000 connections are from one address, and 1000 from as many others."""
    greeting = ssl.MemoryBIO()
    psk = Psk("group", Secret(os.urandom(32)))
    with pytest.raises(ssl.SSLWantReadError):
        client_context(psk).wrap_bio(ssl.MemoryBIO(), greeting).do_handshake()
    hello = greeting.read()
    async with audited(loopback) as node:
        waiting = asyncio.Semaphore(AT_ONCE)

        async def fail(source: str) -> None:
            async with waiting:
                reader, writer = await asyncio.open_connection(node.address, PORT, local_addr=(source, 0))
                writer.write(hello)
                await reader.read()
                writer.close()

        one = ["127.0.0.7"] * (CONNECTIONS // 2)
        others = [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(CONNECTIONS // 2)]
        began = asyncio.get_running_loop().time()
        sources = [source for pair in zip(one, others, strict=True) for source in pair]
        await asyncio.gather(*map(fail, sources))
        await node.until_counted("authentications_failed", CONNECTIONS)
        counters = (await node.status())["counters"]
        assert counters["handshakes_failed"] == CONNECTIONS
        assert await node.daemon.stop() == 0
        await until_logged(node.entries, "stopped")
        intervals = (asyncio.get_running_loop().time() - began) // 60 + 1
    found = node.of(DaemonEvent.AUTHENTICATION_FAILED)
    assert len(found) <= intervals * (2 * MAX_SOURCES + 1)
    assert len(node.entries) <= len(found) + 40, "nothing else was logged for each of them"
    assert sum(int(entry["PSKKEY_COUNT"]) for entry in found) == CONNECTIONS
    of_one = [int(entry["PSKKEY_COUNT"]) for entry in found if entry.get("PSKKEY_ADDRESS") == "127.0.0.7"]
    assert sum(of_one) == CONNECTIONS // 2
