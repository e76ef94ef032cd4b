"""The persisted state of a node: the state that one process of the node leaves to the next one."""

from pskkey.core.expiry import KeyExpiry
from pskkey.core.known_group import KnownGroup
from pskkey.core.session_managers import SessionManagers
from pskkey.core.settings import Settings
from pskkey.model import SavedRing, SavedState


def begin_with(saved: SavedState | None, settings: Settings) -> SavedState:
    """Return the state to begin with: `saved`, if it is of this node and this group, else an empty state.

    A node that goes on with `saved` is the same incarnation. So `settings.incarnation` becomes the saved one.
    """
    if saved is None or (saved.group, saved.node) != (settings.group, settings.me.id):
        return SavedState(settings.group, settings.me.id, settings.incarnation, term=0)
    settings.incarnation = saved.incarnation
    return saved


def saved_by(
    settings: Settings, term: int, ring: SavedRing, known: KnownGroup, managers: SessionManagers, expiry: KeyExpiry
) -> SavedState:
    """Return the state that the next process of a node needs."""
    return SavedState(
        group=settings.group,
        node=settings.me.id,
        incarnation=settings.incarnation,
        term=term,
        ring=ring,
        members=known.leases,
        sent_with=managers.sent_with(),
        managers=managers.saved(),
        without_master_since=expiry.without_master_since,
    )
