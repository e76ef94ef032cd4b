"""What the operator is told of this node's keys and of its lease: each thing once, when it has become so."""

from pskkey.core.actions import Action, Notice, NoticeKind
from pskkey.core.held import HeldEntry
from pskkey.model import Suite


class KeyNotices:
    """Remembers what was told last. Methods append to `out`."""

    def __init__(self, out: list[Action]) -> None:
        self._out = out
        self.suite_told: Suite | None = None
        """The configured suite that a key was rolled for, while we are master."""
        self._current = ""
        self._lease: int | None = None

    def distributing(self, coming: HeldEntry) -> None:
        """As master, we have begun to make a new key known."""
        text = f"distributing a new key, epoch {coming.epoch}, {coming.key.fingerprint}"
        self._out.append(Notice(NoticeKind.KEY_ROLLED, text, {"epoch": coming.epoch}))

    def sending_with(self, current: HeldEntry | None) -> None:
        """This is the key to send with."""
        if current is None or current.key.fingerprint == self._current:
            return
        self._current = current.key.fingerprint
        text = f"sending with key epoch {current.epoch}, {self._current}"
        self._out.append(Notice(NoticeKind.KEY_CHANGED, text, {"epoch": current.epoch}))

    def leased(self, wanted: int | None, got: int | None) -> None:
        """The master has leased us the sender id `got`; `wanted` is the one that our configuration names."""
        if got not in (None, self._lease) and wanted not in (None, got):
            text = f"[node] sender_id = {wanted} of our configuration is another node's: {got} is leased to us instead"
            self._out.append(Notice(NoticeKind.SENDER_ID_TAKEN, text, {"sender_id": str(got)}))
        self._lease = got

    def is_of_another_suite(self, current: HeldEntry | None, wanted: Suite | None) -> bool:
        """Tell a master, once, that the key in use is of another suite than is configured."""
        if current is None or wanted in (None, current.key.suite, self.suite_told):
            return False
        self.suite_told = wanted
        text = f"rolling to a new key: the group's is of {current.key.suite.name}, and {wanted.name} is configured"
        self._out.append(Notice(NoticeKind.KEY_WANTED, text))
        return True
