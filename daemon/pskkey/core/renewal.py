"""The renewal of the session between a member and its master, after another PSK has become active.

A change of the pre-shared key (PSK) must interrupt nothing. So a member opens a second session with its master, and
sends JOIN on it:

1. A session is outdated while its PSK is not the active one. Only the session of a member is renewed. Every other
   session is short, and the next one uses the active PSK.
2. There is one attempt at a time. When GROUP arrives on the second session, this session replaces the first one, which
   ends.
3. The master closes the first session when it accepts JOIN on the second one. The close may arrive before GROUP. So if
   the first session ends after JOIN was sent, the master is not lost: the second session replaces the first one. The
   master is lost when the second session is silent for `dead_after`.
4. A failed attempt does not change the first session. The master may not have the new PSK yet, or may have no place for
   a second session. The next attempt follows after a pause, which doubles. Another change of the PSK ends the pause.
5. A session with a PSK that is not accepted any more ends with the first failed attempt.
6. Another change of the PSK ends an attempt that is still connecting. It does not end an attempt that has sent JOIN,
   because the master may have accepted it. After GROUP this session is outdated, so the next attempt begins.

Each attempt costs a handshake, and all members begin at the same time. So their pauses differ, by their node ids.
"""

from collections.abc import Set
from typing import Final

from pskkey.core.peers import Backoff
from pskkey.core.settings import Settings
from pskkey.model import PskName

RENEWAL_TIMEOUT: Final = 5.0
"""Seconds in which the second session must open. The time is long, because a master with many members is busy."""

PAUSE_MIN: Final = 2.5
PAUSE_MAX: Final = 30.0
"""Seconds between two attempts. The first pause is 1 to 2 times PAUSE_MIN, by the node id; PAUSE_MAX is the longest."""


class Renewal:
    """The valid PSKs, and the time when the next attempt may begin."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._active: PskName | None = None
        """The active PSK; None if it has not changed since the start."""
        self._accepted: Set[PskName] = frozenset()
        self._backoff = Backoff()

    def psk_changed(self, active: PskName, accepted: Set[PskName]) -> None:
        """Record the new PSKs, and end the pause."""
        self._active, self._accepted = active, accepted
        self._backoff = Backoff()

    def peer_changed(self) -> None:
        """End the pause: the session is with another master, which may have the new PSK."""
        self._backoff = Backoff()

    def due_at(self, psk: PskName) -> float | None:
        """Return when to renew a session that was opened with `psk`; None if it is not outdated."""
        return None if self._active in (None, psk) else self._backoff.until

    def is_removed(self, psk: PskName) -> bool:
        """Return whether `psk` is not accepted any more."""
        return self._active is not None and psk not in self._accepted

    def failed(self, now: float) -> bool:
        """Begin the pause after a failed attempt. Return whether it is the first failure since the PSK changed."""
        is_first = not self._backoff.length
        own_share = 1 + int(self._settings.me.id[:4], 16) / 0x10000
        self._backoff.failed(now, PAUSE_MIN * own_share, PAUSE_MAX)
        return is_first
