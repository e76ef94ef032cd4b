"""Why and when a master makes a new key.

The master derives each reason from its present state. So no reason is lost, and a reason ends when a key serves it:

FIRST     the group has no key to send with
REQUESTED a request for a new key is due (`rekey_requests`)
ABOVE     the next epoch must be above a foreign epoch, of a joiner's key or of the other master in a merge
SUITE     the suite of the current key is not the configured one
LEFT      a node that knows the current key has left (`departures`)
INTERVAL  the group has sent with the current key for `rekey_interval`, less up to a tenth

One key serves all reasons. Only ABOVE replaces a next key before it is current, for at most `activation_deadline`
seconds after the first of them. So several groups can merge one after the other, but a peer with higher and higher
epochs cannot prevent that a next key becomes current. At least `rekey_spacing` seconds pass between two new keys.
"""

from enum import Enum, auto

from pskkey.core.departures import Departures
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
    LEFT = auto()
    INTERVAL = auto()


class Rekey:
    """The rekeys of a master. Times are in seconds."""

    def __init__(self, settings: Settings, keyring: Keyring, requests: RekeyRequests, departures: Departures) -> None:
        self._settings = settings
        self._keyring = keyring
        self._requests = requests
        self._departures = departures
        self._above = 0
        self._waiting_since = float("-inf")
        """When the next key was made, or the first one of those that replaced each other."""
        self.is_generating = False
        """Whether `actions.GenerateKey` waits for its answer."""
        self._last = float("-inf")
        self.leads_since = float("inf")
        """The time (seconds) at which this node became master."""

    def begin(self, now: float) -> None:
        """Begin as master. Discard the state of an earlier mastership."""
        self.is_generating = False
        self._above = 0
        self._waiting_since = self.leads_since = now

    def go_above(self, epoch: int) -> bool:
        """Require that the next key has an epoch above `epoch`. Return whether this raises the requirement."""
        before, self._above = self._above, latest((self._above, epoch))
        return self._above != before

    def reasons(self, now: float) -> set[Reason]:
        """Return the reasons to make a new key now."""
        current, newest, suite = self._keyring.current, self._keyring.newest, self._settings.suite
        interval = self._settings.timing.rekey_interval
        found = set()
        if self._requests.must_rekey(now):
            found.add(Reason.REQUESTED)
        if current is None or newest is None:
            return found | {Reason.FIRST}
        if self._above and not is_above(newest.epoch, self._above) and self._may_replace(now):
            found.add(Reason.ABOVE)
        if self._keyring.next is not None:
            return found
        if current.key.suite is not suite:
            found.add(Reason.SUITE)
        if (due := self._departures.due_at()) is not None and now >= due:
            found.add(Reason.LEFT)
        if interval and now >= current.rekey_due_at(interval):
            found.add(Reason.INTERVAL)
        return found

    def starts(self, now: float) -> set[Reason]:
        """Return the reasons if a key must be generated now, else an empty set. Return them only once for each key."""
        if self.is_generating or now < self._earliest():
            return set()
        reasons = self.reasons(now)
        self.is_generating = bool(reasons)
        return reasons

    def install(self, key: Key, now: float) -> bool:
        """Add the generated key to the key ring. Return whether the epochs wrapped."""
        self.is_generating = False
        self._last = now
        above, self._above = self._above, 0
        if self._keyring.next is None:
            self._waiting_since = now
        return self._keyring.install_fresh(key, now, above)

    def next_deadline(self, now: float) -> float | None:
        """Return when `starts` must be called next, None if no time is known."""
        times = [] if self.is_generating or not self.reasons(now) else [self._earliest()]
        current, interval = self._keyring.current, self._settings.timing.rekey_interval
        if current is not None and self._keyring.next is None:
            if interval:
                times.append(current.rekey_due_at(interval))
            if (due := self._departures.due_at()) is not None:
                times.append(due)
        return min((time for time in times if time > now), default=None)

    def _may_replace(self, now: float) -> bool:
        """Return whether a new key may be made now though it replaces a next key, if there is one."""
        return self._keyring.next is None or now < self._waiting_since + self._settings.timing.activation_deadline

    def _earliest(self) -> float:
        return self._last + self._settings.timing.rekey_spacing
