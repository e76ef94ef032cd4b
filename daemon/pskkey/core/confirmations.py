"""The joiners of a master that have not confirmed GROUP yet.

A joiner sends a message as soon as GROUP has arrived. A joiner that sends none receives only small packets. It joins
again and again, at most `merge.NO_GROUP_HOLD_MAX` seconds after a failure.
"""

from collections.abc import Iterator
from typing import Final

from pskkey.model import Member

CONFIRMS_WITHIN: Final = 2.0
"""Seconds after its JOIN after which a joiner counts as unconfirmed."""

UNCONFIRMED_FOR: Final = 20.0
"""Seconds after its last JOIN for which it does. This is longer than the time to its next JOIN."""

MAX_UNCONFIRMED: Final = 64
"""Joiners that are kept. The one that joined the longest ago makes room."""


class Confirmations:
    """The unconfirmed joiners, by node id."""

    def __init__(self) -> None:
        self._joiners: dict[str, tuple[Member, str, float]] = {}

    def expect(self, joiner: Member, address: str, now: float) -> None:
        """Record the JOIN of `joiner` at `address`."""
        self._joiners.pop(joiner.id, None)
        while len(self._joiners) >= MAX_UNCONFIRMED:
            del self._joiners[next(iter(self._joiners))]
        self._joiners[joiner.id] = joiner, address, now

    def confirm(self, node_id: str) -> None:
        """Forget a joiner that has confirmed."""
        self._joiners.pop(node_id, None)

    def missing(self, now: float) -> Iterator[tuple[Member, str]]:
        """Yield the unconfirmed joiners, with their addresses."""
        for joiner, address, at in self._joiners.values():
            if at + CONFIRMS_WITHIN <= now < at + UNCONFIRMED_FOR:
                yield joiner, address
