"""Members and local users flood the daemons of a group. They wait, but no other peer does."""

import asyncio
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from pskkey.adapters.tls.contexts import client_context
from pskkey.config.psk import load_psk
from pskkey.model import Heartbeat, Join, KeyWatch, Member
from pskkey.wire.packet import encode
from tests.lab.daemon import Daemon, Status
from tests.lab.group import Group
from tests.lab.standstill import standstill
from tests.system.loopback import PORT, Loopback

BURST = encode(Heartbeat()) * 4096
AWAY = 50.0
"""The longest time, in milliseconds, for which the event loop of a daemon may be away."""


async def flood_as_member(loopback: Loopback, address: str) -> None:
    """Join the group as another node, and then send heartbeats as fast as the daemon reads them."""
    context = client_context(load_psk(loopback.psk).active)
    reader, writer = await asyncio.open_connection(address, PORT, ssl=context, server_hostname="")
    node = secrets.token_hex(16)
    member = Member(node, f"insider-{node[:8]}", (address,), PORT, eligible=False)
    writer.write(encode(Join(loopback.group, member, secrets.token_hex(8), 0, (), False, None)))
    discarding = asyncio.create_task(discard(reader))
    try:
        while True:
            writer.write(BURST)
            await writer.drain()
    finally:
        discarding.cancel()
        writer.transport.abort()


async def discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


@asynccontextmanager
async def floods(loopback: Loopback, address: str, count: int) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run `count` floods during the block."""
    tasks = [asyncio.create_task(flood_as_member(loopback, address)) for _ in range(count)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def status_of(daemon: Daemon) -> Status:
    status = await daemon.status()
    assert status is not None, f"{daemon.name} does not answer"
    return status


async def test_eight_floods_of_an_insider_do_not_depose_the_master(loopback: Loopback) -> None:
    group = Group(loopback.daemon(f"n{number}") for number in range(1, 4))
    group.start()
    _, statuses = await group.together(20)
    (master,) = group.of(statuses, "master")
    term = (await status_of(master))["term"]
    async with standstill() as longest, floods(loopback, loopback.address(master), 8) as flooding:
        for _ in range(16):
            await asyncio.sleep(0.5)
            assert not any(task.done() for task in flooding), "the flood is held back, not ended"
            now = {daemon.name: await status_of(daemon) for daemon in group.daemons}
            assert {status["term"] for status in now.values()} == {term}
            assert now[master.name]["role"] == "master"
            assert now[master.name]["counters"].get("sleeps", 0) == 0
        assert len(now[master.name]["members"]) == 3 + 8
    assert now[master.name]["loop_away_ms"] <= AWAY + longest[0]
    await group.together(20)


async def test_flood_on_200_connections_to_keys_sock_keeps_no_other_waiting(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1")
    group = Group([daemon])
    group.start()
    await group.together(20)
    connections = []
    async with standstill() as longest:
        for _ in range(200):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(daemon.keys_socket))
            connection.setblocking(False)
            connection.send(encode(KeyWatch(will_send=False)) * 819)
            connections.append(connection)
        for _ in range(10):
            await asyncio.sleep(0.3)
            assert (await status_of(daemon))["role"] == "master"
            for connection in connections:
                drain(connection)
        status = await status_of(daemon)
    assert status["loop_away_ms"] <= AWAY + longest[0]
    assert len(status["sessions"]) == 200
    for connection in connections:
        connection.close()


def drain(connection: socket.socket) -> None:
    """Read all bytes that have arrived."""
    with suppress(BlockingIOError, ssl.SSLWantReadError):
        while connection.recv(1 << 16):
            pass
