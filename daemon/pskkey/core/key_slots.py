"""The slots of a key ring, and how a key list of the master fills them.

A *key ring* is the set of keys that a node uses. Each key has an *epoch*, which is its number, and is in a *slot*. The
*current* key is the key to send with. A *previous* key was current before. A *next* key becomes current later. A node
only receives with its previous and next keys.

The master sends its key list in KEY_STATE. A *listed* key is in this list. An *unlisted* key is not in this list, but
the node still uses it. The *former key* of a member is the key that it brought from another partition, while the member
still sends with that key (`former_keys`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Self

from pskkey.model import MAX_EPOCH, MAX_KEY_ENTRIES, Key, KeyEntry, SavedKey, Slot

REKEY_JITTER = 0.1
"""The largest fraction of the rekey interval by which a rekey comes earlier."""


@dataclass(slots=True)
class RingKey:
    """A key in its slot. Times are in seconds, by the node's clock."""

    epoch: int
    key: Key
    slot: Slot
    since: float
    """The start of the key's time in its slot. For a current key: when the group began to send with it, as GROUP states
    it. Any node of the group may be the next master, which rekeys by this time."""
    unused: bool = False
    """Whether it is certain that no node sends with this next key yet."""
    kept_until: float = inf
    """As master, for a previous key: until then `since` may restart, because a member still sends with the key."""

    @classmethod
    def of(cls, saved: SavedKey) -> Self:
        """Return a saved key in its slot."""
        return cls(saved.epoch, saved.key, saved.slot, saved.since)

    def saved(self) -> SavedKey:
        """Return the key as the persisted state has it."""
        return SavedKey(self.epoch, self.key, self.slot, self.since)

    def rekey_due_at(self, interval: float) -> float:
        """Return when to replace this key: `interval` seconds after `since`, less up to REKEY_JITTER of the interval.

        Without this reduction, many groups could rekey at the same time. It depends on the random bytes of the key, so
        each master of the group computes the same reduction.
        """
        fraction = self.key.server_random[0] / 256
        return self.since + interval * (1 - REKEY_JITTER * fraction)

    def is_among(self, entries: Iterable["KeyEntry | RingKey"]) -> bool:
        """Return whether `entries` contain the same key under the same epoch."""
        return any(e.epoch == self.epoch and e.key == self.key for e in entries)


def assign_slots(
    entries: tuple[KeyEntry, ...], known: list[RingKey], now: float, former: RingKey | None
) -> list[RingKey]:
    """Return the listed keys, `entries`, in their slots. `known` are the keys that the node has already.

    `former` is the former key; None if the node sends with a listed key. The order of the list decides:

    1. The current key is the entry to send with, or the entry of the former key if there is one.
    2. The entries before the current key are previous keys. The entries after it are next keys.
    3. Without a current key all entries are next keys.
    4. If there is no former key, only the last next key stays. The other next keys are left out.

    Epochs do not decide: after a merge of two groups, or after the highest epoch, an older key may have a higher epoch.
    """

    def is_current(entry: KeyEntry) -> bool:
        return entry.send if former is None else former.is_among([entry])

    assigned = []
    slot = Slot.PREVIOUS if any(is_current(e) for e in entries) else Slot.NEXT
    max_next = 1 if former is None else MAX_KEY_ENTRIES
    for entry in entries:
        if is_current(entry):
            slot = Slot.CURRENT
        old = next((e for e in known if e.epoch == entry.epoch and e.key == entry.key), None)
        # Only the master knows how long a previous key is needed, so each key list restarts the time of that key.
        restarts = old is None or old.slot is not slot or slot is Slot.PREVIOUS
        since = now if old is None or restarts else old.since
        assigned.append(RingKey(entry.epoch, entry.key, slot, since, entry.unused and slot is Slot.NEXT))
        if slot is Slot.CURRENT:
            slot = Slot.NEXT
    next_keys = [e for e in assigned if e.slot is Slot.NEXT][-max_next:]
    return [e for e in assigned if e.slot is not Slot.NEXT or e in next_keys]


def ring_of(unlisted: Sequence[RingKey], listed: Sequence[RingKey]) -> tuple[RingKey, ...]:
    """Return the keys that a node uses, in the order previous, current, next.

    A node uses at most MAX_KEY_ENTRIES keys, and no two keys of one epoch. The keys are chosen in this order:

    1. the former key, if it is unlisted,
    2. the listed current and next keys, from the last to the first,
    3. the last listed previous key, unless an unlisted previous key has its epoch,
    4. the unlisted previous keys, from the last to the first,
    5. the other listed previous keys, from the last to the first.
    """
    former = [e for e in unlisted if e.slot is Slot.CURRENT]
    epochs = {e.epoch for e in former}
    room = MAX_KEY_ENTRIES - len(former)
    current_and_next = [e for e in listed if e.slot is not Slot.PREVIOUS and e.epoch not in epochs][-room:]
    epochs |= {e.epoch for e in current_and_next}
    unlisted_previous = [e for e in unlisted if e.slot is Slot.PREVIOUS]
    listed_previous = [e for e in listed if e.slot is Slot.PREVIOUS]
    last_listed = [e for e in listed_previous[-1:] if e.epoch not in {other.epoch for other in unlisted_previous}]
    chosen: list[RingKey] = []
    for entry in (*last_listed, *reversed(unlisted_previous), *reversed(listed_previous)):
        if len(epochs) < MAX_KEY_ENTRIES and entry.epoch not in epochs:
            epochs.add(entry.epoch)
            chosen.append(entry)
    previous = (e for e in (*unlisted_previous, *listed_previous) if e in chosen)
    return (*previous, *former, *current_and_next)


def is_above(epoch: int, other: int) -> bool:
    """Return whether `epoch` is later than `other`. 0 stands for no epoch, and every epoch is later than 0.

    Epochs form a circle, because 1 comes after MAX_EPOCH. An epoch is later than another one if it is at most half a
    circle ahead of it.
    """
    return epoch != 0 and (other == 0 or 0 < (epoch - other) % MAX_EPOCH <= MAX_EPOCH // 2)


def latest_ahead_of(current: int, epochs: Iterable[int]) -> int:
    """Return the epoch that is the farthest ahead of `current`, at most half a circle; `current` if none is ahead.

    Three epochs can be spread over the whole circle. So the result must not depend on their order, as with `latest`.
    """
    ahead = [epoch for epoch in epochs if is_above(epoch, current)]
    return max(ahead, key=lambda epoch: (epoch - current) % MAX_EPOCH, default=current)


def latest(epochs: Iterable[int]) -> int:
    """Return the latest of `epochs` by `is_above`, 0 for none."""
    newest = 0
    for epoch in epochs:
        if is_above(epoch, newest):
            newest = epoch
    return newest
