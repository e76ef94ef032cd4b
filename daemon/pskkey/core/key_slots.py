"""The slots of a key ring, one key each, and how a master's key list fills them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Self

from pskkey.model import MAX_EPOCH, MAX_KEY_ENTRIES, Key, KeyEntry, SavedKey, Slot

REKEY_JITTER = 0.1
"""The largest fraction of the rekey interval by which a rekey comes earlier."""


@dataclass(slots=True)
class RingKey:
    """A key in its slot, previous, current or next. `since`: when its time there began (seconds, the node's clock).

    `unused`: our master, or this node as master, has made the key and lets no node send with it yet.
    """

    epoch: int
    key: Key
    slot: Slot
    since: float
    unused: bool = False
    kept_until: float = inf
    """Of a master's previous key: until then the master may restart `since`, because a member sends with the key."""

    @classmethod
    def of(cls, saved: SavedKey) -> Self:
        """Return the slot of a saved key."""
        return cls(saved.epoch, saved.key, saved.slot, saved.since)

    def saved(self) -> SavedKey:
        """Return the key as it is saved."""
        return SavedKey(self.epoch, self.key, self.slot, self.since)

    def grows_old_at(self, interval: float) -> float:
        """Return when to rekey: `interval` seconds after `since`, less up to a tenth, so that groups spread rekeys.

        The fraction comes from the key's random bytes, so a successor computes the same one.
        """
        chance = self.key.server_random[0] / 256
        return self.since + interval * (1 - REKEY_JITTER * chance)

    def is_among(self, entries: Iterable["KeyEntry | RingKey"]) -> bool:
        """Return whether `entries` contain the same key under the same epoch."""
        return any(e.epoch == self.epoch and e.key == self.key for e in entries)


def assign_slots(
    entries: tuple[KeyEntry, ...], held: list[RingKey], now: float, goes_on_with: RingKey | None
) -> list[RingKey]:
    """Return the slots of a key list: entries before the one to send with are previous, entries after it are next.

    Epochs do not decide: after a merge or a wrap the older key may have the higher number. `goes_on_with` is the former
    key that we send with. If the master does not list it, all entries are next. Without a former key only the newest
    entry after the current one is next, and the others are left out.
    """

    def is_sent_with(entry: KeyEntry) -> bool:
        return entry.send if goes_on_with is None else goes_on_with.is_among([entry])

    adopted = []
    slot = Slot.PREVIOUS if any(is_sent_with(e) for e in entries) else Slot.NEXT
    most = 1 if goes_on_with is None else MAX_KEY_ENTRIES
    for entry in entries:
        if is_sent_with(entry):
            slot = Slot.CURRENT
        old = next((e for e in held if e.epoch == entry.epoch and e.key == entry.key), None)
        # Only the master knows whether a member sends with a previous key, so each key state restarts its time.
        is_over = old is None or old.slot is not slot or slot is Slot.PREVIOUS
        since = now if old is None or is_over else old.since
        adopted.append(RingKey(entry.epoch, entry.key, slot, since, entry.unused and slot is Slot.NEXT))
        if slot is Slot.CURRENT:
            slot = Slot.NEXT
    coming = [e for e in adopted if e.slot is Slot.NEXT][-most:]
    return [e for e in adopted if e.slot is not Slot.NEXT or e in coming]


def ring_of(unlisted: Sequence[RingKey], held: Sequence[RingKey]) -> tuple[RingKey, ...]:
    """Return the keys in use, previous, current, next: of those that the master lists (`held`) and of `unlisted`.

    There is room for three keys, one of each epoch. They are chosen in this order: the unlisted key that we send with;
    the master's current and next keys, the newest first; its newest previous key, unless an unlisted previous key has
    that epoch; the unlisted previous keys, the newest first; the master's other previous keys, the newest first.
    """
    own = [e for e in unlisted if e.slot is Slot.CURRENT]
    epochs = {e.epoch for e in own}
    theirs = [e for e in held if e.slot is not Slot.PREVIOUS and e.epoch not in epochs][len(own) - MAX_KEY_ENTRIES :]
    epochs |= {e.epoch for e in theirs}
    beside = [e for e in unlisted if e.slot is Slot.PREVIOUS]
    before = [e for e in held if e.slot is Slot.PREVIOUS]
    left_last = [e for e in before[-1:] if e.epoch not in {other.epoch for other in beside}]
    chosen: list[RingKey] = []
    for entry in (*left_last, *reversed(beside), *reversed(before)):
        if len(epochs) < MAX_KEY_ENTRIES and entry.epoch not in epochs:
            epochs.add(entry.epoch)
            chosen.append(entry)
    return (*(e for e in (*beside, *before) if e in chosen), *own, *theirs)


def is_above(epoch: int, other: int) -> bool:
    """Return whether an epoch comes after another (0: none). Across a wrap, the shorter way round decides."""
    return epoch != 0 and (other == 0 or 0 < (epoch - other) % MAX_EPOCH <= MAX_EPOCH // 2)


def latest(epochs: Iterable[int]) -> int:
    """Return the latest of `epochs` by `is_above`, 0 for none."""
    newest = 0
    for epoch in epochs:
        if is_above(epoch, newest):
            newest = epoch
    return newest
