"""The daemon's key client: sessions that it opens to key servers over TLS-PSK, as events and actions.

When another PSK becomes the active one, a session with a master is *renewed*: a second connection is opened with the
new PSK, a Connected event has the core say JOIN once more, and from that message on the session is the new connection.
The old one is read until the new one is answered on, so that nothing is missed and the master never loses its member;
and if the new one is refused, the session is the old one again, and another Connected event has JOIN said there.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from pskkey.adapters.fair_turns import FairTurns
from pskkey.adapters.paced_input import PacedInput
from pskkey.adapters.session_renewal import Line, Lines
from pskkey.adapters.tcp_errors import explain_connect_failure
from pskkey.adapters.tcp_options import expect_small_messages
from pskkey.adapters.tls_connection import CLOSE_TIMEOUT, TlsConnection
from pskkey.adapters.tls_psk import client_context, explain_server_failure, require_psk
from pskkey.adapters.token_bucket import Rate, TokenBucket
from pskkey.core.actions import Connect
from pskkey.core.events import Connected, Disconnected, Event, Received, Session
from pskkey.errors import HandshakeError, PskkeyError, Unreachable
from pskkey.model import ErrorMessage, Join, Message
from pskkey.psk import Psk, PskFile
from pskkey.wire.packet import Door, PacketReader, Side, encode

STAGGER = 0.1
"""Seconds that an attempt at one address of a peer may last before the next one is tried beside it."""

RENEWAL_TIMEOUT = 5.0
"""Seconds that an attempt to open another connection for a session may last."""

SESSION_RATE: Final = Rate(per_second=200.0, burst=400.0)
"""Frames of one session. A master sends a GROUP of up to 128 frames, its changes ten times a second, and heartbeats."""

_log = logging.getLogger("pskkey.client")


@dataclass(slots=True, eq=False)
class _Outbound:
    """A session that was asked for, with `psk`; open once `lines` has a line. `joined`: JOIN was said on it."""

    psk: Psk
    lines: Lines = field(default_factory=Lines)
    task: asyncio.Task[None] | None = None
    joined: bool = False
    renewal: asyncio.Task[None] | None = None
    failures: list[PskkeyError] = field(default_factory=list)


class KeyClient:
    """Opens sessions to key servers. Emits Connected, Received and Disconnected.

    `psk` is asked at each attempt. `is_ours` tells of an address and port whether we listen there ourselves: another
    node may have the same address on a network of its own, and there we would meet only ourselves.

    Counters: `connects_ok`, `connects_failed`, `bad_packets`, `connections_stalled`.
    """

    def __init__(
        self,
        psk: Callable[[], PskFile],
        emit: Callable[[Event], None],
        counters: Counter[str],
        is_ours: Callable[[str, int], bool] = lambda _address, _port: False,
        turns: FairTurns | None = None,
    ) -> None:
        """Messages are taken in `turns`, which all that has sessions may share."""
        self._psk = psk
        self._emit = emit
        self._counters = counters
        self._is_ours = is_ours
        self._turns = turns or FairTurns()
        self._outbound: dict[Session, _Outbound] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: dict[TlsConnection, Session] = {}  # also those of attempts, and of sessions given up
        self._open: set[TlsConnection] = set()
        self._inputs: dict[TlsConnection, PacedInput] = {}
        self._all_lost = asyncio.Event()

    def connect(self, action: Connect) -> None:
        """Open a session; answered by Connected or by Disconnected."""
        outbound = self._outbound[action.session] = _Outbound(self._psk().active)
        outbound.task = self._run(self._connect(action, outbound))

    def psk_changed(self) -> None:
        """The PSK file is another now: renew the sessions with masters that were opened with another PSK."""
        for session, outbound in list(self._outbound.items()):
            outbound.lines.psk_changed.set()
            self._renew_if_needed(session, outbound)

    def send(self, session: Session, message: Message) -> None:
        """Send on an open session; nothing happens on one that is not."""
        outbound = self._outbound.get(session)
        if outbound is None or outbound.lines.line is None:
            return
        is_join = isinstance(message, Join)
        candidate = outbound.lines.candidate
        if is_join and candidate is not None and candidate.connection in self._open:
            outbound.lines.move()
        outbound.lines.line.connection.write(encode(message))
        if is_join:
            outbound.joined = True
            self._renew_if_needed(session, outbound)

    def disconnect(self, session: Session, error: ErrorMessage | None) -> None:
        """End a session, or the attempt to open it. No event follows."""
        outbound = self._outbound.pop(session, None)
        if outbound is None:
            return
        if outbound.lines.line is None:
            if outbound.task is not None:
                outbound.task.cancel()
            return
        if error is not None:
            outbound.lines.line.connection.write(encode(error))
        self._close(outbound, "we closed it")

    async def stop(self) -> None:
        """End every session and attempt, each with its Disconnected event; return when nothing of them is left."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in [session for session, outbound in self._outbound.items() if outbound.lines.line is None]:
            self._end(session, "the key client stops")
        for connection in list(self._open):
            connection.close("the key client stops")
        while self._open:
            self._all_lost.clear()
            await self._all_lost.wait()
        for session in list(self._outbound):  # those with last words that were not taken yet
            self._end(session, "the key client stops")

    def opened(self, connection: TlsConnection) -> None:
        """A handshake succeeded: the session is open, unless another address was faster or the PSK was not used."""
        self._open.add(connection)
        session = self._connections[connection]
        outbound = self._outbound.get(session)
        line = outbound.lines.at(connection) if outbound is not None else None
        if outbound is None or (outbound.lines.line is not None and line is None):
            connection.abort("it was not needed any more")
            return
        try:
            require_psk(connection.tls)
        except HandshakeError as error:
            outbound.failures.append(HandshakeError(f"{connection.address}, port {connection.port}: {error}"))
            connection.abort("it did not use the PSK")
            return
        if line is None:
            outbound.lines.line = Line(connection, outbound.psk)
        self._inputs[connection] = PacedInput(
            PacketReader(Door.TLS, Side.CLIENT),
            connection,
            self._turns,
            [TokenBucket(SESSION_RATE)],
            lambda message: self._take(connection, session, message),
            connection.refuse,
        )
        self._counters["connects_ok"] += 1
        self._emit(Connected(session))

    def received(self, connection: TlsConnection, data: bytes) -> None:
        """Bytes came from a server."""
        if (paced := self._inputs.get(connection)) is not None:
            paced.feed(data)

    def lost(self, connection: TlsConnection, reason: str) -> None:
        """A connection is over."""
        session = self._connections.pop(connection)
        self._open.discard(connection)
        if not self._open:
            self._all_lost.set()
        if connection.broke_protocol or connection.stalled:
            self._counters["bad_packets" if connection.broke_protocol else "connections_stalled"] += 1
        paced = self._inputs.pop(connection, None)
        if paced is None:
            self._over(connection, session, reason)
        else:
            paced.finish(lambda: self._over(connection, session, reason))

    def _over(self, connection: TlsConnection, session: Session, reason: str) -> None:
        """The last words of a lost connection were taken."""
        outbound = self._outbound.get(session)
        line = outbound.lines.at(connection) if outbound is not None else None
        if outbound is None or line is None:
            return
        told = f"the connection to {connection.address}, port {connection.port} ended: {reason}"
        if outbound.lines.can_spare(line):
            self._go_on_without(session, outbound, line, told)
        else:
            self._end(session, told)

    def _take(self, connection: TlsConnection, session: Session, message: Message) -> None:
        outbound = self._outbound.get(session)
        line = outbound.lines.at(connection) if outbound is not None else None
        if outbound is None or line is None:  # an earlier message ended the session or the line
            return
        if isinstance(message, ErrorMessage) and outbound.lines.can_spare(line):
            self._go_on_without(session, outbound, line, f"{message.code}: {message.message}")
            return
        if line is outbound.lines.line:
            outbound.lines.answered()
        if line is not outbound.lines.candidate:  # there we have asked nothing yet
            self._emit(Received(session, message))

    def _go_on_without(self, session: Session, outbound: _Outbound, line: Line, why: str) -> None:
        if outbound.lines.drop(line, why):
            self._emit(Connected(session))

    def _end(self, session: Session, reason: str) -> None:
        self._close(self._outbound.pop(session), reason)
        self._emit(Disconnected(session, reason))

    def _close(self, outbound: _Outbound, reason: str) -> None:
        """Close all connections of a session that is over."""
        if outbound.renewal is not None:
            outbound.renewal.cancel()
        outbound.lines.close(reason)

    def _run(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- another PSK --------------------------------------------------------------------------------------------

    def _renew_if_needed(self, session: Session, outbound: _Outbound) -> None:
        line = outbound.lines.line
        outdated = line is not None and line.psk != self._psk().active
        if outbound.joined and outdated and outbound.renewal is None:
            outbound.renewal = self._run(self._renew(session, outbound))
            outbound.renewal.add_done_callback(lambda task: self._renewed(task, session, outbound))

    async def _renew(self, session: Session, outbound: _Outbound) -> None:
        end = await outbound.lines.renew(
            self._psk,
            lambda to, psk: Line(TlsConnection(self, to.address, to.port), psk),
            lambda line: self._try_line(session, line),
        )
        outbound.renewal = None
        if end is not None:
            self._end(session, end)

    def _renewed(self, task: asyncio.Task[None], session: Session, outbound: _Outbound) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        # Its PSK may be a removed one, so it must not stay as it is; the core asks for another session.
        _log.error("A fault of our own ended the renewal of a session", exc_info=error)
        outbound.renewal = None
        if self._outbound.get(session) is outbound:
            self._end(session, "its renewal with another PSK failed in an unforeseen way")

    async def _try_line(self, session: Session, line: Line) -> PskkeyError | str | None:
        """Try to open a connection; return why not, None when it is open."""
        failures: list[PskkeyError] = []
        self._connections[line.connection] = session
        with suppress(TimeoutError):
            async with asyncio.timeout(RENEWAL_TIMEOUT):
                await self._attempt(line.connection, line.psk, failures)
        if line.connection in self._open:
            return None
        return failures[0] if failures else f"{line.connection.address}, port {line.connection.port}: no proper answer"

    # --- opening ------------------------------------------------------------------------------------------------

    async def _connect(self, action: Connect, outbound: _Outbound) -> None:
        late = ""
        try:
            async with asyncio.timeout(action.timeout):
                await self._try_addresses(action, outbound)
        except TimeoutError:
            late = f"{', '.join(action.addresses)}, port {action.port}: no answer within {action.timeout:g} s"
        if outbound.lines.line is None and self._outbound.get(action.session) is outbound:
            self._counters["connects_failed"] += 1
            # What a server said against us tells more than that another address did not answer.
            told = sorted(outbound.failures, key=lambda error: not isinstance(error, HandshakeError))
            self._end(action.session, str(told[0]) if told else late or "the peer has no address")

    async def _try_addresses(self, action: Connect, outbound: _Outbound) -> None:
        """Try the addresses one after the other, each beside those that have not failed yet, until one is open."""
        waiting = [address for address in action.addresses if not self._is_ours(address, action.port)]
        if action.addresses and not waiting:
            said = f"{', '.join(action.addresses)}, port {action.port}"
            outbound.failures.append(Unreachable(f"{said}: this is our own address; the peer has no other"))
        attempts: dict[asyncio.Task[None], TlsConnection] = {}
        try:
            while (waiting or attempts) and outbound.lines.line is None:
                if waiting:
                    connection = TlsConnection(self, waiting.pop(0), action.port)
                    self._connections[connection] = action.session
                    attempts[asyncio.create_task(self._attempt(connection, outbound.psk, outbound.failures))] = (
                        connection
                    )
                done, _ = await asyncio.wait(
                    attempts, timeout=STAGGER if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    del attempts[task]
                    task.result()
        finally:
            for task, connection in attempts.items():
                if outbound.lines.at(connection) is None:  # cancelled in its last step, the fastest would be closed
                    task.cancel()
            await asyncio.gather(*attempts, return_exceptions=True)

    async def _attempt(self, connection: TlsConnection, psk: Psk, failures: list[PskkeyError]) -> None:
        """Try one address; what fails is noted in `failures`."""
        target = f"{connection.address}, port {connection.port}"
        try:
            connected = await _connect_tcp(connection.address, connection.port)
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                sock=connected,
                ssl=client_context(psk),
                server_hostname="",
                ssl_shutdown_timeout=CLOSE_TIMEOUT,
            )
        except Unreachable as error:
            failures.append(Unreachable(f"{target}: {error}"))
        except OSError as error:
            failures.append(HandshakeError(f"{target}: {explain_server_failure(error, psk.identity)}"))
            error.with_traceback(None)  # it leads in a circle to asyncio's TLS buffers, as in the listener
        finally:
            if connection not in self._open:  # never opened, so nothing will be told of it
                self._connections.pop(connection, None)


async def _connect_tcp(address: str, port: int) -> socket.socket:
    """Return a connected socket. Raises Unreachable with the reason."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        family, kind, protocol, _, target = found[0]
        connected = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Unreachable(explain_connect_failure(error)) from None
    try:
        connected.setblocking(False)
        expect_small_messages(connected)
        await asyncio.get_running_loop().sock_connect(connected, target)
    except OSError as error:
        connected.close()
        raise Unreachable(explain_connect_failure(error)) from None
    except asyncio.CancelledError:
        connected.close()
        raise
    return connected
