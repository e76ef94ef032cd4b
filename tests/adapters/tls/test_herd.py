"""Many genuine clients that connect to a slow server at one moment, and strangers among them.

The server is slow because it takes a while to find the key of an identity, which it does in each handshake.
"""

import asyncio
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from pskkey.adapters.tls.contexts import client_context
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.config.psk import PskFile
from pskkey.secret import Secret
from tests.adapters.tls.ends import NODE, Ends, Side

CLIENTS = 250
HANDSHAKE_TAKES = 0.015
"""Seconds, as on a slow device."""


class SlowKeys(dict[str, Secret]):
    """Keys by identity, as slow as a handshake on a slow device."""

    def get(self, identity: str, default: Any = None) -> Any:
        time.sleep(HANDSHAKE_TAKES)
        return super().get(identity, default)


class SlowServer:
    """The daemon's key server on a slow device."""

    def __init__(self, psk: PskFile, limits: ServerLimits) -> None:
        self._psk = PskFile(psk.active, SlowKeys(psk.accepted))
        self.begun = 0
        """The handshakes that have begun."""
        self.side = Side()
        self.sessions = InboundSessions(
            NODE.id, self._get_psk, False, limits, self.side.events.put_nowait, self.side.counters
        )

    def _get_psk(self) -> PskFile:
        self.begun += 1
        return self._psk


def meet(port: int, source: str, context: ssl.SSLContext, start: threading.Barrier) -> float:
    """Connect with one handshake, and return the seconds that it took."""
    start.wait(20)
    begun = time.monotonic()
    connected = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))
    with context.wrap_socket(connected):
        return time.monotonic() - begun


@pytest.mark.parametrize("slots", [128, 16])
async def test_each_client_of_a_herd_succeeds_with_its_first_handshake(ends: Ends, slots: int) -> None:
    """All together they need several times `handshake_timeout`, and there are twice as many as slots, or more of them
    than the queue of handshakes takes: then the others wait in the kernel.
    """
    server = SlowServer(ends.psk, ServerLimits(handshakes=slots, handshake_timeout=1.0))
    await server.sessions.start(["127.0.0.1"], 0)
    port = server.sessions.port or 0
    context, start = client_context(ends.psk.active), threading.Barrier(CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as threads:
        loop = asyncio.get_running_loop()
        sources = [f"127.9.{number // 100}.{number % 100 + 1}" for number in range(CLIENTS)]
        waits = await asyncio.gather(
            *(loop.run_in_executor(threads, meet, port, source, context, start) for source in sources)
        )
    assert max(waits) > 2.0, "the server was not slow enough for this test"
    assert server.side.counters == {"handshakes_ok": CLIENTS}
    await server.sessions.stop()


async def test_client_waits_for_few_handshakes_of_a_flood(ends: Ends) -> None:
    """The flood of a few addresses sends first bytes that look like those of a client."""
    server = SlowServer(ends.psk, ServerLimits())
    await server.sessions.start(["127.0.0.1"], 0)
    port = server.sessions.port or 0
    context, start = client_context(ends.psk.active), threading.Barrier(1)
    out = ssl.MemoryBIO()
    hello = context.wrap_bio(ssl.MemoryBIO(), out)
    with suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    greeting = out.read()
    with ExitStack() as stack:
        for number in range(240):
            source = (f"127.9.9.{number % 3 + 1}", 0)
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), source_address=source))
            one.sendall(greeting if number % 2 else b"GET / HTTP/1.0\r\n\r\n")
        await asyncio.to_thread(meet, port, "127.0.0.1", context, start)
        assert server.side.counters["handshakes_ok"] == 1
        # A turn of the event loop accepts 32 connections and begins one handshake; then the addresses take turns.
        assert server.begun < 40
    await server.sessions.stop()
