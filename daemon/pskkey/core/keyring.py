"""The keys of the group: previous, current and next, and when each takes its turn.

Theory of operation
===================

A key is first made known to everybody for reception only (*next*). When all who must have acknowledged it, or after
`activation_deadline`, it becomes the key to send with (*current*), and the one before stays for reception
(*previous*) for `retire_after`, until what was sent with it has arrived; then it is wiped. So at every moment every
member can read what any member sends, and there are never more than three keys.

The master leads: it alone starts a rekey and decides when a key takes its turn. A client follows: it adopts the
master's state as it comes. A state without a key to send with lets a client that came with another key go on sending
with that, its *former* key, under its lease of then (`former_keys`). What it sent with last it keeps for reception.

Epochs rise by one. After 65535 the count starts over at 1 and the term rises, so (term, epoch) always rises.
"""

from collections.abc import Iterable

from pskkey.core.key_slots import KeySlot, assign_slots, latest, ring_of
from pskkey.core.settings import Settings
from pskkey.model import (
    MAX_EPOCH,
    MAX_KEY_ENTRIES,
    HeldKey,
    Key,
    KeyEntry,
    KeyState,
    SavedLease,
    SavedRing,
    Turn,
)

REMEMBERED_EPOCHS = 16
"""How many epochs are not given out again, though their keys are gone: some members may hold those still."""

_NOTHING = SavedRing()


