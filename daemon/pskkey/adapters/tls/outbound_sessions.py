"""The daemon's key client: sessions that it opens to key servers over TLS-PSK, as events and actions."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.paced_input import PacedInput
from pskkey.adapters.tls.authentication import FailedAuthentication, find_server_fault, show_identity
from pskkey.adapters.tls.client_handshake import ClientHandshake
from pskkey.adapters.tls.connection import TlsConnection
from pskkey.adapters.tls.contexts import client_context, explain_server_failure, node_protocol, require_psk
from pskkey.adapters.tls.tcp_connect import connect
from pskkey.adapters.tls.tcp_errors import explain_connect_failure
from pskkey.adapters.tls.tls_session import Handshake
from pskkey.adapters.token_bucket import Rate, TokenBucket
from pskkey.config.psk import Psk, PskFile
from pskkey.core.actions import PATIENCE_FOR_HANDSHAKE, STAGGER, Connect
from pskkey.core.events import Connected, Direction, Disconnected, Event, OtherNodeAnswered, Received, Session
from pskkey.errors import HandshakeError, NothingListens, PskkeyError, Unreachable, WrongNode
from pskkey.model import ErrorMessage, Message
from pskkey.wire.packet import Channel, PacketReader, Side, encode

SESSION_RATE: Final = Rate(per_second=200.0, burst=400.0)
"""Frames of one session. A master sends a GROUP of up to 128 frames, its changes ten times a second, and heartbeats."""


@dataclass(slots=True, eq=False)
class _Outbound:
    """A requested session with the node `peer` by `psk`. It is open when it has a `connection`."""

    psk: Psk
    peer: str
    connection: TlsConnection | None = None
    task: asyncio.Task[None] | None = None
    failures: list[PskkeyError] = field(default_factory=list)
    silent: dict[str, float] = field(default_factory=dict)
    """The addresses at which TCP opened and the handshake is under way, and since when."""
    latest_open: float = 0.0
    """When TCP must be open, by the event loop's clock."""
    patience: float = 0.0

    @property
    def deadline(self) -> float:
        """When the attempt ends. A handshake that is under way has its time, but several do not add up."""
        ends = [self.latest_open, *(since + self.patience for since in self.silent.values())]
        return min(max(ends), self.latest_open + self.patience)

    def find_next(self, last: float) -> float:
        """Return when the next address may be tried. The last one was tried at `last`."""
        return max([last + STAGGER, *(since + PATIENCE_FOR_HANDSHAKE for since in self.silent.values())])


