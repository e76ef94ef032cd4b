"""The loop between the pure core and the world: an event in, the actions out, and the one timer.

Events queue, and each is handled with all its actions before the next, never inside an adapter's own call. A turn of
the event loop handles events for TURN_BUDGET at most, then the sockets have their turn. What `next_deadline` names is
the only timer. Each turn looks at it first, so that no queue delays it. The clock counts the time that the machine was
suspended, because the others did not wait for us.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, assert_never

from pskkey.core.actions import Action, Advertise, Connect, Disconnect, GenerateKey, Send, Stopped
from pskkey.core.events import Direction, Event, KeyGenerated, Session, Timeout
from pskkey.core.node import Node
from pskkey.core.notices import Notice
from pskkey.model import Advert, ErrorMessage, Key, Message, SavedState, Suite

TURN_BUDGET: Final = 0.01
"""Seconds of each turn of the event loop in which events are handled; the event that is being handled is finished."""

QUEUE_ROOM: Final = 256
"""Events in the queue from which on sessions have to wait with more; a few turns' work."""


class SessionTransport(Protocol):
    """What every adapter that has sessions can do."""

    def send(self, session: Session, message: Message) -> None: ...
    def disconnect(self, session: Session, error: ErrorMessage | None) -> None: ...


class Opener(SessionTransport, Protocol):
    """The adapter of outbound sessions."""

    def connect(self, action: Connect) -> None: ...


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where the actions go."""

    key_client: Opener
    key_server: SessionTransport
    key_socket: SessionTransport
    advertise: Callable[[Advert], None]
    notice: Callable[[Notice], None]
    save: Callable[[SavedState], None] | None
    """Keeps what the next process must know; None: there is nowhere to."""
    random_key: Callable[[Suite], Key]
    handled: Callable[[], None]
    """Called after each turn in which events were handled."""


def boot_time() -> float:
    """Return seconds since boot, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Driver:
    """Owns a node and its timer. `stopped` ends when the node has stopped, or fails when the core did."""

    def __init__(self, node: Node, clock: Callable[[], float] = boot_time) -> None:
        self._node = node
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._outlets: Outlets | None = None
        self._queue: deque[Event] = deque()
        self._scheduled: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self.stopped: asyncio.Future[None] = self._loop.create_future()

    def attach(self, outlets: Outlets) -> None:
        """Say where the actions go; adapters exist only after the driver whose `emit` they take."""
        self._outlets = outlets

    def emit(self, event: Event) -> None:
        """Take an event; it is handled in its turn, after the caller has returned."""
        self._queue.append(event)
        self._schedule()

    def has_room(self) -> bool:
        """Whether sessions may emit more; what must be known at once, such as the end of one, may always come."""
        return len(self._queue) < QUEUE_ROOM

    def close(self) -> None:
        """Stop the timer and handle nothing more."""
        for handle in (self._scheduled, self._timer):
            if handle is not None:
                handle.cancel()
        if not self.stopped.done():
            self.stopped.set_result(None)

    def _schedule(self) -> None:
        if self._scheduled is None and not self.stopped.done():
            self._scheduled = self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._scheduled = None
        outlets = self._outlets
        if outlets is None:
            return
        until = self._loop.time() + TURN_BUDGET
        try:
            deadline = self._node.next_deadline()
            if deadline is not None and deadline <= self._clock():
                self._handle(Timeout(), outlets)
            while self._queue and not self.stopped.done():
                self._handle(self._queue.popleft(), outlets)
                if self._loop.time() >= until:
                    break
            outlets.handled()
        except Exception as error:  # noqa: BLE001  a defect of ours: the daemon must end, not go on half dead
            if not self.stopped.done():
                self.stopped.set_exception(error)
            return
        if self.stopped.done():
            return
        self._arm()
        if self._queue:
            self._schedule()

    def _handle(self, event: Event, outlets: Outlets) -> None:
        actions = self._node.handle(event, self._clock())
        if outlets.save is not None:
            outlets.save(self._node.saved_state())  # before anybody is told
        for action in actions:
            self._perform(action, outlets)

    def _arm(self) -> None:
        deadline = self._node.next_deadline()
        if self._timer is not None:
            if deadline == self._armed_for:
                return
            self._timer.cancel()
            self._timer = None
        self._armed_for = deadline
        if deadline is not None:
            delay = max(0.0, deadline - self._clock())
            self._timer = self._loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._schedule()

    def _perform(self, action: Action, outlets: Outlets) -> None:
        match action:
            case Connect():
                outlets.key_client.connect(action)
            case Send(session, message):
                self._door(session, outlets).send(session, message)
            case Disconnect(session, error):
                self._door(session, outlets).disconnect(session, error)
            case Advertise(advert):
                outlets.advertise(advert)
            case GenerateKey(suite):
                self._queue.append(KeyGenerated(outlets.random_key(suite)))
            case Notice():
                outlets.notice(action)
            case Stopped():
                self.close()
            case _:
                assert_never(action)

    def _door(self, session: Session, outlets: Outlets) -> SessionTransport:
        match session.direction:
            case Direction.OUTBOUND:
                return outlets.key_client
            case Direction.INBOUND:
                return outlets.key_server
            case Direction.LOCAL:
                return outlets.key_socket
            case _:
                assert_never(session.direction)
