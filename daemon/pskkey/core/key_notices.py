"""What the operator is told of this node's keys and of its lease: each thing once, when it has become so."""

from pskkey.core.actions import Action
from pskkey.core.key_slots import KeySlot
from pskkey.core.notices import KeyChanged, OwnSenderIdTaken


class KeyNotices:
    """Remembers what was told last. Methods append to `out`."""

    def __init__(self, out: list[Action]) -> None:
        self._out = out
        self._current = ""
        self._lease: int | None = None

    def sending_with(self, current: KeySlot | None) -> None:
        """This is the key to send with."""
        if current is not None and current.key.fingerprint != self._current:
            self._current = current.key.fingerprint
            self._out.append(KeyChanged(current.epoch, self._current))

    def leased(self, configured: int | None, leased: int | None) -> None:
        """The master has leased us a sender id; `configured` is the one that our configuration names."""
        if leased not in (None, self._lease) and configured not in (None, leased):
            self._out.append(OwnSenderIdTaken(configured, leased))
        self._lease = leased