class OutboundSessions:
    """Opens sessions to key servers. Emits Connected, Received, Disconnected and OtherNodeAnswered.

    `psk` is called at each attempt. A server must prove that it is the meant node. If it is another one, or this node
    itself, the next address is tried.

    Counters: `connects_ok`, `connects_failed`, `authentications_failed`, `bad_packets`, `connections_stalled`.
    """

    def __init__(
        self,
        psk: Callable[[], PskFile],
        emit: Callable[[Event], None],
        counters: Counter[str],
        turns: FairTurns | None = None,
        options: SocketOptions | None = None,
        report: Callable[[FailedAuthentication], None] | None = None,
    ) -> None:
        """Messages are taken in `turns`, which all adapters with sessions may share.

        `report` gets the servers that failed to authenticate, besides the Disconnected event of the session.
        """
        self._psk = psk
        self._emit = emit
        self._counters = counters
        self._turns = turns or FairTurns()
        self._options = options or SocketOptions(counters)
        self._report = report or (lambda _: None)
        self._outbound: dict[Session, _Outbound] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[TlsConnection, Session] = {}  # also those of attempts, and of cancelled sessions
        self._handshakes: dict[TlsConnection, asyncio.Future[Exception | None]] = {}
        """The handshakes in progress. Each ends with its error, or with None."""
        self._open: set[TlsConnection] = set()
        self._inputs: dict[TlsConnection, PacedInput] = {}
        self._all_lost = asyncio.Event()

    def connect(self, action: Connect) -> None:
        """Open a session with the active PSK. A Connected or Disconnected event follows."""
        outbound = self._outbound[action.session] = _Outbound(self._psk().active, action.peer)
        outbound.task = asyncio.create_task(self._connect(action, outbound))
        self._tasks.add(outbound.task)
        outbound.task.add_done_callback(self._tasks.discard)

    def send(self, session: Session, message: Message) -> None:
        """Send on an open session. On another session nothing happens."""
        outbound = self._outbound.get(session)
        if outbound is not None and outbound.connection is not None:
            outbound.connection.write(encode(message))

    def disconnect(self, session: Session, error: ErrorMessage | None) -> None:
        """End a session, or the attempt to open it. No event follows."""
        outbound = self._outbound.pop(session, None)
        if outbound is None:
            return
        if outbound.connection is None:
            if outbound.task is not None:
                outbound.task.cancel()
            return
        if error is not None:
            outbound.connection.write(encode(error))
        outbound.connection.close("we closed it")

    async def stop(self) -> None:
        """End every session and attempt, each with its Disconnected event. Return when all connections are closed."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in [session for session, outbound in self._outbound.items() if outbound.connection is None]:
            self._end(session, "the key client stops")
        for connection in list(self._open):
            connection.close("the key client stops")
        while self._open:
            self._all_lost.clear()
            await self._all_lost.wait()
        for session in list(self._outbound):  # those whose last messages were not taken yet
            self._end(session, "the key client stops")

    def opened(self, connection: TlsConnection) -> None:
        """Open the session after a handshake, unless another address was faster or the PSK was not used."""
        self._open.add(connection)
        self._end_handshake(connection, None)
        session = self._connections[connection]
        outbound = self._outbound.get(session)
        if outbound is None or outbound.connection is not None:
            connection.abort("it was not needed any more")
            return
        outbound.silent.pop(connection.address, None)
        try:
            require_psk(connection.tls)
        except HandshakeError as error:
            self._report_failure(error, connection, outbound)
            connection.abort("it did not use the PSK")
            return
        if connection.tls.selected_alpn_protocol() != node_protocol(outbound.peer):
            target = f"{connection.address}, port {connection.port}"
            outbound.failures.append(WrongNode(f"{target}: another node answers at this address"))
            connection.abort("it is another node")
            self._emit(OtherNodeAnswered(outbound.peer, connection.address))
            return
        outbound.connection = connection
        self._inputs[connection] = PacedInput(
            PacketReader(Channel.TLS, Side.CLIENT),
            connection,
            self._turns,
            [TokenBucket(SESSION_RATE)],
            lambda message: self._take(connection, session, message),
            connection.refuse,
        )
        self._counters["connects_ok"] += 1
        self._emit(Connected(session, outbound.psk.name, connection.address))

    def failed(self, connection: TlsConnection, error: Exception) -> None:
        """Note a failed handshake."""
        self._end_handshake(connection, error)

    def received(self, connection: TlsConnection, data: bytes) -> None:
        """Take bytes from a server."""
        if (paced := self._inputs.get(connection)) is not None:
            paced.feed(data)

    def lost(self, connection: TlsConnection, reason: str) -> None:
        """End the session of a lost connection, after its last messages."""
        session = self._connections.pop(connection)
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()
        if connection.broke_protocol or connection.stalled:
            self._counters["bad_packets" if connection.broke_protocol else "connections_stalled"] += 1
        paced = self._inputs.pop(connection, None)
        if paced is None:
            self._end_lost(connection, session, reason)
        else:
            paced.finish(lambda: self._end_lost(connection, session, reason))

    def _end_lost(self, connection: TlsConnection, session: Session, reason: str) -> None:
        if self._is_current(connection, session):
            self._end(session, f"the connection to {connection.address}, port {connection.port} ended: {reason}")

    def _take(self, connection: TlsConnection, session: Session, message: Message) -> None:
        if self._is_current(connection, session):  # else an earlier message has ended the session
            self._emit(Received(session, message))

    def _is_current(self, connection: TlsConnection, session: Session) -> bool:
        outbound = self._outbound.get(session)
        return outbound is not None and outbound.connection is connection

    def _end(self, session: Session, reason: str, code: str = "lost") -> None:
        del self._outbound[session]
        self._emit(Disconnected(session, reason, code))

    # --- opening ------------------------------------------------------------------------------------------------

    async def _connect(self, action: Connect, outbound: _Outbound) -> None:
        late, code = "", "timeout"
        began = asyncio.get_running_loop().time()
        outbound.latest_open, outbound.patience = began + action.timeout, action.patience
        try:
            await self._try_addresses(action, outbound)
        except TimeoutError:
            waited = outbound.deadline - began
            late = f"{', '.join(action.addresses)}, port {action.port}: no answer within {waited:.3g} s"
            if outbound.silent:
                late, code = f"{late}, though TCP opened at {', '.join(sorted(outbound.silent))}", "no_handshake"
        if outbound.connection is None and self._outbound.get(action.session) is outbound:
            self._counters["connects_failed"] += 1
            failures = sorted(outbound.failures, key=_rank)
            first = failures[0] if failures else None
            if first is None and not late:
                self._end(action.session, "the peer has no address", "no_address")
            elif first is None or (late and not _explains_more(first, late_at=outbound.silent)):
                self._end(action.session, late if first is None else f"{late}; {first}", code)
            else:
                self._end(action.session, str(first), _code(first))

    async def _try_addresses(self, action: Connect, outbound: _Outbound) -> None:
        """Try the addresses one after the other, in parallel with those that have not failed yet, until one is open.

        Raises TimeoutError.
        """
        loop = asyncio.get_running_loop()
        waiting = list(action.addresses)
        attempts: dict[asyncio.Task[None], TlsConnection] = {}
        next_at = last = loop.time()
        try:
            while (waiting or attempts) and outbound.connection is None:
                now = loop.time()
                if now >= outbound.deadline:
                    raise TimeoutError
                if waiting and now >= next_at:
                    connection = TlsConnection(self, waiting.pop(0), action.port)
                    self._connections[connection] = action.session
                    attempts[asyncio.create_task(self._attempt(connection, outbound))] = connection
                    last = now
                wake = min(outbound.deadline, outbound.find_next(last)) if waiting else outbound.deadline
                done, _ = await asyncio.wait(attempts, timeout=wake - now, return_when=asyncio.FIRST_COMPLETED)
                next_at = loop.time() if done else outbound.find_next(last)
                for task in done:
                    del attempts[task]
                    task.result()
        finally:
            for task, connection in attempts.items():
                if outbound.connection is not connection:  # a cancellation in its last step would close the connection
                    task.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)

    async def _attempt(self, connection: TlsConnection, outbound: _Outbound) -> None:
        """Try one address. Add an error to the failures of `outbound`."""
        psk, failures = outbound.psk, outbound.failures
        target = f"{connection.address}, port {connection.port}"
        try:
            connected = await _connect_tcp(connection.address, connection.port, self._options)
            outbound.silent[connection.address] = asyncio.get_running_loop().time()
            await self._shake_hands(connection, connected, ClientHandshake(client_context(psk, [outbound.peer])))
        except Unreachable as error:
            failures.append(type(error)(f"{target}: {error}"))
        except (OSError, HandshakeError) as error:
            outbound.silent.pop(connection.address, None)
            self._report_failure(error, connection, outbound)
        finally:
            if connection not in self._open:  # never opened, so `lost` will not be called
                self._connections.pop(connection, None)

    async def _shake_hands(self, connection: TlsConnection, connected: socket.socket, handshake: Handshake) -> None:
        """Do the handshake on a connected socket. Raises the OSError or HandshakeError of its failure."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: connection, sock=connected)
        ended = self._handshakes[connection] = loop.create_future()
        try:
            connection.shake_hands(transport, handshake)
            error = await ended
        except asyncio.CancelledError:
            connection.give_up()
            raise
        finally:
            del self._handshakes[connection]
        if error is not None:
            raise error

    def _end_handshake(self, connection: TlsConnection, error: Exception | None) -> None:
        ended = self._handshakes.get(connection)
        if ended is not None and not ended.done():
            ended.set_result(error)

    def _report_failure(self, error: Exception, connection: TlsConnection, outbound: _Outbound) -> None:
        """Add a failed handshake to the failures of `outbound`, and report it if the server did not authenticate."""
        identity = outbound.psk.identity
        reason = explain_server_failure(error, identity)
        outbound.failures.append(HandshakeError(f"{connection.address}, port {connection.port}: {reason}"))
        if (fault := find_server_fault(error)) is not None:
            self._counters["authentications_failed"] += 1
            shown = show_identity(identity)
            self._report(FailedAuthentication(Direction.OUTBOUND, connection.address, shown, fault, reason))


def _rank(failure: PskkeyError) -> int:
    """Return the place of a failure among those of one attempt: the first one explains the most."""
    if isinstance(failure, NothingListens):
        return 3  # another address that does not answer may be the right one
    return next((rank for rank, kind in enumerate((HandshakeError, WrongNode)) if isinstance(failure, kind)), 2)


def _explains_more(failure: PskkeyError, late_at: Collection[str]) -> bool:
    """Return whether a failure at one address explains more than that there was no answer in time.

    `late_at`: the addresses at which TCP opened. One of them may be the peer, which is busy.
    """
    return isinstance(failure, HandshakeError) or (isinstance(failure, WrongNode) and not late_at)


def _code(failure: PskkeyError) -> str:
    """Return the code of a failure for `events.Disconnected`."""
    return ("handshake", "wrong_node", "unreachable", "refused")[_rank(failure)]


async def _connect_tcp(address: str, port: int, options: SocketOptions) -> socket.socket:
    """Return a connected socket. Raises Unreachable, or NothingListens, with the reason."""
    try:
        return await connect(address, port, options)
    except OSError as error:
        failure = NothingListens if isinstance(error, ConnectionRefusedError) else Unreachable
        raise failure(explain_connect_failure(error)) from None
