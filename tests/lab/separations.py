"""Which nodes a fault has cut off from which, and when: what they lose of each other then, the product cannot help."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

type Spans = Sequence[tuple[float, float]]
"""Times (since, until), of `time.monotonic`."""

GUARD: Final = 0.02
"""Seconds before a cut for which nothing is asked: a datagram is stamped before it is sent."""


@dataclass(slots=True)
class Separation:
    """Nodes of one side could not reach those of another. Times are of `time.monotonic`."""

    sides: tuple[frozenset[str], ...]
    since: float
    healed_at: float = math.inf
    """When the network let them through again."""
    mended_at: float = math.inf
    """When they were one group again."""

    def healed(self) -> float:
        """Note that the network is whole again; return when."""
        self.healed_at = time.monotonic()
        return self.healed_at

    def mended(self) -> None:
        """Note that those who were apart are one group again, with one key."""
        self.mended_at = time.monotonic()

    def parts(self, one: str, other: str) -> bool:
        """Tell whether these two are on different sides."""
        return next((other not in side for side in self.sides if one in side), False)


class Separations:
    """All that there were in a run."""

    def __init__(self) -> None:
        self._all: list[Separation] = []

    def begin(self, *sides: Iterable[str]) -> Separation:
        """Note that from now on nodes of different sides cannot reach each other; call it before that is so."""
        separation = Separation(tuple(map(frozenset, sides)), time.monotonic() - GUARD)
        self._all.append(separation)
        return separation

    def of_data(self, one: str, other: str) -> Spans:
        """Return when (since, until) these two could not be expected to hear each other."""
        return [(s.since, s.mended_at) for s in self._all if s.parts(one, other)]

    def of_network(self, one: str, other: str) -> Spans:
        """Return when (since, until) these two could not know of each other."""
        return [(s.since, s.healed_at) for s in self._all if s.parts(one, other)]
