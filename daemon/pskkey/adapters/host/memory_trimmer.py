"""Returns the memory of many ended connections to the system.

Each had buffers of some 40 KiB. They leave holes in the heap, which glibc does not return by itself.
"""

import asyncio
from typing import Final

from pskkey.adapters.host.process import return_freed_memory

RETURNED_AFTER: Final = 32
"""Handshakes and connections that end before free memory is returned."""
RETURN_DELAY: Final = 1.0
"""Seconds from then until free memory is returned. This repeats as long as more have ended since."""


class MemoryTrimmer:
    """Counts the connections and handshakes that end."""

    def __init__(self) -> None:
        self._ended = 0  # since free memory was returned
        self._timer: asyncio.TimerHandle | None = None

    def count_end(self) -> None:
        """Count another handshake or connection that has ended."""
        self._ended += 1
        if self._ended >= RETURNED_AFTER and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETURN_DELAY, self._trim)

    def stop(self) -> None:
        """Return free memory now if this was due later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            return_freed_memory()

    def _trim(self) -> None:
        self._timer = None
        if self._ended:
            return_freed_memory()
            self._ended = 0
            self._timer = asyncio.get_running_loop().call_later(RETURN_DELAY, self._trim)
