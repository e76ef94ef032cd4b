"""When the session with our master is renewed, because it was opened with another PSK than the active one.

A rotation of the PSK must interrupt nothing. So a member opens a second session with its master and sends JOIN on it:

1. A session is outdated while its PSK is not the active one. Only a session of a member is renewed: every other one is
   short, and the next one takes the active PSK.
2. One attempt at a time. GROUP on the second session makes it the session with the master, and ends the former one.
3. The master ends the former session when it takes JOIN on the second one, and that end may come before GROUP does. So
   the end of the former session is no loss of the master from our JOIN on: the second one counts in its place. Its
   silence is a loss, as ever.
4. An attempt that fails leaves the former session as it is. The next one follows after a pause, which doubles: the
   master may not have the new PSK yet, or no place for a second session. Another change of the PSK ends the pause.
5. A session whose PSK we do not accept any more ends with the first attempt that fails.
6. An attempt that waits for its connection is given up when the PSK changes again. One on which JOIN was sent is not,
   because the master may have taken it: it is outdated itself when it is welcomed.

Each attempt costs a handshake, and all members begin at the same time. So their pauses differ, by their ids.
"""

from collections.abc import Set
from typing import Final

from pskkey.core.peers import Backoff
from pskkey.core.settings import Settings
from pskkey.model import PskName

RENEWAL_TIMEOUT: Final = 5.0
"""Seconds in which the second session is to be open. Nobody waits for it, and a master with many members is busy."""

PAUSE_MIN: Final = 2.5
PAUSE_MAX: Final = 30.0
"""Seconds between two attempts, the first time and at most; the member with the highest id takes twice the first."""


class Renewal:
    """Which PSK counts, and when the next attempt may begin."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._active: PskName | None = None
        """None: it has not changed since the start."""
        self._accepted: Set[PskName] = frozenset()
        self._backoff = Backoff()

    def psk_changed(self, active: PskName, accepted: Set[PskName]) -> None:
        """These count from now on."""
        self._active, self._accepted = active, accepted
        self._backoff = Backoff()

    def due_at(self, psk: PskName) -> float | None:
        """Return when a session that was opened with `psk` is to be renewed; None: never."""
        return None if self._active in (None, psk) else self._backoff.until

    def is_removed(self, psk: PskName) -> bool:
        """Return whether a PSK is not accepted any more."""
        return self._active is not None and psk not in self._accepted

    def failed(self, now: float) -> bool:
        """An attempt has failed: begin the pause. Return whether this is the first failure since the PSK changed."""
        is_first = not self._backoff.length
        own_share = 1 + int(self._settings.me.id[:4], 16) / 0x10000
        self._backoff.failed(now, PAUSE_MIN * own_share, PAUSE_MAX)
        return is_first
