"""Accepts TCP connections, does their TLS-PSK handshakes, and keeps resources of members from strangers.

Handshakes begin in the order of `handshake_queue`, and connections have places. The peer of a connection has proved
that it holds the PSK. When all places are taken, a newcomer replaces the longest silent connection whose peer has not
joined yet. When all peers have joined, the newcomer is refused.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pskkey.adapters.complaints import Complaints, network_of
from pskkey.adapters.host.memory_trimmer import MemoryTrimmer
from pskkey.adapters.host.socket_options import SocketOptions
from pskkey.adapters.tls.acceptor import Acceptor
from pskkey.adapters.tls.authentication import FailedAuthentication, find_client_fault, show_identity
from pskkey.adapters.tls.connection import Owner, TlsConnection
from pskkey.adapters.tls.contexts import explain_client_failure
from pskkey.adapters.tls.handshake_queue import Arrival, HandshakeQueue
from pskkey.adapters.tls.listening_sockets import open_listening_sockets
from pskkey.adapters.tls.server_context import ServerContext
from pskkey.config.psk import PskFile
from pskkey.core.events import Direction

ENDING_TOO = 2
"""How many times the limits of connections there may be with those that are ending. Each may take CLOSE_TIMEOUT to end,
and a peer that was refused can come again at once. The next one is closed without a word.
"""

_log = logging.getLogger("pskkey.tls")


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits for strangers and members. Times in seconds.

    `connections` and `connections_per_address` count connections after the handshake. `handshakes` is the number of
    slots of the `HandshakeQueue`. `silence` is the longest silence of a peer that has not joined.
    """

    connections: int = 512
    connections_per_address: int = 64
    handshakes: int = 128
    handshake_timeout: float = 5.0
    silence: float = 10.0


