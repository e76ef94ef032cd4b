"""The persisted state of a node: what its next process begins with."""

from dataclasses import dataclass

from pskkey.model.keys import Key, Slot


@dataclass(frozen=True, slots=True)
class SavedKey:
    """A held key, and `since` when it has its turn, in seconds since boot."""

    epoch: int
    key: Key
    slot: Slot
    since: float


@dataclass(frozen=True, slots=True)
class SavedLease:
    """The sender id that is granted to a node, None if there is none, and those in use in its group."""

    sender_id: int | None = None
    senders: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SavedRing:
    """A key ring. `unlisted` are keys that the node has from elsewhere than from its master, the one to send with among
    them if it sends with its former key; `former_lease` is the lease that goes with that one.
    """

    keys: tuple[SavedKey, ...] = ()
    lease: SavedLease = SavedLease()
    unlisted: tuple[SavedKey, ...] = ()
    former_lease: SavedLease | None = None


@dataclass(frozen=True, slots=True)
class SavedManager:
    """A session manager that was attached, by its memory: whether it asked to send, and whether it acknowledges."""

    context: int
    asked_to_send: bool
    acknowledges: bool


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a node must still know when its process has ended and another goes on in its place.

    It is saved before anybody is told of what it says, so what others know of us is never newer. `members` are the
    nodes of the group as it was last told, with their sender ids; `sent_with` has the memory that was told to send
    with a key, by the key's fingerprint; 0 is nobody's.
    """

    group: str
    node: str
    incarnation: str
    term: int
    ring: SavedRing = SavedRing()
    members: tuple[tuple[str, int | None], ...] = ()
    sent_with: tuple[tuple[str, int], ...] = ()
    managers: tuple[SavedManager, ...] = ()
