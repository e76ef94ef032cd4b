"""`keys.sock`: where local session managers fetch the group key.

Credentials are checked when a connection is made. It becomes a session of direction LOCAL with its first message. Until
then it is *silent*: it is closed after FIRST_MESSAGE_WITHIN, or earlier when its place is needed. A session speaks the
packet protocol at the pace of `paced_input`. Of several KEY_STATE for a slow reader, only the newest waits.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import socket
from typing import Final, cast

from pskkey.adapters.complaints import Complaints
from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.local.local_access import LocalAccess, PeerCredentials
from pskkey.adapters.local.unix_listener import UnixListener
from pskkey.adapters.paced_input import PacedInput
from pskkey.adapters.token_bucket import Rate, TokenBucket, TokenBuckets
from pskkey.core.events import Attached, Direction, Disconnected, Event, Received, Session
from pskkey.errors import BadPacket
from pskkey.model import ErrorMessage, Heartbeat, KeyState, Message, Process
from pskkey.wire.packet import Channel, PacketReader, Side, encode

MAX_CONNECTIONS: Final = 256
"""Connections of all users."""
MAX_CONNECTIONS_OF_OTHERS: Final = 192
"""Connections of all users except root and our own. The other places are kept for these two."""
MAX_CONNECTIONS_OF_USER: Final = 64
"""Connections of one user who is neither root nor our own."""
FIRST_MESSAGE_WITHIN: Final = 5.0
"""Seconds in which the first message must come. A session manager connects in order to ask something."""
SESSION_RATE: Final = Rate(per_second=20.0, burst=40.0)
"""Messages of one session. A session manager sends a few at a rekey, and a heartbeat every second or so."""
USER_RATE: Final = Rate(per_second=200.0, burst=400.0)
"""Messages of all sessions of one user."""
READ_SIZE: Final = 4096
"""Bytes of one read from a session manager. No more than these, and one incomplete message, wait undecoded."""
MAX_UNREAD: Final = 256 * 1024
"""Bytes of answers that a session manager may leave unread before its connection is closed."""

_log = logging.getLogger("pskkey.key_socket")


class KeySocket:
    """Serves local session managers. It decides only which users may connect; the node decides what they get."""

    def __init__(
        self,
        users: Sequence[str],
        groups: Sequence[str],
        emit: Callable[[Event], None],
        counters: Counter[str],
        turns: FairTurns | None = None,
    ) -> None:
        """Let in root, our own user, `users` and the members of `groups`. Raises ConfigError for unknown ones.

        Messages are taken in `turns`, which all adapters with sessions may share.
        """
        self._access = LocalAccess.of(users, groups)
        self._emit = emit
        self._counters = counters
        self._turns = turns or FairTurns()
        self._of_user = TokenBuckets(USER_RATE)
        self._connections: dict[_Connection, Session | None] = {}
        """The admitted connections, the oldest first; None while they are silent."""
        self._sessions: dict[Session, _Connection] = {}
        self._refused: set[_Connection] = set()
        self._last_number = 0
        self._complaints = Complaints(_log)
        self._listener = UnixListener(counters, self._complaints)

    async def start(self, path: Path, inherited: socket | None = None) -> None:
        """Listen at `path`, or on an `inherited` listening socket. Raises ConfigError."""
        await self._listener.start(lambda: _Connection(self), path, self._access, inherited)

    def permit(self, access: LocalAccess) -> None:
        """Admit these users from now on. Close all other connections, sessions with a Disconnected event."""
        self._access = access
        self._listener.permit(access)
        for connection, session in list(self._connections.items()):
            if not access.allows(connection.peer):
                reason = f"user {connection.peer.uid} may not fetch keys here any more; see [handoff]"
                self._end(connection, ErrorMessage("denied", reason))
                if session is not None:
                    self._emit(Disconnected(session, reason))

    def send(self, session: Session, message: Message) -> None:
        """Send to a session manager, if it is still there. Of several unread KeyState only the newest is sent."""
        connection = self._sessions.get(session)
        if connection is not None:
            connection.send(message)

    def disconnect(self, session: Session, error: ErrorMessage | None = None) -> None:
        """Close a session, after sending `error`. No Disconnected event follows."""
        connection = self._sessions.get(session)
        if connection is not None:
            self._end(connection, error)

    async def stop(self) -> None:
        """Close all connections and the socket, and remove its file. No event follows."""
        self._listener.close()
        for connection in list(self._connections):
            self._end(connection, None)
        for connection in list(self._refused):
            connection.close(None)
        await self._listener.wait_closed()

    def admit(self, connection: "_Connection") -> None:
        """Admit a new connection, or refuse it."""
        peer = connection.peer
        if not self._access.allows(peer):
            self._refuse(connection, ErrorMessage("denied", f"user {peer.uid} may not fetch keys here; see [handoff]"))
        elif (full := self._make_room(peer.uid)) is not None:
            self._refuse(connection, ErrorMessage("busy", full))
        else:
            self._connections[connection] = None
            now = asyncio.get_running_loop().time()
            connection.open(self._turns, [TokenBucket(SESSION_RATE), self._of_user.of(peer.uid, now)])

    def received(self, connection: "_Connection", message: Message) -> None:
        """Emit a message. The first message makes the connection a session."""
        if connection not in self._connections:
            return
        session = self._connections[connection]
        if session is None:
            self._last_number += 1
            session = self._connections[connection] = Session(Direction.LOCAL, self._last_number)
            self._sessions[session] = connection
            self._emit(Attached(session, Process(connection.peer.pid, connection.peer.uid)))
        self._emit(Received(session, message))

    def close_silent(self, connection: "_Connection") -> None:
        """Close a connection without a first message in time."""
        if connection in self._connections and self._connections[connection] is None:
            self._drop(connection, "silent", f"no message came within {FIRST_MESSAGE_WITHIN:g} s")

    def close_broken(self, connection: "_Connection", error: BadPacket) -> None:
        """Close a connection whose session manager broke the protocol."""
        self._counters["bad_packets"] += 1
        reason = f"the session manager sent a bad packet: {error}"
        self._complaints.warn(f"user {connection.peer.uid}", reason)
        session = self._connections.get(connection)
        self._end(connection, ErrorMessage("bad_packet", str(error)))
        if session is not None:
            self._emit(Disconnected(session, reason))

    def lost(self, connection: "_Connection", reason: str) -> None:
        """Note that a connection is closed."""
        self._refused.discard(connection)
        session = self._connections.pop(connection, None)
        if session is not None:
            del self._sessions[session]
            self._emit(Disconnected(session, reason))

    def _end(self, connection: "_Connection", error: ErrorMessage | None) -> None:
        session = self._connections.pop(connection, None)
        if session is not None:
            del self._sessions[session]
        connection.close(error)

    def _make_room(self, uid: int) -> str | None:
        """Make a place for a connection of this user. Return a sentence when there is none.

        If all places are taken, the oldest silent connection of the user with the most connections is closed.
        """
        held = Counter(connection.peer.uid for connection in self._connections)
        privileged = {0, os.geteuid()}
        others = sum(count for user, count in held.items() if user not in privileged)
        if uid not in privileged and held[uid] >= MAX_CONNECTIONS_OF_USER:
            full = f"user {uid} has {held[uid]} connections already"
            users = {uid}
        elif uid not in privileged and others >= MAX_CONNECTIONS_OF_OTHERS:
            full = f"{others} session managers are connected already"
            users = set(held) - privileged
        elif len(self._connections) >= MAX_CONNECTIONS:
            full = f"{len(self._connections)} session managers are connected already"
            users = set(held)
        else:
            return None
        silent = [c for c, session in self._connections.items() if session is None and c.is_silent]
        silent = [connection for connection in silent if connection.peer.uid in users]
        if not silent:
            return full
        oldest_of_busiest = max(silent, key=lambda connection: held[connection.peer.uid])
        self._drop(oldest_of_busiest, "busy", "no message had come, and its place was needed")
        return None

    def _drop(self, connection: "_Connection", code: str, why: str) -> None:
        self._counters["connections_silent"] += 1
        self._complaints.warn(
            f"user {connection.peer.uid}", f"the connection of process {connection.peer.pid} was closed: {why}"
        )
        self._end(connection, ErrorMessage(code, why))

    def _refuse(self, connection: "_Connection", error: ErrorMessage) -> None:
        peer = connection.peer
        self._counters["connections_refused"] += 1
        self._complaints.warn(f"user {peer.uid}", f"process {peer.pid} was refused: {error.message}")
        self._refused.add(connection)
        connection.close(error)


class _Connection(asyncio.BufferedProtocol):
    """The connection of one session manager. No request is read while its answers are unread."""

    _transport: asyncio.Transport
    peer: PeerCredentials
    """The process at the other end, from `connection_made` on."""

    def __init__(self, owner: KeySocket) -> None:
        self._owner = owner
        self._buffer = bytearray(READ_SIZE)
        self._input: PacedInput | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._writable = True
        self._newest: KeyState | None = None
        self._reason = "the session manager closed the connection"

    @property
    def is_silent(self) -> bool:
        """Whether no complete message has come."""
        return self._input is None or not self._input.has_message

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # With a limit of 0, writing pauses when the kernel's buffer is full. A later state then replaces an unsent one.
        self._transport.set_write_buffer_limits(high=0)
        try:
            self.peer = PeerCredentials.of(transport.get_extra_info("socket"))
        except OSError as error:
            _log.warning("the credentials of a session manager cannot be read: %s", error.strerror)
            self._transport.abort()
            return
        self._owner.admit(self)

    def open(self, turns: FairTurns, buckets: Sequence[TokenBucket]) -> None:
        """Read from now on, and wait for the first message."""
        reader = PacketReader(Channel.KEYS, Side.SERVER)
        self._input = PacedInput(reader, self._transport, turns, buckets, self._take, self._refuse)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(FIRST_MESSAGE_WITHIN, self._owner.close_silent, self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._input is not None and not self._transport.is_closing():
            self._input.feed(bytes(self._buffer[:nbytes]))

    def pause_writing(self) -> None:
        self._writable = False
        if self._input is not None:
            self._input.hold()

    def resume_writing(self) -> None:
        self._writable = True
        if self._transport.is_closing():
            return
        if self._input is not None:
            self._input.release()
        state, self._newest = self._newest, None
        if state is not None:
            self.send(state)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        self._newest = None
        reason = f"the connection to the session manager failed: {exc}" if exc else self._reason
        if self._input is None:
            self._owner.lost(self, reason)
        else:
            self._input.finish(lambda: self._owner.lost(self, reason))

    def send(self, message: Message) -> None:
        if self._transport.is_closing():
            return
        if self._writable:
            self._transport.write(encode(message))
        elif isinstance(message, KeyState):
            self._newest = message
        elif isinstance(message, Heartbeat):
            return  # useless for a session manager that has older messages to read
        elif self._transport.get_write_buffer_size() < MAX_UNREAD:
            self._transport.write(encode(message))
        else:
            self._reason = "the session manager asks for more than it reads"
            self._transport.abort()

    def close(self, error: ErrorMessage | None) -> None:
        """Close. Send `error` first if the kernel takes it at once."""
        self._stop_reading()
        if error is not None and self._writable:
            self._transport.write(encode(error))
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def _take(self, message: Message) -> None:
        self._cancel_deadline()
        self._owner.received(self, message)

    def _refuse(self, error: BadPacket) -> None:
        self._owner.close_broken(self, error)

    def _stop_reading(self) -> None:
        if self._input is not None:
            self._input.close()
        self._cancel_deadline()

    def _cancel_deadline(self) -> None:
        """Cancel the deadline of the first message."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
