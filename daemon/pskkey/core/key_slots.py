"""The slots of a key ring: one key each, and how the slots follow from what a master lists."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Self

from pskkey.model import MAX_EPOCH, MAX_KEY_ENTRIES, Key, KeyEntry, SavedKey, Turn

REKEY_JITTER = 0.1
"""By how much of the rekey interval a key may be rolled earlier, at most."""


@dataclass(slots=True)
class KeySlot:
    """A key that we hold: `since` when it took its turn, previous, current or next (seconds, the node's clock).

    `unused`: its maker is our master, or we are, and has not yet let anybody send with it.
    """

    epoch: int
    key: Key
    turn: Turn
    since: float
    unused: bool = False
    kept_until: float = inf
    """As a master's previous key: until then at most, whoever says that it still sends with it."""

    @classmethod
    def of(cls, saved: SavedKey) -> Self:
        """Return a key that was saved."""
        return cls(saved.epoch, saved.key, saved.turn, saved.since)

    def saved(self) -> SavedKey:
        """Return what is to be saved of it."""
        return SavedKey(self.epoch, self.key, self.turn, self.since)

    def grows_old_at(self, interval: float) -> float:
        """Return when the `interval` is over: up to a tenth earlier, by chance, so that groups do not roll in step.

        The chance is the key's own, so that it is the same whenever this is asked, also of a successor.
        """
        chance = self.key.server_random[0] / 256
        return self.since + interval * (1 - REKEY_JITTER * chance)

    def is_among(self, entries: Iterable["KeyEntry | KeySlot"]) -> bool:
        """Tell whether the same key, under the same epoch, is one of `entries`."""
        return any(e.epoch == self.epoch and e.key == self.key for e in entries)


def assign_slots(
    entries: tuple[KeyEntry, ...], held: list[KeySlot], now: float, goes_on_with: KeySlot | None
) -> list[KeySlot]:
    """Give each key its turn by its place: what stands before the one to send with was, what stands after comes.

    Not by its epoch: after a merge or a wrap the older key may have the higher number. `goes_on_with` is the key that
    is sent with although the master does not say so. It need not be listed; then all that is listed comes after it.
    Otherwise one key at most comes after the one to send with, the newest, whatever a master lists.
    """

    def is_sent_with(entry: KeyEntry) -> bool:
        return entry.send if goes_on_with is None else goes_on_with.is_among([entry])

    adopted = []
    turn = Turn.PREVIOUS if any(is_sent_with(e) for e in entries) else Turn.NEXT
    most = 1 if goes_on_with is None else MAX_KEY_ENTRIES
    for entry in entries:
        if is_sent_with(entry):
            turn = Turn.CURRENT
        old = next((e for e in held if e.epoch == entry.epoch and e.key == entry.key), None)
        # A previous key begins its time anew: only the master knows whether somebody sends with it.
        is_over = old is None or old.turn is not turn or turn is Turn.PREVIOUS
        since = now if old is None or is_over else old.since
        adopted.append(KeySlot(entry.epoch, entry.key, turn, since, entry.unused and turn is Turn.NEXT))
        if turn is Turn.CURRENT:
            turn = Turn.NEXT
    coming = [e for e in adopted if e.turn is Turn.NEXT][-most:]
    return [e for e in adopted if e.turn is not Turn.NEXT or e in coming]


def ring_of(unlisted: Sequence[KeySlot], held: Sequence[KeySlot]) -> tuple[KeySlot, ...]:
    """Return the keys of a ring in the order of their turns: those `held`, and those that its master does not list.

    There is room for three, and for one of each epoch. First come the keys in use, the one that we send with before all
    others; then the last one of the master's that was in use, if none that it does not list has its epoch; then those
    that it does not list, and its others, the latest first.
    """
    own = [e for e in unlisted if e.turn is Turn.CURRENT]
    epochs = {e.epoch for e in own}
    theirs = [e for e in held if e.turn is not Turn.PREVIOUS and e.epoch not in epochs][len(own) - MAX_KEY_ENTRIES :]
    epochs |= {e.epoch for e in theirs}
    beside = [e for e in unlisted if e.turn is Turn.PREVIOUS]
    before = [e for e in held if e.turn is Turn.PREVIOUS]
    left_last = [e for e in before[-1:] if e.epoch not in {other.epoch for other in beside}]
    chosen: list[KeySlot] = []
    for entry in (*left_last, *reversed(beside), *reversed(before)):
        if len(epochs) < MAX_KEY_ENTRIES and entry.epoch not in epochs:
            epochs.add(entry.epoch)
            chosen.append(entry)
    return (*(e for e in (*beside, *before) if e in chosen), *own, *theirs)


def is_above(epoch: int, other: int) -> bool:
    """Tell whether an epoch comes after another (0: none), be it after a wrap: by the shorter way round."""
    return epoch != 0 and (other == 0 or 0 < (epoch - other) % MAX_EPOCH <= MAX_EPOCH // 2)


def latest(epochs: Iterable[int]) -> int:
    """Return the epoch above which nobody's is, 0 for none."""
    newest = 0
    for epoch in epochs:
        if is_above(epoch, newest):
            newest = epoch
    return newest
