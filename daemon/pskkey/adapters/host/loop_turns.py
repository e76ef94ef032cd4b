"""Measures how long the turns of the event loop last, in its selector, without a timer.

A turn lasts from the return of `select()` to the next call. Nothing else is served meanwhile.
"""

import asyncio
import selectors
import time
from collections.abc import Callable
from typing import Final

WINDOW: Final = 60
"""Seconds for which a turn is remembered."""


class LoopTurns:
    """The longest turn of each of the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._longest: dict[int, tuple[int, float]] = {}
        """By the number of a second modulo WINDOW: that second, and the longest turn that ended in it."""

    def note(self, length: float) -> None:
        """Note that a turn of this length (seconds) has ended."""
        second = int(self._clock())
        of, longest = self._longest.get(second % WINDOW, (second, -1.0))
        if of != second or length > longest:
            self._longest[second % WINDOW] = second, length

    def longest(self) -> float:
        """Return the length in seconds of the longest turn that ended within the last minute."""
        since = int(self._clock()) - WINDOW
        return max((length for second, length in self._longest.values() if second > since), default=0.0)

    def forget(self) -> None:
        """Forget all turns up to now, such as those of the start."""
        self._longest.clear()

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop whose turns are noted here, for `asyncio.run(..., loop_factory=...)`."""
        return asyncio.SelectorEventLoop(_WatchedSelector(self.note))


class _WatchedSelector(selectors.EpollSelector):
    def __init__(self, note: Callable[[float], None]) -> None:
        super().__init__()
        self._note = note
        self._returned: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self._returned is not None:
            self._note(time.monotonic() - self._returned)
        ready = super().select(timeout)
        self._returned = time.monotonic()
        return ready
