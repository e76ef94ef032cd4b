"""A session that moves to another PSK: what ends its former connection, or refuses the new one, does not end it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pskkey.adapters.key_client import KeyClient
from pskkey.adapters.key_server import KeyServer
from pskkey.adapters.tls_listener import ServerLimits
from pskkey.core.actions import Connect
from pskkey.core.events import Accepted, Connected, Direction, Disconnected, Received, Session
from pskkey.model import ErrorMessage, Heartbeat
from pskkey.psk import PskFile, generate_psk_line, load_psk
from tests.tls.ends import JOIN, NODE, Side

MINE = Session(Direction.OUTBOUND, 1)


class Renewal:
    """A key client that has joined a key server with one PSK, and has another one now."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "psk-of-renewal"
        self._path.touch(0o600)
        self.old, self.new = (generate_psk_line(identity) + "\n" for identity in ("old", "new"))
        self.psk_of_client, self.psk_of_server = self.load(self.old), self.load(self.old + self.new)
        self.at_client, self.at_server = Side(), Side()
        self.client = KeyClient(lambda: self.psk_of_client, self.at_client.events.put_nowait, self.at_client.counters)
        limits, emit = ServerLimits(), self.at_server.events.put_nowait
        self.server = KeyServer(lambda: self.psk_of_server, False, limits, emit, self.at_server.counters)

    def load(self, text: str) -> PskFile:
        self._path.write_text(text)
        return load_psk(self._path)

    def change(self, text: str) -> None:
        self.psk_of_client = self.load(text)
        self.client.psk_changed()

    async def join(self) -> Session:
        """Say JOIN, as the core does when it is told that a session is open; return what the server calls it."""
        assert (await self.at_client.next(Connected)).session == MINE
        self.client.send(MINE, JOIN)
        session = (await self.at_server.next(Accepted)).session
        assert (await self.at_server.next(Received)) == Received(session, JOIN)
        return session

    async def answer(self, session: Session) -> None:
        """Have the server say something; nothing else may have happened at the client."""
        self.server.send(session, Heartbeat())
        assert await self.at_client.next(Received) == Received(MINE, Heartbeat())


@pytest.fixture
async def renewal(tmp_path: Path) -> AsyncIterator[Renewal]:
    ends = Renewal(tmp_path)
    await ends.server.start(["127.0.0.1"], 0)
    assert ends.server.port is not None
    ends.client.connect(Connect(MINE, NODE.id, ("127.0.0.1",), ends.server.port, 5.0))
    yield ends
    await ends.client.stop()
    await ends.server.stop()


async def test_an_error_on_the_former_connection_ends_nothing(renewal: Renewal) -> None:
    former = await renewal.join()
    await renewal.answer(former)
    renewal.change(renewal.new + renewal.old)
    later = await renewal.join()
    renewal.psk_of_server = renewal.load(renewal.new)
    renewal.server.psk_changed()  # tells the former that its PSK was removed
    assert (await renewal.at_server.next(Disconnected)).session == former
    await asyncio.sleep(0.2)
    await renewal.answer(later)
    assert renewal.at_client.events.empty()


@pytest.mark.parametrize("error", [ErrorMessage("busy", "no place"), None])
async def test_a_session_that_is_refused_goes_back(renewal: Renewal, error: ErrorMessage | None) -> None:
    former = await renewal.join()
    renewal.change(renewal.new + renewal.old)
    later = await renewal.join()
    renewal.server.disconnect(later, error)
    # JOIN is said again, on the former: the server must know for certain which of the two it is.
    assert (await renewal.at_client.next(Connected)).session == MINE
    renewal.client.send(MINE, JOIN)
    assert await renewal.at_server.next(Received) == Received(former, JOIN)
    await renewal.answer(former)
    # A reload does not wait for the pause to be over.
    renewal.client.psk_changed()
    last = await asyncio.wait_for(renewal.join(), 2)
    await renewal.answer(last)
    assert (await renewal.at_server.next(Disconnected)).session == former
    assert renewal.at_client.events.empty()


async def test_another_change_waits_for_the_answer_to_the_first(renewal: Renewal) -> None:
    former = await renewal.join()
    renewal.change(renewal.new + renewal.old)
    later = await renewal.join()
    renewal.change(renewal.old + renewal.new)
    await asyncio.sleep(0.2)
    assert renewal.at_server.events.empty()
    await renewal.answer(later)
    assert (await renewal.at_server.next(Disconnected)).session == former
    last = await renewal.join()
    await renewal.answer(last)
    assert (await renewal.at_server.next(Disconnected)).session == later


async def test_the_session_ends_when_neither_connection_is_left(renewal: Renewal) -> None:
    former = await renewal.join()
    renewal.change(renewal.new + renewal.old)
    later = await renewal.join()
    renewal.server.disconnect(former, ErrorMessage("psk_removed", "its PSK was removed"))
    await asyncio.sleep(0.2)
    assert renewal.at_client.events.empty()
    renewal.server.disconnect(later, None)
    assert (await renewal.at_client.next(Disconnected)).session == MINE
