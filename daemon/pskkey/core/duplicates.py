"""Other nodes with the id of this node, and the reports on them to the operator."""

from pskkey.core.actions import Action
from pskkey.core.notices import OwnIdElsewhere
from pskkey.core.settings import Settings

DUPLICATE_SPACING = 60.0
"""Minimum seconds between two reports that another node has our id."""

DUPLICATE_FOR = 15.0
"""Seconds after the last sign of another node with our id for which it counts as present."""


class Duplicates:
    """The last sign of another node with our id. Methods append actions to `out`. Times are in seconds."""

    def __init__(self, settings: Settings, out: list[Action]) -> None:
        self._settings = settings
        self._out = out
        self._reported_at = self._seen_at = float("-inf")
        self._other = ""

    def find(self, now: float) -> str | None:
        """Return the description of another node with our id, None if there was no sign of it for DUPLICATE_FOR."""
        return self._other if now < self._seen_at + DUPLICATE_FOR else None

    def report(self, other: str, now: float) -> None:
        """Report to the operator that another node has our id, once in DUPLICATE_SPACING."""
        self._other, self._seen_at = other, now
        if now < self._reported_at + DUPLICATE_SPACING:
            return
        self._reported_at = now
        self._out.append(OwnIdElsewhere(self._settings.me.id, other))
