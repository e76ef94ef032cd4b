"""What a node takes from an earlier process of it, and leaves for the next one."""

from pskkey.core.consumers import Consumers
from pskkey.core.known_group import KnownGroup
from pskkey.core.settings import Settings
from pskkey.model import SavedRing, SavedState


def begin_with(saved: SavedState | None, settings: Settings) -> SavedState:
    """Return what a node begins with: what was `saved`, unless that was another node's, or one's of another group.

    With the saved memory goes its name, so `settings.instance` becomes that.
    """
    if saved is None or (saved.group, saved.node) != (settings.group, settings.me.id):
        return SavedState(settings.group, settings.me.id, settings.instance, term=0)
    settings.instance = saved.instance
    return saved


def saved_by(settings: Settings, term: int, ring: SavedRing, known: KnownGroup, consumers: Consumers) -> SavedState:
    """Return what the next process of a node must know."""
    return SavedState(
        group=settings.group,
        node=settings.me.id,
        instance=settings.instance,
        term=term,
        ring=ring,
        members=known.leases,
        sent_with=consumers.sent_with(),
        consumers=consumers.saved(),
    )
