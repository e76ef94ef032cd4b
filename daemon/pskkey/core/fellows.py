"""Who was in a group with us a moment ago and is not where we are now.

When a master dies, or two halves meet, the members of a half come to their next master one by one. Nobody can tell that
master of whom to wait for, if their own has died; but each of them was told who the others are. So it goes on sending
with the key of their half until they are here as well and have the keys, or are not to be expected any more.
"""

from pskkey.core.settings import Settings


class Fellows:
    """The members of our group by their ids, and those whom we miss, each until when."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._here: frozenset[str] = frozenset()
        self._missing: dict[str, float] = {}
        self._master: str | None = None
        self._left_at: float | None = None

    def left(self, now: float) -> None:
        """We have no master any more. Fellows are missed from now on; the master is not: it has died, or parted."""
        self._left_at = now
        self._here -= {self._master}

    def are_led_on(self) -> None:
        """The master hands us over, and comes along."""
        self._master = None

    def are(self, ids: frozenset[str], able: frozenset[str], master: str | None, now: float) -> None:
        """These are the members of our group, ourselves and its master (None: that was we) included.

        Those `able` have the master's keys.
        """
        if self._left_at is not None:
            until = self._left_at + self._settings.timing.comes_within
            self._missing |= dict.fromkeys(self._here, until)
            self._left_at = None
        self._missing = {i: until for i, until in self._missing.items() if i not in able and now < until}
        self._here, self._master = ids, master

    def missing(self, now: float) -> frozenset[str]:
        """Return who is to come yet to where we are."""
        return frozenset(i for i, until in self._missing.items() if now < until)

    def missed_until(self) -> float:
        """Return when nobody is missed any longer, if nobody comes before."""
        return max(self._missing.values(), default=float("-inf"))
