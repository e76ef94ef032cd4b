"""The expiry of the keys of a node that has no master (`[key] expires_after`).

1. A node has a master if it is master, or has the key list of its master. The time without a master begins when that
   ends, and when the daemon stops. If the machine slept meanwhile, the time begins with the last event before the
   sleep, because the other nodes did not wait. A restart of the daemon does not let the time begin anew: it is in the
   persisted state. A daemon that is killed while it has a master cannot save the moment. Then the time begins when a
   daemon runs again.
2. After `expires_after` without a master the keys have *expired*. The session managers get them without a key to send
   with, so they only receive. A key client gets no key.
3. The keys are valid again when the node has a master, and sends with the key of this master's group. Until then it
   does not send with a former key either (`former_keys`), because this key has expired.
4. The time counts from the moment at which the setting is turned on.
"""

from dataclasses import replace
from typing import Final

from pskkey.core.keyring import Keyring
from pskkey.core.settings import Settings
from pskkey.model import Condition, ConditionKind, KeyState

_REMEDY: Final = "see the other conditions, or run `pskkeyctl doctor`, to find out why it has no master"


class KeyExpiry:
    """The time that a node has spent without a master, and whether its keys have expired."""

    def __init__(self, settings: Settings, keyring: Keyring, without_master_since: float | None) -> None:
        """Begin with the time that an earlier process of this node has saved."""
        self._settings = settings
        self._keyring = keyring
        self.without_master_since = without_master_since
        """When the time without a master began (seconds); None: the node has a master, or the setting is off."""
        self.has_expired = False
        """Whether the keys have expired."""

    def update(self, now: float, *, has_master: bool, awake_since: float) -> None:
        """Update the state after an event at `now`. The node was awake between `awake_since` and `now`, or slept."""
        period, since = self._settings.timing.expires_after, self.without_master_since
        if not period or (has_master and not (self.has_expired and self._keyring.sends_former_key)):
            self.without_master_since, self.has_expired = None, False
            return
        self.without_master_since = since = awake_since if since is None else min(since, now)
        self.has_expired = self._keyring.current is not None and now >= since + period

    def next_deadline(self) -> float | None:
        """Return when the keys expire; None: they do not, or have already."""
        period, since = self._settings.timing.expires_after, self.without_master_since
        return None if since is None or self.has_expired or self._keyring.current is None else since + period

    def limit(self, state: KeyState) -> KeyState:
        """Return the key state for session managers: without a key to send with if the keys have expired."""
        if not self.has_expired:
            return state
        return replace(state, entries=tuple(replace(entry, send=False) for entry in state.entries))

    def conditions(self) -> tuple[Condition, ...]:
        """Return the condition that the keys have expired, if they have."""
        if not self.has_expired:
            return ()
        period = self._settings.timing.expires_after
        text = (
            f"the group key has expired, because this node has had no master for {period:g} s: session managers "
            "receive, and do not send"
        )
        return (Condition(ConditionKind.KEY_EXPIRED, text, _REMEDY),)
