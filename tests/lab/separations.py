"""The nodes that a fault has separated, and when: the product cannot prevent losses between them in that time."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

type Spans = Sequence[tuple[float, float]]
"""Times (since, until), of `time.monotonic`."""

GUARD: Final = 0.02
"""Seconds before a cut that count as separated too: a datagram gets its time before it is sent."""


@dataclass(slots=True)
class Separation:
    """Nodes of one side could not reach those of another. Times are of `time.monotonic`."""

    sides: tuple[frozenset[str], ...]
    since: float
    healed_at: float = math.inf
    """When the network connected them again."""
    mended_at: float = math.inf
    """When they were one group again."""

    def note_healing(self) -> float:
        """Note that the network connects all sides again; return the time."""
        self.healed_at = time.monotonic()
        return self.healed_at

    def note_merge(self) -> None:
        """Note that the separated nodes are one group again, with one key."""
        self.mended_at = time.monotonic()

    def separates(self, one: str, other: str) -> bool:
        """Return whether these two nodes are on different sides."""
        return next((other not in side for side in self.sides if one in side), False)


class Separations:
    """All separations of a run."""

    def __init__(self) -> None:
        self._all: list[Separation] = []

    def begin(self, *sides: Iterable[str]) -> Separation:
        """Note that nodes of different sides cannot reach each other from now on. Call this before the fault."""
        separation = Separation(tuple(map(frozenset, sides)), time.monotonic() - GUARD)
        self._all.append(separation)
        return separation

    def of_data(self, one: str, other: str) -> Spans:
        """Return the times (since, until) in which these two need not receive each other's datagrams."""
        return [(s.since, s.mended_at) for s in self._all if s.separates(one, other)]

    def of_network(self, one: str, other: str) -> Spans:
        """Return the times (since, until) in which these two could not reach each other."""
        return [(s.since, s.healed_at) for s in self._all if s.separates(one, other)]
