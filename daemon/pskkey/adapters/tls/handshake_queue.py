"""The connections whose handshake has not ended, and the order in which handshakes begin.

A stranger can open a connection at no cost, and a server that is slow must still serve a herd of genuine clients, each
with one handshake. So:

1. A connection that has sent nothing is silent. It costs a file descriptor and no TLS.
2. After its first bytes it waits for its turn. Addresses take turns, and the connections of one address are served in
   order of arrival. So the flood of one address delays the others by one handshake each turn.
3. One handshake begins in each turn of the event loop, because it takes about 1 ms, and up to 50 ms on a slow device.
   `slots` are under way at most, and an eighth of them for one address. A peer that has gone while it waited gets none.
   A handshake that has begun goes on as its bytes come.
4. One address has `slots` connections here at most, and all have SHARES times as many. If one comes too many, the
   address with the most loses one: the oldest that is silent, else the oldest that is under way, else the oldest.
5. If no address has more than an eighth of `slots`, none of them floods. Then the oldest one is dropped that has been
   silent for SPEAKS_WITHIN. While there is none, no other is accepted, and the kernel keeps the next ones in order. The
   first bytes of a newcomer are read in a later turn than it is accepted, so without this time each newcomer would be
   dropped for the next one.
6. If all slots are taken, the oldest handshake gives way to a waiting one once it has lasted for half of `timeout`.

So a genuine client that is at its work is not dropped, unless its own address floods.
"""

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final, cast

from pskkey.adapters.tls.connection import TlsConnection

SHARES: Final = 4
"""How many addresses can use their whole share of connections before the end of their handshake."""
SPEAKS_WITHIN: Final = 0.25
"""Seconds after which a newcomer that has sent nothing makes room for another. A client speaks at once."""

_FIRST_SIZE: Final = 2048
"""Bytes that are read before the turn of a connection. A client's first message is shorter."""


class Stage(IntEnum):
    """The stage of a connection. One with a smaller number is dropped first."""

    SILENT = 0
    UNDER_WAY = 1
    WAITING = 2


