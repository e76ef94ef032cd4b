"""The daemon's key server: sessions of clients that connect with TLS-PSK, as events and actions.

Messages are taken at the pace of `paced_input`: a session at SESSION_RATE, and all sessions of one address together at
RATE_OF_PLACE for each of their places.
"""

import asyncio
import itertools
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.paced_input import PacedInput
from pskkey.adapters.tls.authentication import FailedAuthentication, show_identity
from pskkey.adapters.tls.connection import TlsConnection
from pskkey.adapters.tls.listener import ServerLimits, TlsListener
from pskkey.adapters.token_bucket import Rate, TokenBucket, TokenBuckets
from pskkey.config.psk import PskFile
from pskkey.core.events import Accepted, Direction, Disconnected, Event, Received, Session
from pskkey.model import ErrorMessage, Group, GroupChange, Heartbeat, Join, Message
from pskkey.wire.packet import Channel, PacketReader, Side, encode

SESSION_RATE: Final = Rate(per_second=50.0, burst=100.0)
"""Messages of one session. A member sends 20 heartbeats a second at the shortest interval that may be configured."""
RATE_OF_PLACE: Final = Rate(per_second=8.0, burst=16.0)
"""Messages of one address, for each connection that it may have. A member sends two heartbeats a second by default, and
a JOIN, which takes five tokens."""

_REFUSAL = ErrorMessage("busy", "the key server has no place for another connection from this address")
_REMOVED = ErrorMessage("psk_removed", "the pre-shared key of this session is not accepted any more")
_log = logging.getLogger("pskkey.server")


