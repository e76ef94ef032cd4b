"""Why and when a master makes a new key.

Every reason follows from what is held and asked for at this moment, so none has to be remembered, and none is left over
when a key has served it:

FIRST     the group has no key to send with
REQUESTED somebody asked, and its request is due (`rekey_requests`)
ABOVE     a member or another master has a key of an epoch that is not below ours
SUITE     the current key is not of the suite that is configured
INTERVAL  the current key is `rekey_interval` old, up to a tenth less

All reasons together make one key. ABOVE alone replaces a key that is on its way, and not one that has replaced another:
that one has its turn first, so nobody who comes with ever higher epochs can keep a group from its next key.
`rekey_spacing` seconds pass between two.
"""

from enum import Enum, auto

from pskkey.core.key_slots import is_above, latest
from pskkey.core.keyring import Keyring
from pskkey.core.rekey_requests import RekeyRequests
from pskkey.core.settings import Settings
from pskkey.model import Key


class Reason(Enum):
    """Why a new key is needed."""

    FIRST = auto()
    REQUESTED = auto()
    ABOVE = auto()
    SUITE = auto()
    INTERVAL = auto()


class Rekey:
    """The making of keys, as master. Times are in seconds."""

    def __init__(self, settings: Settings, keyring: Keyring, requests: RekeyRequests) -> None:
        self._settings = settings
        self._keyring = keyring
        self._requests = requests
        self._above = 0
        self._has_replaced = False
        self.is_generating = False
        """Whether a key has been asked for that has not come yet."""
        self._last = float("-inf")

    def begin(self) -> None:
        """Become the master: what an earlier time as master asked for is over."""
        self.is_generating = False
        self._above = 0

    def go_above(self, epoch: int) -> bool:
        """The group's next key is to have an epoch above this one. Return whether that is news."""
        before, self._above = self._above, latest((self._above, epoch))
        return self._above != before

    def reasons(self, now: float) -> set[Reason]:
        """Return why a new key is needed now."""
        current, newest, suite = self._keyring.current, self._keyring.newest, self._settings.suite
        interval = self._settings.timing.rekey_interval
        found = set()
        if self._requests.must_roll(now):
            found.add(Reason.REQUESTED)
        if current is None or newest is None:
            return found | {Reason.FIRST}
        if self._above and not is_above(newest.epoch, self._above) and not (self._has_replaced and self._keyring.next):
            found.add(Reason.ABOVE)
        if self._keyring.next is not None:
            return found
        if current.key.suite is not suite:
            found.add(Reason.SUITE)
        if interval and now >= current.grows_old_at(interval):
            found.add(Reason.INTERVAL)
        return found

    def starts(self, now: float) -> set[Reason]:
        """Return the reasons, once, when a key must be generated now; empty when not."""
        if self.is_generating or now < self._earliest():
            return set()
        reasons = self.reasons(now)
        self.is_generating = bool(reasons)
        return reasons

    def install(self, key: Key, now: float) -> bool:
        """Give the generated key to the key ring; tell whether its epoch begins anew after the last one."""
        self.is_generating = False
        self._last = now
        above, self._above = self._above, 0
        self._has_replaced = self._keyring.next is not None
        return self._keyring.install_fresh(key, now, above)

    def next_deadline(self, now: float) -> float | None:
        """Return when `starts` has something to do, if nothing happens before."""
        times = [] if self.is_generating or not self.reasons(now) else [self._earliest()]
        current, interval = self._keyring.current, self._settings.timing.rekey_interval
        if interval and current is not None and self._keyring.next is None:
            times.append(current.grows_old_at(interval))
        return min((time for time in times if time > now), default=None)

    def _earliest(self) -> float:
        return self._last + self._settings.timing.rekey_spacing
