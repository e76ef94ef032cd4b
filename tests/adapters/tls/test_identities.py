"""Each session has the identity of its own client, though all connections of a server share one TLS context."""

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from pskkey.adapters.tls.authentication import FailedAuthentication, Fault
from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.config.psk import PskFile, load_psk
from pskkey.core.events import Accepted
from tests.adapters.tls.ends import NODE, Ends, Side
from tests.adapters.tls.test_authentication import ECDHE, TLS_1_3, client_with
from tests.psk_files import write_psk

CLIENTS = 60


class Client:
    """A client that sends its handshake byte by byte."""

    def __init__(self, address: str, identity: str, context: ssl.SSLContext) -> None:
        self.address = address
        self.identity = identity
        self.is_done = False
        self.socket = socket.socket()
        self._context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)
        self._unsent = bytearray()

    def connect(self, port: int) -> None:
        self.socket.bind((self.address, 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)

    def resume(self, session: ssl.SSLSession, sent: int = 0) -> None:
        """Offer an earlier session, in a first message of which so many bytes are sent already."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self._context.wrap_bio(self._incoming, self._outgoing, session=session)
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        self._unsent[:] = self._outgoing.read()[sent:]

    def step(self, most: int = 1) -> None:
        """Send the next bytes, or read and go on with the handshake. At its end `is_done` is true."""
        if not self._unsent:
            try:
                data = self.socket.recv(4096)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data:
                self._incoming.write(data)
            elif data is not None:
                self.is_done = True  # the server has ended it
                return
            try:
                self.tls.do_handshake()
                self.is_done = not self._outgoing.pending
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                self.is_done = True
                return
            self._unsent += self._outgoing.read()
        if self._unsent:
            try:
                self.socket.send(self._unsent[:most])
            except OSError:
                self.is_done = True  # the server has ended it
            del self._unsent[:most]

    async def finish(self) -> None:
        async with asyncio.timeout(5):
            while not self.is_done:
                self.step(4096)
                await asyncio.sleep(0)


class Server:
    """The daemon's key server, with what it reports. `begun` is set at the beginning of each handshake."""

    def __init__(self, psk: PskFile, limits: ServerLimits | None = None) -> None:
        self.psk = psk
        self.side = Side()
        self.reported: list[FailedAuthentication] = []
        self.begun = asyncio.Event()
        self.sessions = InboundSessions(
            NODE.id, self._begin, False, limits or ServerLimits(), self.side.events.put_nowait, self.side.counters,
            report=self.reported.append,
        )  # fmt: skip

    def _begin(self) -> PskFile:
        self.begun.set()
        return self.psk

    async def start(self) -> int:
        await self.sessions.start(["127.0.0.1"], 0)
        assert self.sessions.port is not None
        return self.sessions.port


@pytest.mark.parametrize("suite", [TLS_1_3, ECDHE])
async def test_interleaved_handshakes_keep_their_identities(tmp_path: Path, suite: str) -> None:
    names = [f"node-{number}" for number in range(CLIENTS)]
    psk = load_psk(write_psk(tmp_path / "many.psk", *names))
    server = Server(psk, ServerLimits(handshake_timeout=60.0))
    port = await server.start()
    wrong = os.urandom(32)
    clients = []
    for number, name in enumerate(names):
        key = wrong if number % 5 == 1 else psk.accepted[name].reveal()
        identity = f"foreign-{number}" if number % 5 == 2 else name
        clients.append(Client(f"127.1.0.{number + 1}", identity, client_with(identity, key, suite)))
        clients[-1].connect(port)
    living = list(clients)
    while living:
        for client in living:
            client.step()
            await asyncio.sleep(0)
        living = [client for client in living if not client.is_done]
    genuine = {client.address: client.identity for number, client in enumerate(clients) if number % 5 not in {1, 2}}
    accepted = [await server.side.next(Accepted) for _ in genuine]
    assert {event.address: event.identity for event in accepted} == genuine
    foreign = {
        client.address: (client.identity, Fault.WRONG_KEY if number % 5 == 1 else Fault.UNKNOWN_IDENTITY)
        for number, client in enumerate(clients)
        if number % 5 in {1, 2}
    }
    assert {failed.address: (failed.identity, failed.fault) for failed in server.reported} == foreign
    await server.sessions.stop()


def only(psk: PskFile, name: str) -> PskFile:
    return PskFile(psk.active, {name: psk.accepted[name]})


async def begin(server: Server, client: Client, port: int) -> None:
    """Connect, and return when the server has begun the handshake with the first byte of the client."""
    client.connect(port)
    server.begun.clear()
    client.step()
    await asyncio.wait_for(server.begun.wait(), 5)


async def test_psk_file_is_that_of_the_beginning_of_a_handshake(ends: Ends) -> None:
    server = Server(only(ends.psk, "node"))
    port = await server.start()
    early = Client("127.0.0.1", "spare", client_with("spare", ends.psk.accepted["spare"].reveal()))
    await begin(server, early, port)
    server.psk = only(ends.psk, "spare")
    await early.finish()
    assert [failed.fault for failed in server.reported] == [Fault.UNKNOWN_IDENTITY]
    late = Client("127.0.0.2", "spare", client_with("spare", ends.psk.accepted["spare"].reveal()))
    await begin(server, late, port)
    await late.finish()
    accepted = await server.side.next(Accepted)
    assert (accepted.address, accepted.identity) == ("127.0.0.2", "spare")
    await server.sessions.stop()


async def test_session_of_tls_1_2_cannot_be_resumed_without_the_psk(ends: Ends) -> None:
    """A resumed session has no identity. The server does a whole handshake instead, or none."""
    server = Server(ends.psk)
    port = await server.start()
    context = client_with("node", ends.psk.accepted["node"].reveal(), ECDHE)
    clients = [Client(f"127.0.0.{number}", "node", context) for number in (1, 2, 3)]
    first, concurrent, later = clients
    await begin(server, concurrent, port)  # with the same context of the server as the first
    await begin(server, first, port)
    await first.finish()
    assert (await server.side.next(Accepted)).address == first.address
    session = first.tls.session
    assert session is not None
    assert session.id

    later.resume(session)
    await begin(server, later, port)
    await later.finish()
    assert (await server.side.next(Accepted)).identity == "node"
    assert later.tls.session_reused is False

    concurrent.resume(session, sent=1)
    await concurrent.finish()
    await server.sessions.stop()
    assert server.side.counters == {"handshakes_ok": 2, "handshakes_failed": 1}
