"""Accepts the TCP connections of one listening socket while the queue of handshakes has room."""

import asyncio
import socket
from collections import Counter
from typing import Final

from pskkey.adapters.complaints import Complaints
from pskkey.adapters.tls.handshake_queue import SPEAKS_WITHIN, Arrival, HandshakeQueue

ACCEPT_PAUSE: Final = 0.1
"""Seconds to wait when the system has no file descriptor or memory for another connection."""

ACCEPTED_AT_ONCE: Final = 32
"""Connections that are accepted in one turn of the event loop. They are far more than the handshakes of a turn, so that
those are chosen among all that have come and not in the order of the kernel's queue.
"""


class Acceptor:
    """Owns a listening socket, and accepts until `close`. Counters: `accept_failures`."""

    def __init__(
        self, listener: socket.socket, queue: HandshakeQueue, counters: Counter[str], complaints: Complaints
    ) -> None:
        self._listener = listener
        self._queue = queue
        self._counters = counters
        self._complaints = complaints
        self._loop = asyncio.get_running_loop()
        self._pause: asyncio.TimerHandle | None = None
        self._waits_for_room = False
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accept nothing more, and close the socket."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def note_room(self) -> None:
        """Go on if this has waited for room in the queue."""
        if self._waits_for_room and self._pause is not None:
            self._pause.cancel()
            self._go_on()

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._queue.has_room():
                self._waits_for_room = True
                self._stop_for(SPEAKS_WITHIN)
                return
            try:
                accepted, peer = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:  # the peer has closed it already
                continue
            except OSError as error:
                # No file descriptor or memory is left: the pending connection would wake us again at once.
                self._counters["accept_failures"] += 1
                self._complaints.warn("Connections", f"accepting failed: {error.strerror}; trying again")
                self._queue.drop_one()
                self._stop_for(ACCEPT_PAUSE)
                return
            accepted.setblocking(False)
            self._queue.add(Arrival(self._queue, accepted, peer[0], peer[1]))

    def _stop_for(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause, self._waits_for_room = None, False
        self._loop.add_reader(self._listener, self._accept)
