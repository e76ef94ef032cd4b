"""Accepted connections of local users, which wait to be opened, one user after the other.

To accept a connection takes little time, and to open it about a millisecond. So connections are accepted as they come.
In the kernel's queue a connection waits behind those of all users, and the kernel refuses connections when the queue is
full. Here a connection waits behind those of its own user, and in turn with other users.
"""

import socket
from collections import deque
from typing import Final

PLACES: Final = 256
"""Connections that wait, of all users."""


class WaitingRoom:
    """At most PLACES connections. One more closes the oldest connection of the user that has the most."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[socket.socket]] = {}  # by user, in the order of their turns
        self._count = 0

    def enter(self, connection: socket.socket, uid: int) -> int | None:
        """Add a connection of user `uid`. If one was closed to make room, return the user of that one, else None."""
        queue = self._queues.setdefault(uid, deque())
        queue.append(connection)
        self._count += 1
        if self._count <= PLACES:
            return None
        largest = max(self._queues, key=lambda one: len(self._queues[one]))
        self._take(largest).close()
        return largest

    def leave(self) -> socket.socket | None:
        """Remove the connection whose turn it is and return it, if one waits. The other users have their turns next."""
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
