"""The daemon's key server and key client, with their events in queues."""

import asyncio
from collections import Counter
from pathlib import Path

from pskkey.adapters.tls.inbound_sessions import InboundSessions
from pskkey.adapters.tls.listener import ServerLimits
from pskkey.adapters.tls.outbound_sessions import OutboundSessions
from pskkey.config.psk import load_psk
from pskkey.core.actions import Connect
from pskkey.core.events import Accepted, Connected, Direction, Event, Session
from pskkey.model import Join, Member

NODE = Member("0123456789abcdef", "node", ("127.0.0.1",), 11111)
JOIN = Join("default", NODE, "0011223344556677", 0, (), False, None)


class Side:
    """One end, with its events in order."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    async def next[E](self, kind: type[E]) -> E:
        event = await asyncio.wait_for(self.events.get(), 5)
        assert isinstance(event, kind), event
        return event


class Ends:
    """A key server and a key client with a PSK in common."""

    def __init__(self, psk_path: Path) -> None:
        self.psk = load_psk(psk_path)
        self.at_server, self.at_client = Side(), Side()
        self.client = OutboundSessions(lambda: self.psk, self.at_client.events.put_nowait, self.at_client.counters)
        self.server = self.make_server(ServerLimits())
        self._numbers = iter(range(1, 1000))

    def make_server(self, limits: ServerLimits) -> InboundSessions:
        side = self.at_server
        self.server = InboundSessions(NODE.id, lambda: self.psk, False, limits, side.events.put_nowait, side.counters)
        return self.server

    def connect(
        self,
        *addresses: str,
        port: int | None = None,
        timeout: float = 5.0,
        peer: str = NODE.id,
        patience: float = 0.0,
    ) -> Session:
        session = Session(Direction.OUTBOUND, next(self._numbers))
        port = port or self.server.port
        assert port is not None
        self.client.connect(Connect(session, peer, addresses or ("127.0.0.1",), port, timeout, patience))
        return session

    async def session(self) -> tuple[Session, Session]:
        """Open a session. Return it as the client and as the server name it."""
        mine = self.connect()
        assert (await self.at_client.next(Connected)).session == mine
        return mine, (await self.at_server.next(Accepted)).session
