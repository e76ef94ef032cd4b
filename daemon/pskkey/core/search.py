"""The search of a listening node for a master: whom to join next, and when to become master itself.

A search is a window, in which the node waits for a proof, and then the wait of a candidate. A failed join opens the
window again, but not beyond `_end`, because failed joins must not delay the claim for ever. The node joins a proven
master at once. After the window it tries hints, and they delay its claim by HINTS_FOR.
"""

from dataclasses import dataclass
from typing import Final

from pskkey.core.attempts import BACKED_UP_AFTER, as_member
from pskkey.core.peers import Peers
from pskkey.core.settings import Settings
from pskkey.model import Advert, Member

HINTS_FOR: Final = 0.3
"""Seconds that hints add to the wait before a claim. If the node may not claim, it is the time-out of an attempt that
follows a hint."""

SEARCH_WINDOWS: Final = 5
"""Discovery windows for which a node searches a master while it cannot join one that lives."""

LONGEST_SEARCH: Final = 60.0
"""Seconds for which it searches at most, unless its discovery window is longer than a fifth of this."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to join `peer`. `timeout`, `in_all` and `patience` are those of `Outbound.open`."""

    peer: Member
    timeout: float
    in_all: bool = False
    patience: float | None = None


@dataclass(frozen=True, slots=True)
class BecomeMaster:
    """The search is over: there is no master to join."""


type Step = Attempt | BecomeMaster


@dataclass(slots=True)
class _Listening:
    """A search since `began`: a window until `until`, then the wait of a candidate until `claim_at`. In seconds."""

    began: float
    until: float
    claim_at: float | None = None


class Search:
    """The search of a node, if it listens, or the interrupted one, if it tries to join a peer."""

    def __init__(self, settings: Settings, peers: Peers) -> None:
        self._settings, self._peers = settings, peers
        self._present: _Listening | None = None
        self._interrupted: _Listening | None = None

    @property
    def is_on(self) -> bool:
        """Return whether the node searches now."""
        return self._present is not None

    def begin(self, now: float) -> None:
        """Begin a new search."""
        self._present = _Listening(now, now + self._settings.timing.discovery_window)

    def end(self) -> None:
        """End the search, but keep an interrupted one."""
        self._present = None

    def interrupt(self) -> None:
        """Interrupt the search, if there is one, for an attempt to join a peer."""
        self._present, self._interrupted = None, self._present

    def resume(self) -> None:
        """Go on with the interrupted search: the attempt was given up for a better one."""
        self._present = self._interrupted

    def resume_after_failure(self, is_alive: bool, patience: float, now: float) -> None:
        """Go on with the interrupted search after an attempt that failed. If there was none, the new one goes on.

        `is_alive`: the peer is a proven master, and may only be busy.
        """
        new, interrupted = self._present, self._interrupted
        if new is not None and interrupted is not None:
            if is_alive:
                interrupted.claim_at = None
            interrupted.until = max(now, min(new.until, self._end(interrupted, patience, now)))
            self._present = interrupted

    def next_deadline(self, now: float) -> float | None:
        """Return when `step` must be called next."""
        if self._present is None:
            return None
        wake = self._present.claim_at or self._present.until
        release = self._peers.next_release(now)
        return wake if release is None else min(wake, release)

    def step(self, read_until: float, patience: float, now: float) -> Step | None:
        """Return what to do now, None: wait. This node has read what had arrived before `read_until`.

        `patience` is that of an attempt, in seconds.
        """
        listening, join_timeout = self._present, self._settings.timing.join_timeout
        if listening is None:
            return None
        if masters := self._peers.proven_masters(now):
            return Attempt(as_member(masters[0]), join_timeout)
        if listening.claim_at is None and read_until < listening.until:
            return None
        hints = self._peers.claims(now)
        end = self._end(listening, patience, now)
        may_claim = self._settings.me.eligible and not self._peers.was_refused(now)
        if not may_claim or (now < end and self._peers.count_busy_masters(now)):
            listening.until, listening.claim_at = now + self._settings.timing.discovery_window, None
            return self._follow(hints[0], HINTS_FOR, end, now) if hints else None
        if listening.claim_at is None:
            listening.claim_at = self._peers.claim_at(self._settings.me, now)
            if hints:
                listening.claim_at += HINTS_FOR  # all candidates add the same time, so the order of their claims stays
        if read_until >= listening.claim_at:  # else the proof of a master may wait to be read
            return BecomeMaster()
        if hints and now < listening.claim_at:
            return self._follow(hints[0], (listening.claim_at - now) / BACKED_UP_AFTER, end, now)
        return None

    def _follow(self, hint: Advert, timeout: float, end: float, now: float) -> Attempt:
        """Try to join a master by a hint. If its TCP accepts, it may only be busy, and has the rest of the search."""
        patience = max(min(self._settings.timing.join_timeout, end - now), 0.0)
        return Attempt(as_member(hint), timeout, in_all=True, patience=patience)

    def _end(self, listening: _Listening, patience: float, now: float) -> float:
        """Return the end of a search, after which a node claims although it hears masters that it could not join.

        Some of them are proven, and may only be busy. Another master would make all of them busier, and with each one
        the nodes that find it busy become more. So the search is the longer, the more there are. An attempt has its
        patience twice: for the handshake, and for the answer to JOIN.
        """
        busy, window = self._peers.count_busy_masters(now), self._settings.timing.discovery_window
        longest = max(busy, 1) * SEARCH_WINDOWS * window + busy * 4 * patience
        return listening.began + min(longest, max(LONGEST_SEARCH, SEARCH_WINDOWS * window))
