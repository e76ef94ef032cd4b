"""Gives the memory of many ended connections back to the system.

Each had buffers, of 256 KiB and less, which leave holes in the heap that glibc does not give back by itself.
"""

import asyncio
from typing import Final

from pskkey.adapters.host.process import return_freed_memory

RETURNED_AFTER: Final = 32
"""Handshakes and connections that ended: so many are a storm."""
RETURN_DELAY: Final = 1.0
"""Seconds from then until free memory is given back, and until that is done again, as long as any have ended since."""


class MemoryTrimmer:
    """Counts the connections and handshakes that end."""

    def __init__(self) -> None:
        self._ended = 0  # since free memory was given back
        self._timer: asyncio.TimerHandle | None = None

    def count_end(self) -> None:
        """Count another handshake or connection that has ended."""
        self._ended += 1
        if self._ended >= RETURNED_AFTER and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RETURN_DELAY, self._trim)

    def stop(self) -> None:
        """Give back now what was to be given back later."""
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