class Arrival(asyncio.BufferedProtocol):
    """An accepted connection until the end of its handshake."""

    def __init__(self, queue: "HandshakeQueue", accepted: socket.socket, address: str, port: int) -> None:
        self.socket = accepted
        self.address = address
        self.port = port
        self.came_at = asyncio.get_running_loop().time()
        self.stage = Stage.SILENT
        self.first = b""
        """The bytes of the peer from before its handshake."""
        self.begun_at = 0.0
        self.has_waited = False
        self.connection: TlsConnection | None = None
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._queue = queue
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport (asyncio)."""
        self.transport = cast(asyncio.Transport, transport)
        if not self._queue.has(self):  # it was dropped in the meantime
            self.transport.abort()

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002
        """Return a buffer for the first bytes (asyncio)."""
        self._buffer = bytearray(_FIRST_SIZE)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Wait for the turn (asyncio)."""
        self.first, self._buffer = bytes(self._buffer[:nbytes]), bytearray()
        self._queue.wait_for_turn(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Handle the closed socket (asyncio)."""
        self._queue.lose(self)

    def begin(self, connection: TlsConnection) -> asyncio.Transport:
        """Give the transport to the connection, and return it."""
        if self.transport is None:
            raise RuntimeError("a handshake begins after the first bytes, which need the transport")
        self.connection = connection
        self._queue.note_connection(self, connection)
        self.transport.set_protocol(connection)
        if self.has_waited:
            self.transport.resume_reading()
        return self.transport

    def has_gone(self) -> bool:
        """Whether the peer has closed the connection, so that nobody waits for the handshake."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


class HandshakeQueue:
    """Begins the handshakes in order. `begin` begins one. `fail` gets an arrival whose handshake did not begin.

    `note_room` is called when there may be room for another connection. `timeout` is for the silence before the first
    bytes, and once more for a handshake. Counts `handshakes_dropped`.
    """

    def __init__(
        self,
        begin: Callable[[Arrival], None],
        fail: Callable[[Arrival, Exception | None], None],
        note_room: Callable[[], None],
        counters: Counter[str],
        slots: int,
        timeout: float,
    ) -> None:
        self.slots = slots
        self.timeout = timeout
        self._begin = begin
        self._fail = fail
        self._note_room = note_room
        self._counters = counters
        self._of_address: dict[str, dict[Arrival, None]] = {}
        """All connections here, the oldest first."""
        self._count = 0
        self._waiting: dict[str, deque[Arrival]] = {}
        """The address whose turn is next comes first."""
        self._under_way: dict[Arrival, None] = {}
        self._of_connection: dict[TlsConnection, Arrival] = {}
        self._setups: set[asyncio.Task[None]] = set()
        self._next_turn: asyncio.Handle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def has(self, arrival: Arrival) -> bool:
        """Whether an arrival is here."""
        return arrival in self._of_address.get(arrival.address, ())

    def has_room(self) -> bool:
        """Return whether another connection can be accepted. There may be room SPEAKS_WITHIN later."""
        return self._count < SHARES * self.slots or self._choose_victim() is not None

    def add(self, arrival: Arrival) -> None:
        """Take a connection that was accepted now. Drop another if there are too many."""
        same = self._of_address.get(arrival.address, {})
        victim = None
        if len(same) >= self.slots:
            victim = _first_to_drop(same)
        elif self._count >= SHARES * self.slots:
            victim = self._choose_victim()
        if victim is not None:
            self._drop(victim)
        self._of_address.setdefault(arrival.address, {})[arrival] = None
        self._count += 1
        setup = asyncio.Task(self._make_transport(arrival), loop=self._loop, eager_start=True)
        self._setups.add(setup)
        setup.add_done_callback(self._setups.discard)
        arrival.timer = self._loop.call_later(self.timeout, self._end_silence, arrival)

    def drop_one(self) -> None:
        """Drop one connection, because there is no file descriptor or memory for another."""
        if self._of_address:
            self._drop(_first_to_drop(self._find_busiest()))

    def wait_for_turn(self, arrival: Arrival) -> None:
        """Begin the handshake of a connection with its first bytes, now or when it has its turn."""
        if not self.has(arrival):
            return
        arrival.stage = Stage.WAITING
        _stop_timer(arrival)
        self._waiting.setdefault(arrival.address, deque()).append(arrival)
        if self._next_turn is None:
            self._take_turn()
        if arrival.stage is Stage.WAITING and arrival.transport is not None:
            arrival.has_waited = True
            arrival.transport.pause_reading()

    def lose(self, arrival: Arrival) -> None:
        """Note that a connection was closed before its handshake began."""
        if self.has(arrival):
            self._remove(arrival)
            self._fail(arrival, None)

    def end(self, connection: TlsConnection) -> bool:
        """Note the end of a handshake. Return whether it was still to go on: False if it was dropped."""
        arrival = self._of_connection.pop(connection)
        if not self.has(arrival):
            return False
        self._remove(arrival)
        return True

    async def stop(self) -> None:
        """End all of them."""
        for setup in self._setups:
            setup.cancel()
        await asyncio.gather(*self._setups, return_exceptions=True)
        for arrivals in list(self._of_address.values()):
            for arrival in list(arrivals):
                self._remove(arrival)
                _close(arrival)
        for connection in list(self._of_connection):
            connection.give_up()
        self._of_connection.clear()
        for handle in (self._next_turn, self._stall_timer):
            if handle is not None:
                handle.cancel()
        self._next_turn = self._stall_timer = None

    async def _make_transport(self, arrival: Arrival) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: arrival, arrival.socket)
        except BaseException:
            arrival.socket.close()
            raise

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    @property
    def _fair_share(self) -> int:
        """How many handshakes under way one address may have. One with more connections here floods."""
        return max(1, self.slots // 8)

    # --- turns ----------------------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        self._next_turn = None
        while (arrival := self._choose_next()) is not None:
            if arrival.has_waited and arrival.has_gone():
                self._remove(arrival)
                _close(arrival)
                self._fail(arrival, ConnectionResetError())
                continue
            arrival.stage = Stage.UNDER_WAY
            arrival.begun_at = self._loop.time()
            self._under_way[arrival] = None
            if self._next_turn is None:  # also when no other waits: the next one to come must wait for another turn
                self._next_turn = self._loop.call_soon(self._take_turn)
            self._begin(arrival)
            return

    def note_connection(self, arrival: Arrival, connection: TlsConnection) -> None:
        """Note the connection of an arrival whose handshake begins now."""
        self._of_connection[connection] = arrival

    def _choose_next(self) -> Arrival | None:
        """Return the connection that has its turn, taken from the queue. None if none waits, or no slot is free."""
        if not self._waiting or (len(self._under_way) >= self.slots and not self._end_stalled()):
            return None
        if len(self._under_way) < self._fair_share:
            address: str | None = next(iter(self._waiting))
        else:
            busy = Counter(arrival.address for arrival in self._under_way)
            address = next((address for address in self._waiting if busy[address] < self._fair_share), None)
        if address is None:
            return None
        waiting = self._waiting.pop(address)
        arrival = waiting.popleft()
        if waiting:
            self._waiting[address] = waiting
        return arrival

    def _end_stalled(self) -> bool:
        """End the oldest handshake if its peer did not finish it in time. Return whether it was so."""
        oldest = next(iter(self._under_way))
        remaining = oldest.begun_at + self.timeout / 2 - self._loop.time()
        if remaining <= 0:
            self._drop(oldest)
            return True
        if self._stall_timer is None:
            self._stall_timer = self._loop.call_later(remaining, self._stall_is_over)
        return False

    def _stall_is_over(self) -> None:
        self._stall_timer = None
        self._schedule_turn()

    def _schedule_turn(self) -> None:
        if self._waiting and self._next_turn is None:
            self._next_turn = self._loop.call_soon(self._take_turn)

    # --- removal --------------------------------------------------------------------------------------------------

    def _find_busiest(self) -> dict[Arrival, None]:
        return max(self._of_address.values(), key=len)

    def _choose_victim(self) -> Arrival | None:
        busiest = self._find_busiest()
        if len(busiest) > self._fair_share:
            return _first_to_drop(busiest)
        victim = _first_to_drop(arrival for arrivals in self._of_address.values() for arrival in arrivals)
        is_silent = victim.stage is Stage.SILENT and victim.came_at + SPEAKS_WITHIN <= self._loop.time()
        return victim if is_silent else None

    def _drop(self, arrival: Arrival) -> None:
        self._counters["handshakes_dropped"] += 1
        self._remove(arrival)
        if arrival.connection is None:
            _close(arrival)
        else:
            arrival.connection.end_handshake()

    def _end_silence(self, arrival: Arrival) -> None:
        self._remove(arrival)
        _close(arrival)
        self._fail(arrival, TimeoutError())

    def _remove(self, arrival: Arrival) -> None:
        _stop_timer(arrival)
        same = self._of_address[arrival.address]
        del same[arrival]
        if not same:
            del self._of_address[arrival.address]
        self._count -= 1
        self._under_way.pop(arrival, None)
        waiting = self._waiting.get(arrival.address)
        if waiting is not None and arrival in waiting:
            waiting.remove(arrival)
            if not waiting:
                del self._waiting[arrival.address]
        self._note_room()
        self._schedule_turn()


def _first_to_drop(arrivals: Iterable[Arrival]) -> Arrival:
    return min(arrivals, key=lambda arrival: (arrival.stage, arrival.came_at))


def _stop_timer(arrival: Arrival) -> None:
    if arrival.timer is not None:
        arrival.timer.cancel()
        arrival.timer = None


def _close(arrival: Arrival) -> None:
    if arrival.transport is not None:
        arrival.transport.abort()
