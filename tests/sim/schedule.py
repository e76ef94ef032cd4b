"""Virtual time: the calls that are due, in order of time, and the one random generator of a world."""

import heapq
import random
from collections.abc import Callable
from itertools import count


class Schedule:
    """The time of a world, in seconds. The same seed gives the same run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Call `what` at virtual time `when`."""
        heapq.heappush(self._heap, (when, next(self._order), what))

    def run_until(self, end: float) -> None:
        """Make all calls that are due up to virtual time `end`."""
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, what = heapq.heappop(heap)
            self.now = max(self.now, when)
            what()
        self.now = end
