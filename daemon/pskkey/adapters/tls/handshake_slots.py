"""The TLS handshakes in progress. A stranger can begin one at no cost, so the newest always gets a slot.

When all slots are taken, the address with the most handshakes in progress loses its oldest. So a flood displaces
itself. A genuine client needs only a few turns of the event loop, so it is done before it becomes the oldest.
"""

import asyncio
from collections import Counter


class HandshakeSlots:
    """Holds the handshakes in progress. Counts `handshakes_dropped`."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._addresses: dict[asyncio.Task[None], str] = {}  # the oldest handshake first

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """All handshakes in progress, the oldest first."""
        return list(self._addresses)

    def add(self, task: asyncio.Task[None], address: str, slots: int) -> None:
        """Add the handshake of a peer at `address`. Cancel one when more than `slots` are in progress."""
        self._addresses[task] = address
        task.add_done_callback(self._addresses.pop)
        if len(self._addresses) > slots:
            self._drop(slots)

    def drop_one(self) -> None:
        """Cancel one handshake, because there is no file descriptor or memory for another."""
        self._drop(0)

    def _drop(self, slots: int) -> None:
        living = {task: address for task, address in self._addresses.items() if not task.cancelling()}
        if len(living) <= slots:
            return
        busiest = Counter(living.values()).most_common(1)[0][0]
        next(task for task, address in living.items() if address == busiest).cancel()
        self._counters["handshakes_dropped"] += 1
