"""A new key that somebody here needs: asked of the master again and again, until there is one.

Whoever asked is told only that it was heard: the operator's command has ended, and a session manager asks once for each
key. So the request is ours from then on, whatever becomes of the master that it was passed on to: that one may be dead
already, or hand over before it has rolled.
"""

from pskkey.core.keyring import Keyring
from pskkey.core.settings import Timing
from pskkey.model import KeyNewReason


class WantedKey:
    """The request that is open, if there is one. Requests that come while a new key is on its way are one with it."""

    def __init__(self, timing: Timing, keyring: Keyring) -> None:
        self._timing = timing
        self._keyring = keyring
        self._reason: KeyNewReason | None = None
        self._was_said = False
        """Whether a master was told of the request."""
        self._before: frozenset[str] = frozenset()
        """The fingerprints of the keys that had had their turn by then: any other one is new."""
        self._next_word = float("-inf")

    def ask(self, reason: KeyNewReason) -> bool:
        """Open a request; return whether it is another one than that which is open already."""
        self._fulfil()
        if reason is self._reason:
            return False
        if self._reason is None:
            self._before, self._was_said = self._had_their_turn(), False
        self._reason = reason
        self._next_word = float("-inf")
        return True

    def must_roll(self) -> bool:
        """Tell a master whether a key is still wanted."""
        self._fulfil()
        return self._reason is not None

    def say(self, now: float, *, sender_waits: bool) -> KeyNewReason | None:
        """Return what a client has to say to its master now.

        `sender_waits`: a session manager of ours may not send with the key in use.
        """
        if self._was_said and self._before:
            self._fulfil()
        else:  # what we come to hold by joining is new to us only
            self._before = self._had_their_turn()
        reason = self._reason
        if reason is None and sender_waits and self._keyring.next is None:
            reason = KeyNewReason.SENDER_RESTARTED
        if reason is None or now < self._next_word:
            return None
        self._was_said = True
        self._next_word = now + self._timing.request_interval
        return reason

    def master_lost(self, now: float) -> None:
        """Whoever comes next has heard nothing of it yet."""
        self._next_word = now

    def _fulfil(self) -> None:
        newest = self._keyring.newest
        if newest is not None and newest.key.fingerprint not in self._before:
            self._reason = None

    def _had_their_turn(self) -> frozenset[str]:
        coming = self._keyring.next
        return frozenset(e.key.fingerprint for e in self._keyring.entries if e is not coming)