class InboundSessions:
    """Accepts key clients and other nodes. It decides nothing about their messages.

    Emits Accepted, Received and Disconnected. A session may be silent for `limits.silence` seconds. After a JOIN the
    core decides how long.
    """

    def __init__(
        self,
        node_id: str,
        psk: Callable[[], PskFile],
        legacy_clients: bool,
        limits: ServerLimits,
        emit: Callable[[Event], None],
        counters: Counter[str],
        turns: FairTurns | None = None,
        options: SocketOptions | None = None,
        report: Callable[[FailedAuthentication], None] | None = None,
    ) -> None:
        """`node_id` is this node. Messages are taken in `turns`. All adapters may share `turns` and `options`.

        `report` is as in `TlsListener`.
        """
        options = options or SocketOptions(counters)
        self._emit = emit
        self._turns = turns or FairTurns()
        self._of_address = TokenBuckets(_address_rate(limits))
        self._listener = TlsListener(
            psk, legacy_clients, limits, self, encode(_REFUSAL), counters, options, node_id, report
        )
        self._numbers = itertools.count(1)
        self._sessions: dict[TlsConnection, Session] = {}
        self._connections: dict[Session, TlsConnection] = {}
        self._inputs: dict[TlsConnection, PacedInput] = {}
        self._nodes: dict[TlsConnection, str] = {}
        # Such a message goes to many members, and is encoded once for all. It has no secrets.
        self._last_of_all: tuple[Heartbeat | Group | GroupChange, bytes] | None = None

    @property
    def port(self) -> int | None:
        """The TCP port that is listened on, None while it is not."""
        return self._listener.port

    @property
    def identities(self) -> dict[str, str]:
        """The PSK identity of each open session that has sent a JOIN, by node id. Of two sessions, the later counts."""
        return {node: connection.identity for connection, node in self._nodes.items() if connection.identity}

    async def start(self, addresses: Sequence[str], port: int) -> None:
        """Listen on these IP addresses, or on all of IPv4 and IPv6 if none is given.

        Port 0 means a free port. Raises ConfigError when it cannot listen on an address or the port.
        """
        await self._listener.start(addresses, port)

    def listen(self, address: str, port: int) -> socket.socket:
        """Listen on one IP address more. Return its listening socket. Raises ConfigError when it cannot."""
        return self._listener.listen(address, port)

    def stop_listening(self, listener: socket.socket) -> None:
        """Stop listening on one socket. The sessions go on."""
        self._listener.stop_listening(listener)

    async def stop(self) -> None:
        """Stop listening and end every session, each with its Disconnected event. `start` may follow."""
        await self._listener.stop()
        for connection in list(self._sessions):  # those whose last messages were not taken yet
            self._end(connection, "the key server stops")

    def reconfigure(self, legacy_clients: bool, limits: ServerLimits) -> None:
        """Use these settings from the next connection on."""
        self._listener.reconfigure(legacy_clients, limits)
        self._of_address = TokenBuckets(_address_rate(limits))

    def psk_changed(self) -> None:
        """End the sessions whose PSK was removed from the PSK file, with Disconnected events."""
        for connection in self._listener.outdated():
            session = self._sessions.get(connection)
            if session is not None:
                self.disconnect(session, _REMOVED)
                reason = f"its PSK, identity {connection.identity!a}, was removed from our PSK file"
                self._emit(Disconnected(session, reason))

    def send(self, session: Session, message: Message) -> None:
        """Send on an open session. On an ended session nothing happens."""
        connection = self._connections.get(session)
        if connection is not None:
            connection.write(self._encoded(message))

    def disconnect(self, session: Session, error: ErrorMessage | None) -> None:
        """End a session. Send `error` first, if there is one. No Disconnected event follows."""
        connection = self._connections.get(session)
        if connection is None:
            return
        self._forget(connection)
        if error is not None:
            connection.write(encode(error))
        connection.close("we closed it" if error is None else f"we closed it: {error.message}")

    def opened(self, connection: TlsConnection) -> None:
        """Make a session for a client, which has proved that it holds a PSK of ours."""
        session = Session(Direction.INBOUND, next(self._numbers))
        self._sessions[connection] = session
        self._connections[session] = connection
        now = asyncio.get_running_loop().time()
        self._inputs[connection] = PacedInput(
            PacketReader(Channel.TLS, Side.SERVER),
            connection,
            self._turns,
            [TokenBucket(SESSION_RATE), self._of_address.of(connection.address, now)],
            lambda message: self._take(connection, session, message),
            connection.refuse,
        )
        _log.debug("Session %d from %s, identity %r", session.number, connection.address, connection.identity)
        self._emit(Accepted(session, connection.address, show_identity(connection.identity or "")))

    def received(self, connection: TlsConnection, data: bytes) -> None:
        """Take bytes from a client."""
        if (paced := self._inputs.get(connection)) is not None:
            paced.feed(data)

    def lost(self, connection: TlsConnection, reason: str) -> None:
        """End the session of a lost connection, after its last messages."""
        if (paced := self._inputs.get(connection)) is not None:
            paced.finish(lambda: self._end(connection, reason))

    def _end(self, connection: TlsConnection, reason: str) -> None:
        session = self._sessions[connection]
        self._forget(connection)
        self._emit(Disconnected(session, f"the connection from {connection.address} ended: {reason}"))

    def _take(self, connection: TlsConnection, session: Session, message: Message) -> None:
        if isinstance(message, Join):
            connection.limit_silence(None)
            self._nodes[connection] = message.member.id
        self._emit(Received(session, message))

    def _encoded(self, message: Message) -> bytes:
        if not isinstance(message, Heartbeat | Group | GroupChange):
            return encode(message)
        if self._last_of_all is None or self._last_of_all[0] is not message:
            self._last_of_all = (message, encode(message))
        return self._last_of_all[1]

    def _forget(self, connection: TlsConnection) -> None:
        session = self._sessions.pop(connection)
        self._nodes.pop(connection, None)
        del self._connections[session]
        self._inputs.pop(connection).close()


def _address_rate(limits: ServerLimits) -> Rate:
    places = limits.connections_per_address
    return Rate(RATE_OF_PLACE.per_second * places, RATE_OF_PLACE.burst * places)
