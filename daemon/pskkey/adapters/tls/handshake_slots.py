"""The TLS handshakes in progress. A stranger can begin one at no cost, so the newest always gets a slot.

When all slots are taken, the address with the most handshakes in progress loses its oldest. So a flood displaces
itself. A genuine client needs only a few turns of the event loop, so it is done before it becomes the oldest.
"""

import asyncio
import socket
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Handshake:
    """A handshake in progress. After it has begun, asyncio owns its socket and closes it."""

    socket: socket.socket
    address: str
    port: int
    task: asyncio.Task[None] = field(init=False)
    begun: bool = False
    dropped: bool = False

    def drop(self) -> None:
        """End it, for a newer one.

        One that has begun is not cancelled: it may have failed already, in this turn of the event loop, and its failure
        must be reported. Else a stranger could hide wrong keys by the time at which he sends them.
        """
        self.dropped = True
        if self.begun:
            with suppress(OSError):  # it is closed already
                self.socket.shutdown(socket.SHUT_RDWR)
        else:
            self.task.cancel()


class HandshakeSlots:
    """Holds the handshakes in progress. Counts `handshakes_dropped`."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._handshakes: dict[Handshake, None] = {}  # the oldest first

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks of all handshakes in progress, the oldest first."""
        return [handshake.task for handshake in self._handshakes]

    def add(self, handshake: Handshake, slots: int) -> None:
        """Add a handshake. Drop one when more than `slots` are in progress."""
        self._handshakes[handshake] = None
        handshake.task.add_done_callback(lambda _: self._handshakes.pop(handshake))
        if len(self._handshakes) > slots:
            self._drop(slots)

    def drop_one(self) -> None:
        """Drop one handshake, because there is no file descriptor or memory for another."""
        self._drop(0)

    def _drop(self, slots: int) -> None:
        living = [handshake for handshake in self._handshakes if not handshake.dropped]
        if len(living) <= slots:
            return
        busiest = Counter(handshake.address for handshake in living).most_common(1)[0][0]
        next(handshake for handshake in living if handshake.address == busiest).drop()
        self._counters["handshakes_dropped"] += 1
