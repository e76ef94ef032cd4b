"""How long the key client waits for a peer whose TCP has opened, and when it tries another address of the peer."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress

from pskkey.core.actions import PATIENCE_FOR_HANDSHAKE, STAGGER
from pskkey.core.events import Accepted, Connected, Disconnected
from tests.adapters.tls.ends import Ends


@asynccontextmanager
async def busy_server(ends: Ends, answers_after: float) -> AsyncIterator[int]:
    """The key server of 127.0.0.1, reached at 127.0.0.2 after so many seconds. Yield its port."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(answers_after)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", ends.server.port)
        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer))

    server = await asyncio.start_server(relay, "127.0.0.2", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_peer_whose_tcp_has_opened_is_waited_for_beyond_the_timeout(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    async with busy_server(ends, answers_after=0.5) as port:
        ends.connect("127.0.0.2", port=port, timeout=0.2, patience=4.0)
        await ends.at_client.next(Connected)
        await ends.at_server.next(Accepted)
        await ends.client.stop()
    assert ends.at_server.counters == {"handshakes_ok": 1}


async def test_peer_whose_tcp_has_opened_gets_no_more_time_without_patience(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    async with busy_server(ends, answers_after=1.0) as port:
        ends.connect("127.0.0.2", port=port, timeout=0.2)
        ended = await ends.at_client.next(Disconnected)
    assert (ended.code, "no answer within 0.2 s, though TCP opened at 127.0.0.2" in ended.reason) == (
        "no_handshake", True
    )  # fmt: skip


async def test_patience_has_an_end_which_the_reason_names(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = loop.time()
        ends.connect(port=silent.getsockname()[1], timeout=0.1, patience=0.4)
        ended = await ends.at_client.next(Disconnected)
        waited = loop.time() - began
    assert ended.code == "no_handshake"
    found = re.search(r"no answer within ([0-9.]+) s, though TCP opened at 127.0.0.1$", ended.reason)
    assert found is not None, ended.reason
    assert 0.4 <= float(found[1]) <= waited + 0.001


async def test_patience_is_not_for_a_peer_whose_tcp_does_not_open(ends: Ends) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        port = full.getsockname()[1]
        for _ in range(4):  # the kernel drops the SYN of further connections
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        ends.connect(port=port, timeout=0.2, patience=60.0)
        ended = await ends.at_client.next(Disconnected)
    assert (ended.code, "no answer within 0.2 s" in ended.reason) == ("timeout", True)


async def test_handshake_that_fails_after_the_timeout_ends_the_attempt(ends: Ends) -> None:
    async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        writer.close()

    async with await asyncio.start_server(cut, "127.0.0.1", 0) as server:
        ends.connect("127.0.0.1", "127.0.0.2", port=server.sockets[0].getsockname()[1], timeout=0.2, patience=60.0)
        assert (await ends.at_client.next(Disconnected)).code == "handshake"


async def test_busy_peer_does_not_get_a_second_handshake_at_its_next_address(ends: Ends) -> None:
    await ends.server.start(["127.0.0.1"], 0)
    async with busy_server(ends, answers_after=4 * STAGGER) as port:
        second = ends.server.listen("127.0.0.3", port)
        ends.connect("127.0.0.2", "127.0.0.3", port=port)
        assert (await ends.at_client.next(Connected)).address == "127.0.0.2"
        await ends.at_server.next(Accepted)
        await ends.client.stop()
        ends.server.stop_listening(second)
    assert ends.at_server.counters == {"handshakes_ok": 1}


async def test_next_address_is_tried_when_a_peer_is_silent_for_too_long(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        await ends.server.start(["127.0.0.2"], port)
        began = loop.time()
        ends.connect("127.0.0.1", "127.0.0.2", port=port)
        assert (await ends.at_client.next(Connected)).address == "127.0.0.2"
    assert loop.time() - began >= PATIENCE_FOR_HANDSHAKE
