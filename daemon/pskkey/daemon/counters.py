"""Counters with the time of the last rise of each."""

from collections import Counter
from collections.abc import Callable, Iterable


class DatedCounter(Counter[str]):
    """Counts by name, as `Counter` does."""

    def __init__(self, names: Iterable[str], clock: Callable[[], float]) -> None:
        """The counters of `names` exist from the start, with 0. `clock` returns seconds that only rise."""
        super().__init__(dict.fromkeys(names, 0))
        self._clock = clock
        self._rose: dict[str, float] = {}

    def __setitem__(self, name: str, count: int) -> None:
        if count > self[name]:
            self._rose[name] = self._clock()
        super().__setitem__(name, count)

    def ages(self) -> dict[str, float]:
        """Return the seconds since the last rise of each counter that has risen."""
        now = self._clock()
        return {name: now - at for name, at in self._rose.items()}
