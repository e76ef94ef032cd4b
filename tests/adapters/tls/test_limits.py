"""Limits of the daemon's key server: handshakes, connections, deadlines, and the order of removal."""

import asyncio
import socket
import ssl

import pytest

from pskkey.adapters.tls.contexts import client_context
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.core.events import Accepted, Connected, Disconnected, Received, Session
from pskkey.model import ErrorMessage
from tests.adapters.tls.ends import JOIN, Ends


async def stranger(ends: Ends, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TCP connection that speaks no TLS."""
    assert ends.server.port is not None
    return await asyncio.open_connection("127.0.0.1", ends.server.port, local_addr=(source, 0))


async def ended(reader: asyncio.StreamReader, within: float) -> bool:
    """Whether the server ends a connection within so many seconds."""
    try:
        async with asyncio.timeout(within):
            await reader.read()
    except ConnectionError:
        return True
    except TimeoutError:
        return False
    return True


def hello(ends: Ends) -> bytes:
    """Return the first bytes that a genuine client sends."""
    session = client_context(ends.psk.active).wrap_bio(ssl.MemoryBIO(), out := ssl.MemoryBIO())
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


async def join_two(ends: Ends) -> tuple[Session, Session]:
    """Open two sessions and send JOIN on each. Return the second one, as the client and the server know it."""
    for _ in range(2):
        mine, its = await ends.session()
        ends.client.send(mine, JOIN)
        assert await ends.at_server.next(Received) == Received(its, JOIN)
    return mine, its


@pytest.mark.parametrize("bytes_first", [0, 1, 100])
async def test_slow_handshake_has_a_deadline(ends: Ends, bytes_first: int) -> None:
    await ends.make_server(ServerLimits(handshake_timeout=0.4)).start(["127.0.0.1"], 0)
    begun = asyncio.get_running_loop().time()
    reader, writer = await stranger(ends)
    greeting = hello(ends)
    sent = bytes_first
    writer.write(greeting[:sent])
    closed = asyncio.create_task(ended(reader, 5))
    while not closed.done() and bytes_first:  # one more byte in each turn, but never the last one
        sent += sent < len(greeting) - 1
        writer.write(greeting[sent - 1 : sent])
        await asyncio.wait([closed], timeout=0.02)
    assert await closed
    assert 0.3 < asyncio.get_running_loop().time() - begun < 2
    writer.close()
    await ends.session()
    assert ends.at_server.counters == {"handshakes_failed": 1, "handshakes_ok": 1}


async def test_oldest_handshake_of_an_address_with_too_many_is_dropped_first(ends: Ends) -> None:
    await ends.make_server(ServerLimits(handshakes=3)).start(["127.0.0.1"], 0)
    other, kept_open = await stranger(ends, "127.0.0.9")
    flood = [await stranger(ends) for _ in range(6)]
    for reader, _ in flood[:3]:
        assert await ended(reader, 4)
    for reader in (other, *(reader for reader, _ in flood[3:])):
        assert not await ended(reader, 0.05)
    mine, _ = await ends.session()
    assert await ended(flood[3][0], 4)
    assert not await ended(other, 0.05)
    kept_open.close()
    assert ends.at_server.counters == {"handshakes_dropped": 4, "handshakes_ok": 1}
    ends.client.disconnect(mine, None)


async def test_longest_silent_connection_makes_room(ends: Ends) -> None:
    await ends.make_server(ServerLimits(connections_per_address=2)).start(["127.0.0.1"], 0)
    sessions = [await ends.session() for _ in range(3)]
    lost = await ends.at_server.next(Disconnected)
    assert lost.session == sessions[0][1]
    assert "longest silent" in lost.reason
    assert (await ends.at_client.next(Disconnected)).session == sessions[0][0]
    assert ends.at_server.counters["connections_dropped"] == 1


@pytest.mark.parametrize("limits", [ServerLimits(connections=2), ServerLimits(connections_per_address=2)])
async def test_joined_sessions_are_kept_and_the_newcomer_gets_an_error(ends: Ends, limits: ServerLimits) -> None:
    await ends.make_server(limits).start(["127.0.0.1"], 0)
    mine, its = await join_two(ends)
    refused = ends.connect()
    assert (await ends.at_client.next(Connected)).session == refused
    message = (await ends.at_client.next(Received)).message
    assert isinstance(message, ErrorMessage)
    assert message.code == "busy"
    assert (await ends.at_client.next(Disconnected)).session == refused
    assert ends.at_server.counters["connections_refused"] == 1
    assert ends.at_server.events.empty()

    ends.client.disconnect(mine, None)
    assert (await ends.at_server.next(Disconnected)).session == its
    ends.connect()
    await ends.at_client.next(Connected)
    await ends.at_server.next(Accepted)


def refused_with(ends: Ends) -> tuple[ssl.SSLSocket, bytes]:
    """Connect and return the connection, which stays open at this end, and what the server has sent before its end."""
    assert ends.server.port is not None
    context, plain = client_context(ends.psk.active), socket.create_connection(("127.0.0.1", ends.server.port))
    connection = context.wrap_socket(plain)
    try:
        return connection, connection.recv(1000)
    except ConnectionError:
        return connection, b""


@pytest.mark.parametrize("limits", [ServerLimits(connections=2), ServerLimits(connections_per_address=2)])
async def test_refused_connections_that_are_ending_have_a_limit(ends: Ends, limits: ServerLimits) -> None:
    await ends.make_server(limits).start(["127.0.0.1"], 0)
    await join_two(ends)
    answers = [await asyncio.to_thread(refused_with, ends) for _ in range(6)]
    assert [bool(answer) for _, answer in answers] == [True, True, False, False, False, False]
    for connection, _ in answers:
        connection.close()
    assert ends.at_server.counters["connections_refused"] == 6


async def test_reset_in_the_middle_of_a_handshake_harms_no_other_client(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    for size in (0, 1, 100, len(hello(ends))):
        _, writer = await stranger(ends)
        writer.write(hello(ends)[:size])
        await writer.drain()
        accepted = writer.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
    mine, its = await ends.session()
    ends.client.disconnect(mine, None)
    assert (await ends.at_server.next(Disconnected)).session == its
