"""The loop between the pure core and the adapters: an event in, the actions out, and one timer.

Events wait in a queue. The driver handles each event with all its actions before the next one, and never inside the
call of an adapter. A turn of the event loop handles events for TURN_BUDGET at most, then the sockets have their turn.
The only timer is for `next_deadline`. Each turn checks it first, so that no queue delays it. The clock includes the
time for which the machine was suspended, because the other nodes did not wait.

If a deadline is still due after that, the node waits until it has read what had arrived by then. A mark finds out when
this is so: it takes the way of the messages, to the end of the queue.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, assert_never

from pskkey.core.actions import Action, Advertise, Connect, Disconnect, GenerateKey, Send, Stopped
from pskkey.core.events import Direction, Event, KeyGenerated, Received, Session, Timeout
from pskkey.core.node import Node
from pskkey.core.notices import Notice
from pskkey.model import Advert, ErrorMessage, Heartbeat, Key, Message, SavedState, Suite

TURN_BUDGET: Final = 0.01
"""Seconds of each turn of the event loop in which events are handled; the event that is being handled is finished."""

QUEUE_ROOM: Final = 256
"""Number of queued events, the work of a few turns, from which on sessions must wait before they emit more."""


class SessionTransport(Protocol):
    """The interface of every adapter that has sessions."""

    def send(self, session: Session, message: Message) -> None: ...
    def disconnect(self, session: Session, error: ErrorMessage | None) -> None: ...


class Opener(SessionTransport, Protocol):
    """The adapter of outbound sessions."""

    def connect(self, action: Connect) -> None: ...


@dataclass(frozen=True, slots=True)
class _Mark:
    """All that had arrived before `at` is before it in the queue."""

    at: float


@dataclass(frozen=True, slots=True)
class Outlets:
    """The receivers of the actions."""

    key_client: Opener
    key_server: SessionTransport
    key_socket: SessionTransport
    advertise: Callable[[Advert, bool], None]
    """Takes an advert, and whether it has news."""
    notice: Callable[[Notice], None]
    save: Callable[[SavedState], None] | None
    """Saves the state for the next process; None when there is no place for it."""
    random_key: Callable[[Suite], Key]
    when_read: Callable[[Callable[[], None]], None]
    """Calls its argument when all that has arrived by now was read (`adapters.reading`)."""
    handled: Callable[[], None]
    """Called after each turn in which events may have changed the node."""


def boot_time() -> float:
    """Return seconds since boot, suspension included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Driver:
    """Owns a node and its timer. `stopped` completes when the node has stopped, and fails when the core has failed."""

    def __init__(self, node: Node, clock: Callable[[], float] = boot_time) -> None:
        self._node = node
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._outlets: Outlets | None = None
        self._queue: deque[Event | _Mark] = deque()
        self._read_until = clock()
        """All that had arrived before this time was handled."""
        self._is_marked = False
        """Whether a mark is on its way."""
        self._scheduled: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self.stopped: asyncio.Future[None] = self._loop.create_future()

    def attach(self, outlets: Outlets) -> None:
        """Set the receivers of the actions. Adapters need `emit`, so they exist only after the driver."""
        self._outlets = outlets

    def emit(self, event: Event) -> None:
        """Queue an event. The driver handles it after the caller has returned."""
        self._queue.append(event)
        self._schedule()

    def has_room(self) -> bool:
        """Whether sessions may emit more. Urgent events, such as the end of a session, are always allowed."""
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
        has_changed = False
        try:
            deadline = self._node.next_deadline()
            if deadline is not None and deadline <= (now := self._clock()):
                has_changed = self._handle(Timeout(now - self._read_until), outlets)
            while self._queue and not self.stopped.done():
                event = self._queue.popleft()
                if isinstance(event, _Mark):
                    self._read_until, self._is_marked = event.at, False
                else:
                    has_changed |= self._handle(event, outlets)
                if self._loop.time() >= until:
                    break
            if has_changed:
                outlets.handled()
        except Exception as error:  # noqa: BLE001  a defect of ours: the daemon must not continue in a broken state
            if not self.stopped.done():
                self.stopped.set_exception(error)
            return
        if self.stopped.done():
            return
        self._arm(outlets)
        if self._queue:
            self._schedule()

    def _handle(self, event: Event, outlets: Outlets) -> bool:
        """Handle an event. Return whether it may have changed the node."""
        actions = self._node.handle(event, self._clock())
        is_heartbeat = isinstance(event, Received) and isinstance(event.message, Heartbeat)
        # By far the most events of a master. To compare its states after each would take longer than the rest.
        has_changed = not is_heartbeat or any(not _is_heartbeat(action) for action in actions)
        if has_changed and outlets.save is not None:
            outlets.save(self._node.saved_state())  # before any peer receives a message
        for action in actions:
            self._perform(action, outlets)
        return has_changed

    def _arm(self, outlets: Outlets) -> None:
        deadline = self._node.next_deadline()
        if deadline is not None and deadline <= (now := self._clock()) and not self._is_marked:
            self._is_marked = True
            outlets.when_read(partial(self._put_mark, now))
        if self._timer is not None:
            if deadline == self._armed_for:
                return
            self._timer.cancel()
            self._timer = None
        self._armed_for = deadline
        if deadline is not None:
            delay = max(0.0, deadline - self._clock())
            self._timer = self._loop.call_later(delay, self._ring)

    def _put_mark(self, at: float) -> None:
        self._queue.append(_Mark(at))
        self._schedule()

    def _ring(self) -> None:
        self._timer = None
        self._schedule()

    def _perform(self, action: Action, outlets: Outlets) -> None:
        match action:
            case Connect():
                outlets.key_client.connect(action)
            case Send(session, message):
                self._select_transport(session, outlets).send(session, message)
            case Disconnect(session, error):
                self._select_transport(session, outlets).disconnect(session, error)
            case Advertise(advert, is_news):
                outlets.advertise(advert, is_news)
            case GenerateKey(suite):
                self._queue.append(KeyGenerated(outlets.random_key(suite)))
            case Notice():
                outlets.notice(action)
            case Stopped():
                self.close()
            case _:
                assert_never(action)

    def _select_transport(self, session: Session, outlets: Outlets) -> SessionTransport:
        match session.direction:
            case Direction.OUTBOUND:
                return outlets.key_client
            case Direction.INBOUND:
                return outlets.key_server
            case Direction.LOCAL:
                return outlets.key_socket
            case _:
                assert_never(session.direction)


def _is_heartbeat(action: Action) -> bool:
    return isinstance(action, Send) and isinstance(action.message, Heartbeat)