class Keyring:
    """Up to three keys. `version` rises with every change of what a consumer would see."""

    def __init__(self, settings: Settings, saved: SavedRing = _NOTHING) -> None:
        self._settings = settings
        self._held = [KeySlot.of(key) for key in saved.keys]
        self._lease = saved.lease
        self._unlisted = [KeySlot.of(key) for key in saved.unlisted]
        """Keys that the master does not list: one is current if it is our former key, the others are only kept."""
        self._former_lease = saved.former_lease
        """Our lease under the key that we send with, while that is a former key."""
        self._seen: tuple[int, ...] = ()
        """The epochs of the keys that came last, from us or from a master."""
        self.version = 0

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[KeySlot, ...]:
        """Return the keys held, oldest first."""
        return ring_of(self._unlisted, self._held)

    @property
    def current(self) -> KeySlot | None:
        """Return the key to send with."""
        former = next((e for e in self._unlisted if e.turn is Turn.CURRENT), None)
        return former or self._by_turn(Turn.CURRENT)

    @property
    def sends_former_key(self) -> bool:
        """Tell whether we send with the key that we came to our master with."""
        return self._former_lease is not None

    @property
    def next(self) -> KeySlot | None:
        """Return the key that is being distributed; beside a former key none: the master's are all to come."""
        return None if self.sends_former_key else self._by_turn(Turn.NEXT)

    @property
    def newest(self) -> KeySlot | None:
        """Return the key whose turn comes last; after a wrap it has not the highest epoch."""
        return self.entries[-1] if self.entries else None

    @property
    def newest_listed(self) -> KeySlot | None:
        """Return the newest of the keys that our master lists and we hold: an acknowledgement is of that one."""
        return next((e for e in reversed(self.entries) if e in self._held), None)

    @property
    def live_epochs(self) -> frozenset[int]:
        """Return the epochs under which records may still come."""
        return frozenset(e.epoch for e in self.entries)

    def held(self) -> tuple[HeldKey, ...]:
        """Return what JOIN says of our keys."""
        current = self.current
        return tuple(HeldKey(e.epoch, e.key.fingerprint, send=e is current) for e in self.entries)

    def wire_entries(self) -> tuple[KeyEntry, ...]:
        """Return the entries of KEY_STATE, oldest first."""
        current = self.current
        return tuple(KeyEntry(e.epoch, e.key, send=e is current, unused=e.unused) for e in self.entries)

    def state(self) -> KeyState:
        """Return, as a follower, what session managers may have: with a former key goes the lease of then.

        Another sender id under that key could be one that somebody else has sent with.
        """
        lease, former = self._lease, self._former_lease
        if former is not None:
            lease = SavedLease(former.sender_id, lease.senders | former.senders)
        return KeyState(lease.sender_id, lease.senders, self.wire_entries())

    def saved(self, told: KeyState | None) -> SavedRing:
        """Return the ring as the next process can go on with it, which begins as a follower.

        `told` is, while we lead, what our own session managers were told.
        """
        lease = self._lease if told is None else SavedLease(told.sender_id, told.senders)
        unlisted = tuple(e.saved() for e in self._unlisted)
        return SavedRing(tuple(e.saved() for e in self._held), lease, unlisted, self._former_lease)

    def restarted(self, now: float) -> None:
        """Begin at `now` with what was saved; nothing can have had its turn since later than that."""
        for entry in self._all():
            entry.since = min(entry.since, now)

    def _all(self) -> list[KeySlot]:
        return [*self._unlisted, *self._held]

    def _by_turn(self, turn: Turn) -> KeySlot | None:
        return next((e for e in self._held if e.turn is turn), None)

    # --- leading ------------------------------------------------------------------------------------------------

    def lead(self, now: float) -> None:
        """Become the master's keyring: what was held is served on; a key under way gets its deadline anew."""
        current, known = self.current, self._all()
        if current is not None and self.sends_former_key:
            # It is the current key of those whom we lead now. The last master's keys are kept for those who still send
            # with them; they are not ours to send with. The first to go is one with which nobody was to send yet.
            self._held = list(self.entries)
            for entry in (e for e in self._held if e is not current):
                entry.since = now - (1.0 if entry.unused else 0.0)
                entry.turn = Turn.PREVIOUS
            self._held.sort(key=lambda e: e is current)
        else:
            # Of an epoch there is one key: that of those whom we lead now.
            epochs = {e.epoch for e in self._held}
            self._held = list(ring_of([e for e in self._unlisted if e.epoch not in epochs], self._held))
        self._unlisted, self._former_lease = [], None
        self._wipe(known)
        self.version += 1
        if (coming := self.next) is not None:
            coming.since = now
            coming.unused = False  # its maker may have come to send with it
            if self.current is None:
                coming.turn = Turn.CURRENT
        for entry in self._held:
            entry.kept_until = self._kept_until(now)

    def install_fresh(self, key: Key, now: float, above: int = 0) -> bool:
        """Take a generated key: as current if it is the group's first, else as next, in place of one on its way.

        Its epoch is above those of all keys that are held, and `above`. Return whether the epochs began anew with it.
        """
        # Also those of keys that another master had on their way: some members have acknowledged them already.
        taken = {*self.live_epochs, *self._seen}
        if (replaced := self.next) is not None:
            if replaced.unused:  # nobody sends with it, or perhaps its maker, if that is another
                self._drop(replaced)
            else:
                self._held.remove(replaced)
                replaced.turn, replaced.since, replaced.kept_until = Turn.PREVIOUS, now, self._kept_until(now)
                self._held.insert(0, replaced)
        while len(self._held) >= MAX_KEY_ENTRIES:
            self._drop(min((e for e in self._held if e.turn is Turn.PREVIOUS), key=lambda e: e.since))
        before = self.newest.epoch if self.newest else 0
        epoch = latest((*self.live_epochs, above)) % MAX_EPOCH + 1
        while epoch in taken:
            epoch = epoch % MAX_EPOCH + 1
        self._see([epoch])
        turn = Turn.CURRENT if self.current is None else Turn.NEXT
        self._held.append(KeySlot(epoch, key, turn, now, unused=turn is Turn.NEXT))
        self.version += 1
        return epoch < before

    def activate(self, now: float) -> None:
        """Everybody has the next key, or the deadline passed: send with it."""
        coming = self.next
        if coming is None:
            return
        if (current := self._by_turn(Turn.CURRENT)) is not None:
            current.turn, current.since, current.kept_until = Turn.PREVIOUS, now, self._kept_until(now)
        coming.turn, coming.since, coming.unused = Turn.CURRENT, now, False
        self.version += 1

    def keep(self, key: HeldKey, now: float) -> None:
        """Let a key of which the turn is over be kept as if it had just ended: a member still sends with it."""
        for entry in self._held:
            if entry.key.fingerprint == key.fingerprint and entry.turn is Turn.PREVIOUS and now < entry.kept_until:
                entry.since = now

    def _kept_until(self, now: float) -> float:
        """Return until when a key that has its last turn now may be sent with: also a late member may come with it."""
        timing = self._settings.timing
        return now + timing.retire_after + timing.former_key_span

    def lead_tick(self, now: float) -> None:
        """Turn the pages whose time has come, as master."""
        timing = self._settings.timing
        coming = self.next
        if coming is not None and now >= coming.since + timing.activation_deadline:
            self.activate(now)
        self._retire(now)

    def lead_deadline(self) -> float | None:
        """Return when `lead_tick` has something to do."""
        timing = self._settings.timing
        times: list[float] = []
        for entry in self._held:
            if entry.turn is Turn.NEXT:
                times.append(entry.since + timing.activation_deadline)
            elif entry.turn is Turn.PREVIOUS:
                times.append(entry.since + timing.retire_after)
        return min(times, default=None)

    def _retire(self, now: float) -> None:
        for entry in [e for e in self._held if e.turn is Turn.PREVIOUS]:
            if now >= entry.since + self._settings.timing.retire_after:
                self._drop(entry)
                self.version += 1

    def _see(self, epochs: Iterable[int]) -> None:
        fresh = tuple(dict.fromkeys(epoch for epoch in epochs if epoch not in self._seen))
        self._seen = (*self._seen, *fresh)[-REMEMBERED_EPOCHS:]

    def _drop(self, entry: KeySlot) -> None:
        entry.key.pms.wipe()
        self._held.remove(entry)

    # --- following ----------------------------------------------------------------------------------------------

    def follow(self, state: KeyState, now: float) -> None:
        """Cease to lead: `state` is what we told our own session managers until now, and still holds for them."""
        self._lease = SavedLease(state.sender_id, state.senders)
        for entry in self._held:
            if entry.turn is Turn.PREVIOUS:
                entry.since = max(entry.since, now - self._settings.timing.retire_after)

    def adopt(self, state: KeyState, now: float) -> None:
        """Take the master's key state. Without a key to send with, we go on sending with the one that we have."""
        before, known, current = self.state(), self._all(), self.current
        goes_on = current is not None and not any(entry.send for entry in state.entries)
        self._held = assign_slots(state.entries, known, now, current if goes_on else None)
        self._see(e.epoch for e in self._held)
        if goes_on and self._former_lease is None:
            self._former_lease = self._lease
        elif not goes_on:
            self._former_lease = None
        self._lease = SavedLease(state.sender_id, state.senders)
        self._unlisted = self._left_over(known, current, goes_on=goes_on, now=now)
        self._wipe(known)
        if self.state() != before:
            self.version += 1

    def _left_over(self, known: list[KeySlot], current: KeySlot | None, *, goes_on: bool, now: float) -> list[KeySlot]:
        """Return the keys that the master does not list and that are held beside, the most important one last.

        They are those that others may still send with: what was sent with, or was to be, where we come from. What we
        send with ourselves, or have sent with last, is among them.
        """
        kept = [e for e in self._unlisted if e.turn is Turn.PREVIOUS]
        in_use = [e for e in known if e is not current and e.turn is not Turn.PREVIOUS]
        # Another member may have been told already to send with an unused one.
        kept = [KeySlot(e.epoch, e.key, Turn.PREVIOUS, now) for e in in_use if e.unused] + kept
        kept += [KeySlot(e.epoch, e.key, Turn.PREVIOUS, now) for e in in_use if not e.unused]
        if current is not None:
            kept.append(KeySlot(current.epoch, current.key, Turn.CURRENT if goes_on else Turn.PREVIOUS, now))
        return [e for e in kept if not e.is_among(self._held)][-MAX_KEY_ENTRIES:]

    def _wipe(self, known: list[KeySlot]) -> None:
        """Wipe those of the keys that we have `known` that are held no longer."""
        held = [e.key.pms for e in self._all()]
        for entry in known:
            if entry.key.pms not in held:
                entry.key.pms.wipe()

    def follow_tick(self, now: float) -> None:
        """As a follower, retire the keys that we keep. Those that the master lists are retired by the master."""
        known, keep_for = self._all(), self._settings.timing.retire_after
        self._unlisted = [e for e in self._unlisted if e.turn is Turn.CURRENT or now < e.since + keep_for]
        if len(self._all()) < len(known):
            self._wipe(known)
            self.version += 1

    def follow_deadline(self) -> float | None:
        """Return when `follow_tick` has something to do."""
        kept = [e.since for e in self._unlisted if e.turn is Turn.PREVIOUS]
        return min(kept) + self._settings.timing.retire_after if kept else None
