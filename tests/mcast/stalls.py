"""How late the machine wakes a program that sleeps. A bound on the time of another program must allow for that."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SLEEP: Final = 0.005


class Stalls:
    """The oversleeps of threads that only sleep. Each processor has one thread, because a single one may stall."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []  # when a thread woke, and how much later than it wanted
        self._over = threading.Event()

    @classmethod
    @contextmanager
    def watched(cls) -> Iterator["Stalls"]:
        """Watch during the block; at its end, every sleep is noted."""
        stalls = cls()
        threads = [threading.Thread(target=stalls._watch, args=(cpu,)) for cpu in os.sched_getaffinity(0)]
        for thread in threads:
            thread.start()
        try:
            yield stalls
        finally:
            stalls._over.set()
            for thread in threads:
                thread.join()

    def worst_since(self, moment: float) -> float:
        """Return the longest oversleep, in seconds, of those that ended at this time of `time.monotonic` or later."""
        return max((late for woke, late in self._late if woke >= moment), default=0.0)

    def _watch(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread alone
        while not self._over.is_set():
            wanted = time.monotonic() + _SLEEP
            time.sleep(_SLEEP)
            woke = time.monotonic()
            self._late.append((woke, woke - wanted))
