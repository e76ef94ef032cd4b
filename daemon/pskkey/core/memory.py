"""What a node knows beyond the life of its process: it begins with what was saved, and says what is to be saved."""

from pskkey.core.consumers import Consumers
from pskkey.core.election import Election
from pskkey.core.keyring import Keyring
from pskkey.core.leases import leases_of
from pskkey.core.members import Members
from pskkey.core.settings import Settings
from pskkey.model import Group, Role, SavedState


def begin_with(saved: SavedState | None, settings: Settings) -> SavedState:
    """Return what a node begins with: what was `saved`, unless that was another node's, or one's of another group.

    With the saved memory goes its name, so `settings.instance` becomes that.
    """
    if saved is None or (saved.group, saved.node) != (settings.group, settings.me.id):
        return SavedState(settings.group, settings.me.id, settings.instance, term=0)
    settings.instance = saved.instance
    return saved


class Memory:
    """Reads the parts of a node; `members` are those of its group, as it was last told, with their sender ids."""

    def __init__(
        self,
        saved: SavedState,
        settings: Settings,
        election: Election,
        keyring: Keyring,
        members: Members,
        consumers: Consumers,
    ) -> None:
        self.members = saved.members
        self._group: Group | None = None
        self._settings = settings
        self._election = election
        self._keyring = keyring
        self._members = members
        self._consumers = consumers
        election.term = saved.term

    def state(self, settled: Group | None) -> SavedState:
        """Return what the next process must know; `settled` is the group as it was told with the keys that are held."""
        leads = self._election.role is Role.MASTER
        group = self._members.told if leads else settled
        if group is not None and group is not self._group:
            self._group, self.members = group, leases_of(group.members)
        return SavedState(
            group=self._settings.group,
            node=self._settings.me.id,
            instance=self._settings.instance,
            term=self._election.term,
            ring=self._keyring.saved(self._members.my_key_state() if leads else None),
            members=self.members,
            sent_with=self._consumers.sent_with(),
            consumers=self._consumers.saved(),
        )
