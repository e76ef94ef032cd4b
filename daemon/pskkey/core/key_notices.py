"""The reports to the operator on this node's key and lease, one report for each change."""

from pskkey.core.actions import Action
from pskkey.core.key_slots import RingKey
from pskkey.core.notices import KeyChanged, OwnSenderIdTaken


class KeyNotices:
    """The key that was reported last, and the last lease. Methods append reports to `out`."""

    def __init__(self, out: list[Action]) -> None:
        self._out = out
        self._current = ""
        self._lease: int | None = None

    def sending_with(self, current: RingKey | None) -> None:
        """Report the current key if it has changed."""
        if current is not None and current.key.fingerprint != self._current:
            self._current = current.key.fingerprint
            self._out.append(KeyChanged(current.epoch, self._current))

    def leased(self, configured: int | None, leased: int | None) -> None:
        """Report a new lease if its sender id is not the `configured` one."""
        if leased not in (None, self._lease) and configured not in (None, leased):
            self._out.append(OwnSenderIdTaken(configured, leased))
        self._lease = leased
