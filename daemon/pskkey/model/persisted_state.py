"""The persisted state of a node. The next process of the node begins with it."""

from dataclasses import dataclass

from pskkey.model.keys import Key, Slot


@dataclass(frozen=True, slots=True)
class SavedKey:
    """A key in its slot. `since`: the start of its time there, in seconds since boot."""

    epoch: int
    key: Key
    slot: Slot
    since: float


@dataclass(frozen=True, slots=True)
class SavedLease:
    """The sender id that is leased to a node, None without a lease, and the sender ids in use in its group."""

    sender_id: int | None = None
    senders: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class SavedRing:
    """A key ring. `keys` are the keys that the master lists. `unlisted` are the other keys that the node still uses.

    While the node sends with a former key (`core.former_keys`), `former_lease` is the lease of that key, else None.
    `known_outside`: the fingerprint of the newest key if a node that has left knows it (`core.departures`), else empty.
    """

    keys: tuple[SavedKey, ...] = ()
    lease: SavedLease = SavedLease()
    unlisted: tuple[SavedKey, ...] = ()
    former_lease: SavedLease | None = None
    known_outside: str = ""


@dataclass(frozen=True, slots=True)
class SavedManager:
    """A session manager: its sequence context, whether it asked to send, and whether it acknowledges keys."""

    context: int
    asked_to_send: bool
    acknowledges: bool


@dataclass(frozen=True, slots=True)
class SavedState:
    """The state of a node that its next process needs.

    It is saved before the node sends any message that depends on it. So other nodes never know a newer state.
    `members` are the nodes of the last announced group, with their sender ids. `sent_with` has, by fingerprint of a
    key, the sequence context that may send with the key; 0 stands for no context. `without_master_since`: when the time
    without a master began (`core.expiry`), in seconds since boot; None: it has not begun.
    """

    group: str
    node: str
    incarnation: str
    term: int
    ring: SavedRing = SavedRing()
    members: tuple[tuple[str, int | None], ...] = ()
    sent_with: tuple[tuple[str, int], ...] = ()
    managers: tuple[SavedManager, ...] = ()
    without_master_since: float | None = None