class TlsListener:
    """Listening sockets, the handshakes in progress and the open connections. `owner` gets the connections.

    `node_id` is the node of this server, None if it is of no node. `psk` is called at each connection, so that a
    reloaded file counts from the next one. `refusal` is sent to a newcomer that gets no place. `report` gets the failed
    authentications. Without it they are logged as complaints. Counters: `handshakes_ok`, `handshakes_failed`,
    `authentications_failed`, `handshakes_dropped` (for a newer one), `connections_refused`, `connections_dropped` (for
    a newer one), `connections_stalled` (not reading), `accept_failures`, `bad_packets`.
    """

    def __init__(
        self,
        psk: Callable[[], PskFile],
        legacy_clients: bool,
        limits: ServerLimits,
        owner: Owner,
        refusal: bytes,
        counters: Counter[str],
        options: SocketOptions,
        node_id: str | None = None,
        report: Callable[[FailedAuthentication], None] | None = None,
    ) -> None:
        self._psk = psk
        self._limits = limits
        self._owner = owner
        self._refusal = refusal
        self._counters = counters
        self._options = options
        self._node_id = node_id
        self._acceptors: dict[socket.socket, Acceptor] = {}
        """The acceptor of each listening socket."""
        self._context = ServerContext(legacy_clients, node_id)
        self._handshakes = HandshakeQueue(
            self._begin_handshake,
            self._fail_before,
            self._note_room,
            counters,
            limits.handshakes,
            limits.handshake_timeout,
        )
        self._connections: dict[TlsConnection, bool] = {}  # whether the owner has it
        self._held: dict[str, int] = {}
        """Connections of each address, also those that are ending."""
        self._all_lost = asyncio.Event()
        self._trimmer = MemoryTrimmer()
        self._complaints = Complaints(_log)
        self._report = report or (lambda failed: self._complain(failed.address, failed.reason))

    @property
    def port(self) -> int | None:
        """The TCP port that is listened on, None while it is not."""
        return next((listener.getsockname()[1] for listener in self._acceptors), None)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """IP address and port of each listening socket."""
        return [listener.getsockname()[:2] for listener in self._acceptors]

    async def start(self, addresses: Sequence[str], port: int) -> None:
        """Listen on these addresses (none: all).

        Raises ConfigError when it cannot, RuntimeError when started twice.
        """
        if self._acceptors:
            raise RuntimeError("listening already")
        for listener in open_listening_sockets(addresses, port, self._options):
            self._begin_to_accept(listener)

    def listen(self, address: str, port: int) -> socket.socket:
        """Listen on one address more. Return its listening socket. Raises ConfigError as `bind` does."""
        (listener,) = open_listening_sockets([address], port, self._options)
        self._begin_to_accept(listener)
        return listener

    def stop_listening(self, listener: socket.socket) -> None:
        """Stop listening on one socket. Its connections and handshakes go on."""
        self._acceptors.pop(listener).close()

    async def stop(self, reason: str = "the key server stops") -> None:
        """Stop listening, cancel handshakes and close the connections. Return when all of them are closed."""
        for acceptor in self._acceptors.values():
            acceptor.close()
        self._acceptors.clear()
        await self._handshakes.stop()
        for connection in list(self._connections):
            connection.close(reason)
        while self._connections:
            self._all_lost.clear()
            await self._all_lost.wait()
        self._trimmer.stop()

    def reconfigure(self, legacy_clients: bool, limits: ServerLimits) -> None:
        """Use these settings from the next connection on."""
        self._context = ServerContext(legacy_clients, self._node_id)
        self._limits = limits
        self._handshakes.slots = limits.handshakes
        self._handshakes.timeout = limits.handshake_timeout

    def outdated(self) -> list[TlsConnection]:
        """Return the open connections of peers whose PSK is not accepted any more."""
        return [
            connection for connection, owned in self._connections.items() if owned and self._is_outdated(connection)
        ]

    def opened(self, connection: TlsConnection) -> None:
        """Find a place for a connection after its handshake, or refuse it."""
        self._handshakes.end(connection)
        self._counters["handshakes_ok"] += 1
        self._trimmer.count_end()
        if self._is_outdated(connection):
            self._hold(connection, owned=False)
            connection.close("its PSK was removed during the handshake")
            return
        if self._make_room(connection.address):
            self._hold(connection, owned=True)
            connection.limit_silence(self._limits.silence)
            self._owner.opened(connection)
            return
        self._hold(connection, owned=False)
        self._counters["connections_refused"] += 1
        self._complain(connection.address, "there is no place for another connection")
        limits = self._limits
        if (
            self._held[connection.address] > ENDING_TOO * limits.connections_per_address
            or len(self._connections) > ENDING_TOO * limits.connections
        ):
            connection.abort("there was no place for it")
            return
        connection.write(self._refusal)
        connection.close("there was no place for it")

    def received(self, connection: TlsConnection, data: bytes) -> None:
        """Pass the bytes of an open connection to the owner."""
        if self._connections.get(connection):
            self._owner.received(connection, data)

    def lost(self, connection: TlsConnection, reason: str) -> None:
        """Note the end of a connection."""
        owned = self._connections.pop(connection)
        self._held[connection.address] -= 1
        if not self._held[connection.address]:
            del self._held[connection.address]
        self._trimmer.count_end()
        if connection.broke_protocol or connection.stalled:
            self._counters["bad_packets" if connection.broke_protocol else "connections_stalled"] += 1
            self._complain(connection.address, reason)
        if not self._connections:
            self._all_lost.set()
        if owned:
            self._owner.lost(connection, reason)

    def _begin_to_accept(self, listener: socket.socket) -> None:
        _log.info("Listening on %s, port %d", *listener.getsockname()[:2])
        self._acceptors[listener] = Acceptor(listener, self._handshakes, self._counters, self._complaints)

    def _note_room(self) -> None:
        for acceptor in self._acceptors.values():
            acceptor.note_room()

    def _begin_handshake(self, arrival: Arrival) -> None:
        handshake = self._context.begin(self._psk())
        connection = TlsConnection(self, arrival.address, arrival.port)
        connection.offer = handshake.offer
        connection.shake_hands(arrival.begin(connection), handshake, self._limits.handshake_timeout, arrival.first)

    def _fail_before(self, arrival: Arrival, error: Exception | None) -> None:
        """Count an arrival whose handshake did not begin. `error` is None if the peer has closed the connection."""
        self._trimmer.count_end()
        self._counters["handshakes_failed"] += 1
        if error is None:
            self._complain(arrival.address, "it closed the connection before it sent anything")
        else:
            self._complain(arrival.address, explain_client_failure(error, None, False))

    def failed(self, connection: TlsConnection, error: Exception) -> None:
        """Count and report a failed handshake."""
        self._trimmer.count_end()
        dropped = not self._handshakes.end(connection)
        offer = connection.offer
        if offer is None:
            raise RuntimeError("a handshake at the server has an offer from its beginning")
        address, identity = connection.address, offer.identity
        known = identity in offer.psk.accepted
        reason = explain_client_failure(error, identity, known)
        fault = find_client_fault(error, identity, known)
        if fault is None and dropped:
            return
        self._counters["handshakes_failed"] += 1
        if fault is None:
            self._complain(address, reason)
            return
        self._counters["authentications_failed"] += 1
        shown = None if identity is None else show_identity(identity)
        self._report(FailedAuthentication(Direction.INBOUND, address, shown, fault, reason))

    def _complain(self, address: str, reason: str) -> None:
        self._complaints.warn(f"Connection from {address}", reason, network_of(address))

    def _is_outdated(self, connection: TlsConnection) -> bool:
        offer = connection.offer
        if offer is None or offer.identity is None:
            return False
        psk = self._psk()
        return offer.psk is not psk and offer.psk.accepted.get(offer.identity) != psk.accepted.get(offer.identity)

    def _hold(self, connection: TlsConnection, *, owned: bool) -> None:
        self._connections[connection] = owned
        self._held[connection.address] = self._held.get(connection.address, 0) + 1

    def _make_room(self, address: str) -> bool:
        """Return whether another connection from `address` has a place. If needed, close a connection to make room."""
        of_address = self._held.get(address, 0)
        if of_address < self._limits.connections_per_address and len(self._connections) < self._limits.connections:
            return True  # in most cases, and without a look at each connection
        living = [connection for connection, owned in self._connections.items() if owned and not connection.ending]
        held = Counter(connection.address for connection in living)
        if held[address] >= self._limits.connections_per_address:
            living = [connection for connection in living if connection.address == address]
        elif len(living) < self._limits.connections:
            return True
        replaceable = [connection for connection in living if connection.silence_limited]
        if not replaceable:
            return False
        victim = min(replaceable, key=lambda connection: (-held[connection.address], connection.last_heard))
        self._counters["connections_dropped"] += 1
        victim.abort("it was the longest silent connection when a place was needed")
        return True
