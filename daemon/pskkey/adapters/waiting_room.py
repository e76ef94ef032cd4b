"""Connections of local users that are accepted and wait to be opened, one user after the other.

To accept a connection costs little, and to open it about a millisecond. So connections are accepted as they come: what
waits in the kernel's queue waits behind everybody's, and who finds that queue full is turned away by the kernel. Here
whoever connects all the time waits behind himself.
"""

import socket
from collections import deque
from typing import Final

PLACES: Final = 256
"""Connections that wait, of all users."""


class WaitingRoom:
    """Where there are too many, the oldest connection of the user who has the most is closed."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[socket.socket]] = {}  # by user; whose turn is next comes first
        self._count = 0

    def enter(self, connection: socket.socket, uid: int) -> int | None:
        """Let a connection of user `uid` wait. Returns the user of whom one was closed to make room, if one was."""
        queue = self._queues.setdefault(uid, deque())
        queue.append(connection)
        self._count += 1
        if self._count <= PLACES:
            return None
        largest = max(self._queues, key=lambda one: len(self._queues[one]))
        self._take(largest).close()
        return largest

    def leave(self) -> socket.socket | None:
        """Return the connection whose turn it is, if one waits. Its user's next one waits for a turn of all others."""
        uid = next(iter(self._queues), None)
        if uid is None:
            return None
        connection = self._take(uid)
        if uid in self._queues:
            self._queues[uid] = self._queues.pop(uid)
        return connection

    def close(self) -> None:
        """Close all connections that wait."""
        while (connection := self.leave()) is not None:
            connection.close()

    def _take(self, uid: int) -> socket.socket:
        queue = self._queues[uid]
        connection = queue.popleft()
        self._count -= 1
        if not queue:
            del self._queues[uid]
        return connection
