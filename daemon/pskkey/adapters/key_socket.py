"""`keys.sock`: where local session managers fetch the group key.

Each connection is a session of direction LOCAL. Credentials are checked when it is made; after that it speaks the
packet protocol, with at most one answer waiting for a reader that is slow.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import socket
from typing import Final, cast

from pskkey.adapters.complaints import Complaints
from pskkey.adapters.local_access import LocalAccess, PeerCredentials
from pskkey.adapters.unix_listener import UnixListener
from pskkey.core.events import Attached, Direction, Disconnected, Event, Received, Session
from pskkey.errors import BadPacket
from pskkey.model import ErrorMessage, Heartbeat, KeyState, Message, Process
from pskkey.wire.packet import Door, PacketReader, Side, encode

MAX_CONNECTIONS: Final = 256
READ_SIZE: Final = 4096
"""Bytes read at a time: bounds how many requests one consumer can make before the others have their turn."""
MAX_UNREAD: Final = 256 * 1024
"""Bytes of answers that a consumer may leave unread before it is cut off."""

_log = logging.getLogger("pskkey.key_socket")


class KeySocket:
    """Serves local consumers. It decides only who may come in; what they get is the node's business."""

    def __init__(
        self, users: Sequence[str], groups: Sequence[str], emit: Callable[[Event], None], counters: Counter[str]
    ) -> None:
        """Let in root, our own user, `users` and the members of `groups`. Raises ConfigError for unknown ones."""
        self._access = LocalAccess.of(users, groups)
        self._emit = emit
        self._counters = counters
        self._listener = UnixListener()
        self._connections: dict[Session, _Connection] = {}
        self._refused: set[_Connection] = set()
        self._last_number = 0
        self._complaints = Complaints(_log)

    async def start(self, path: Path, inherited: socket | None = None) -> None:
        """Listen at `path`, or on an `inherited` listening socket. Raises ConfigError."""
        await self._listener.start(lambda: _Connection(self), path, self._access, inherited)

    def permit(self, access: LocalAccess) -> None:
        """Let these in from now on; whoever is there and may not be, has to go, with a Disconnected event."""
        self._access = access
        self._listener.permit(access)
        for session, connection in list(self._connections.items()):
            if connection.peer is not None and not access.allows(connection.peer):
                reason = f"user {connection.peer.uid} may not fetch keys here any more; see [handoff]"
                self.disconnect(session, ErrorMessage("denied", reason))
                self._emit(Disconnected(session, reason))

    def send(self, session: Session, message: Message) -> None:
        """Send to a consumer; to one that has just left, nothing. Of several unread KeyState only the newest goes."""
        connection = self._connections.get(session)
        if connection is not None:
            connection.send(message)

    def disconnect(self, session: Session, error: ErrorMessage | None = None) -> None:
        """Close a session, after sending `error`. No Disconnected event follows."""
        connection = self._connections.pop(session, None)
        if connection is not None:
            connection.close(error)

    async def stop(self) -> None:
        """Close all sessions and the socket, and remove its file. No event follows."""
        self._listener.close()
        for session in list(self._connections):
            self.disconnect(session)
        for connection in list(self._refused):
            connection.close(None)
        await self._listener.wait_closed()

    def admit(self, connection: "_Connection", peer: PeerCredentials) -> Session | None:
        """Open a session for a new connection, or close it."""
        if not self._access.allows(peer):
            self._refuse(
                connection, peer, ErrorMessage("denied", f"user {peer.uid} may not fetch keys here; see [handoff]")
            )
            return None
        if len(self._connections) >= MAX_CONNECTIONS:
            self._refuse(connection, peer, ErrorMessage("busy", f"{MAX_CONNECTIONS} consumers are connected already"))
            return None
        self._last_number += 1
        session = Session(Direction.LOCAL, self._last_number)
        self._connections[session] = connection
        self._emit(Attached(session, Process(peer.pid, peer.uid)))
        return session

    def received(self, session: Session, message: Message) -> bool:
        """Pass a message on; tell whether the session is still open afterwards."""
        self._emit(Received(session, message))
        return session in self._connections

    def broken(self, session: Session, uid: int, error: BadPacket) -> None:
        """Close a session whose consumer broke the protocol."""
        self._counters["bad_packets"] += 1
        reason = f"the consumer sent a bad packet: {error}"
        self._complaints.warn(f"user {uid}", reason)
        self.disconnect(session, ErrorMessage("bad_packet", str(error)))
        self._emit(Disconnected(session, reason))

    def lost(self, connection: "_Connection", session: Session | None, reason: str) -> None:
        """Note that a connection is gone."""
        self._refused.discard(connection)
        if session is not None and self._connections.pop(session, None) is not None:
            self._emit(Disconnected(session, reason))

    def _refuse(self, connection: "_Connection", peer: PeerCredentials, error: ErrorMessage) -> None:
        self._counters["connections_refused"] += 1
        self._complaints.warn(f"user {peer.uid}", f"process {peer.pid} was refused: {error.message}")
        self._refused.add(connection)
        connection.close(error)


class _Connection(asyncio.BufferedProtocol):
    """One consumer. Reads no more requests while it does not take its answers."""

    _transport: asyncio.Transport

    def __init__(self, owner: KeySocket) -> None:
        self._owner = owner
        self._buffer = bytearray(READ_SIZE)
        self._reader = PacketReader(Door.KEYS, Side.SERVER)
        self._session: Session | None = None
        self.peer: PeerCredentials | None = None
        """Who it is, once it is known."""
        self._writable = True
        self._newest: KeyState | None = None
        self._reason = "the consumer closed the connection"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A limit of 0 tells us as soon as the kernel takes no more, so that a state can wait where it can be replaced.
        self._transport.set_write_buffer_limits(high=0)
        try:
            peer = PeerCredentials.of(transport.get_extra_info("socket"))
        except OSError as error:
            _log.warning("cannot tell who connects: %s", error.strerror)
            self._transport.abort()
            return
        self.peer = peer
        self._session = self._owner.admit(self, peer)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._session is None or self.peer is None or self._transport.is_closing():
            return
        try:
            messages = self._reader.receive_untrusted(bytes(self._buffer[:nbytes]))
        except BadPacket as error:
            self._owner.broken(self._session, self.peer.uid, error)
            return
        for message in messages:
            if not self._owner.received(self._session, message):
                return

    def pause_writing(self) -> None:
        self._writable = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable = True
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        state, self._newest = self._newest, None
        if state is not None:
            self.send(state)

    def connection_lost(self, exc: Exception | None) -> None:
        self._newest = None
        reason = f"the connection to the consumer failed: {exc}" if exc else self._reason
        self._owner.lost(self, self._session, reason)

    def send(self, message: Message) -> None:
        if self._transport.is_closing():
            return
        if self._writable:
            self._transport.write(encode(message))
        elif isinstance(message, KeyState):
            self._newest = message
        elif isinstance(message, Heartbeat):
            return  # says nothing to a consumer that has older things to read
        elif self._transport.get_write_buffer_size() < MAX_UNREAD:
            self._transport.write(encode(message))
        else:
            self._reason = "the consumer asks for more than it reads"
            self._transport.abort()

    def close(self, error: ErrorMessage | None) -> None:
        """Send `error` if the consumer takes it at once, and close."""
        if error is not None and self._writable:
            self._transport.write(encode(error))
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
