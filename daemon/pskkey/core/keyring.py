"""The key ring of a node: its previous, current and next keys, and when a key moves to its next slot.

Theory of operation
===================

1. The master distributes a new key for reception only. This is the *next* key.
2. The next key becomes the *current* key, the one to send with, when all members and session managers that the master
   waits for have acknowledged it, or after `activation_deadline`. So a member that installs keys in time can read what
   every member sends.
3. The key that was current becomes the *previous* key. It stays for reception for `retire_after`, until all records
   have arrived, and longer while a member sends with it. Then it is wiped.
4. A node uses at most three keys.
5. The master alone starts a rekey and moves keys. A member adopts the master's key state.
6. A key state without a key to send with lets a member go on sending with the key that it came with, its *former key*,
   under the lease of that key (`former_keys`). Afterwards that key stays for reception. So do the previous keys of its
   last master, for `retire_after`: nodes that the member came with may still send with them.
7. A new key has the epoch after the latest known one. After 65535 comes 1, with a higher term, so (term, epoch) always
   rises.
"""

from collections.abc import Iterable

from pskkey.core.key_slots import RingKey, assign_slots, latest, ring_of
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
    Slot,
)

REMEMBERED_EPOCHS = 16
"""How many of the latest epochs no new key gets: members may still have keys that we have wiped."""

_NOTHING = SavedRing()


class Keyring:
    """The keys of a node. `version` rises with every change that a session manager must see."""

    def __init__(self, settings: Settings, saved: SavedRing = _NOTHING) -> None:
        self._settings = settings
        self._held = [RingKey.of(key) for key in saved.keys]
        self._lease = saved.lease
        self._unlisted = [RingKey.of(key) for key in saved.unlisted]
        """Keys that the master does not list: our former key (current), and keys for reception (previous)."""
        self._former_lease = saved.former_lease
        """Our lease under the former key that we send with, None without one."""
        self._seen: tuple[int, ...] = ()
        """The epochs of the latest keys, made by us or received from a master."""
        self._see(entry.epoch for entry in self._all())
        self.version = 0

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[RingKey, ...]:
        """Return the keys in use, at most three, in the order previous, current, next."""
        return ring_of(self._unlisted, self._held)

    @property
    def current(self) -> RingKey | None:
        """Return the key to send with."""
        former = next((e for e in self._unlisted if e.slot is Slot.CURRENT), None)
        return former or self._in_slot(Slot.CURRENT)

    @property
    def sends_former_key(self) -> bool:
        """Return whether we send with a former key, the key that we came to our master with."""
        return self._former_lease is not None

    @property
    def next(self) -> RingKey | None:
        """Return the key that is being distributed; None while we send with a former key."""
        return None if self.sends_former_key else self._in_slot(Slot.NEXT)

    @property
    def newest(self) -> RingKey | None:
        """Return the key that becomes current last. After a wrap its epoch is not the highest number."""
        return self.entries[-1] if self.entries else None

    @property
    def newest_listed(self) -> RingKey | None:
        """Return the newest key in use that our master lists: the key to acknowledge."""
        return next((e for e in reversed(self.entries) if e in self._held), None)

    @property
    def live_epochs(self) -> frozenset[int]:
        """Return the epochs under which records may still arrive."""
        return frozenset(e.epoch for e in self.entries)

    def held(self) -> tuple[HeldKey, ...]:
        """Return our keys as JOIN lists them."""
        current = self.current
        return tuple(HeldKey(e.epoch, e.key.fingerprint, send=e is current) for e in self.entries)

    def wire_entries(self) -> tuple[KeyEntry, ...]:
        """Return the entries of KEY_STATE: previous, current, next."""
        current = self.current
        return tuple(KeyEntry(e.epoch, e.key, send=e is current, unused=e.unused) for e in self.entries)

    def state(self) -> KeyState:
        """Return a follower's key state for its session managers. A former key goes with the lease of that key.

        Under that key another node may have sent with the sender id of the new lease.
        """
        lease, former = self._lease, self._former_lease
        if former is not None:
            lease = SavedLease(former.sender_id, lease.senders | former.senders)
        return KeyState(lease.sender_id, lease.senders, self.wire_entries())

    def saved(self, told: KeyState | None) -> SavedRing:
        """Return the ring to save for the next process, which begins as a follower.

        `told`: while we lead, the key state for our own session managers; else None.
        """
        lease = self._lease if told is None else SavedLease(told.sender_id, told.senders)
        unlisted = tuple(e.saved() for e in self._unlisted)
        return SavedRing(tuple(e.saved() for e in self._held), lease, unlisted, self._former_lease)

    def restart(self, now: float) -> None:
        """Begin at `now` with the saved keys. No slot may date from the future."""
        for entry in self._all():
            entry.since = min(entry.since, now)

    def _all(self) -> list[RingKey]:
        return [*self._unlisted, *self._held]

    def _in_slot(self, slot: Slot) -> RingKey | None:
        return next((e for e in self._held if e.slot is slot), None)

    # --- leading ------------------------------------------------------------------------------------------------

    def lead(self, now: float) -> None:
        """Begin to lead with our keys. The next key gets a new deadline; without a current key it becomes current."""
        current, known = self.current, self._all()
        if current is not None and self.sends_former_key:
            # Our former key is the current key of the partition that we lead now. Members may still send with the last
            # master's keys, so these stay for reception. An unused one is dropped first.
            self._held = list(self.entries)
            for entry in (e for e in self._held if e is not current):
                entry.since = now - (1.0 if entry.unused else 0.0)
                entry.slot, entry.unused = Slot.PREVIOUS, False  # the last master may have activated it
            self._held.sort(key=lambda e: e is current)
        else:
            # An epoch has one key: the listed one, which the members that we lead have.
            epochs = {e.epoch for e in self._held}
            self._held = list(ring_of([e for e in self._unlisted if e.epoch not in epochs], self._held))
        self._unlisted, self._former_lease = [], None
        self._wipe(known)
        self.version += 1
        if (coming := self.next) is not None:
            coming.since = now
            coming.unused = False  # the last master may have activated it
            if self.current is None:
                coming.slot = Slot.CURRENT
        for entry in self._held:
            entry.kept_until = self._kept_until(now)

    def install_fresh(self, key: Key, now: float, above: int = 0) -> bool:
        """Add a generated key: as current if there is no current key, else as next, in place of an earlier next key.

        Its epoch is above those of all keys in use and above `above`. Return whether the epochs wrapped.
        """
        # Some members may have acknowledged a next key that another master was distributing.
        taken = {*self.live_epochs, *self._seen}
        if (replaced := self.next) is not None:
            if replaced.unused:  # we made it, and nobody sends with it
                self._drop(replaced)
            else:
                self._held.remove(replaced)
                replaced.slot, replaced.since, replaced.kept_until = Slot.PREVIOUS, now, self._kept_until(now)
                self._held.insert(0, replaced)
        while len(self._held) >= MAX_KEY_ENTRIES:
            self._drop(min((e for e in self._held if e.slot is Slot.PREVIOUS), key=lambda e: e.since))
        before = self.newest.epoch if self.newest else 0
        epoch = latest((*self.live_epochs, above)) % MAX_EPOCH + 1
        while epoch in taken:
            epoch = epoch % MAX_EPOCH + 1
        self._see([epoch])
        slot = Slot.CURRENT if self.current is None else Slot.NEXT
        self._held.append(RingKey(epoch, key, slot, now, unused=slot is Slot.NEXT))
        self.version += 1
        return epoch < before

    def activate(self, now: float) -> None:
        """Make the next key current, and the current key previous. Without a next key do nothing."""
        coming = self.next
        if coming is None:
            return
        if (current := self._in_slot(Slot.CURRENT)) is not None:
            current.slot, current.since, current.kept_until = Slot.PREVIOUS, now, self._kept_until(now)
        coming.slot, coming.since, coming.unused = Slot.CURRENT, now, False
        self.version += 1

    def keep(self, key: HeldKey, now: float) -> None:
        """Restart `retire_after` of a previous key that a member still sends with, until `kept_until` at the latest."""
        for entry in self._held:
            if entry.key.fingerprint == key.fingerprint and entry.slot is Slot.PREVIOUS and now < entry.kept_until:
                entry.since = now

    def _kept_until(self, now: float) -> float:
        """Return until when `keep` may prolong a key that becomes previous now: a late member may come with it."""
        timing = self._settings.timing
        return now + timing.retire_after + timing.former_key_span

    def lead_tick(self, now: float) -> None:
        """As master, activate the next key and retire previous keys whose time has come."""
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
            if entry.slot is Slot.NEXT:
                times.append(entry.since + timing.activation_deadline)
            elif entry.slot is Slot.PREVIOUS:
                times.append(entry.since + timing.retire_after)
        return min(times, default=None)

    def _retire(self, now: float) -> None:
        for entry in [e for e in self._held if e.slot is Slot.PREVIOUS]:
            if now >= entry.since + self._settings.timing.retire_after:
                self._drop(entry)
                self.version += 1

    def _see(self, epochs: Iterable[int]) -> None:
        fresh = tuple(dict.fromkeys(epoch for epoch in epochs if epoch not in self._seen))
        self._seen = (*self._seen, *fresh)[-REMEMBERED_EPOCHS:]

    def _drop(self, entry: RingKey) -> None:
        entry.key.pms.wipe()
        self._held.remove(entry)

    # --- following ----------------------------------------------------------------------------------------------

    def follow(self, state: KeyState, now: float) -> None:
        """Cease to lead. Keep the lease of `state`, which our session managers have."""
        self._lease = SavedLease(state.sender_id, state.senders)
        for entry in self._held:
            if entry.slot is Slot.PREVIOUS:
                entry.since = max(entry.since, now - self._settings.timing.retire_after)

    def adopt(self, state: KeyState, now: float) -> None:
        """Adopt the master's key state. If it lists no key to send with, go on sending with our current key."""
        before, known, current = self.state(), self._all(), self.current
        goes_on = current is not None and not any(entry.send for entry in state.entries)
        self._held = assign_slots(state.entries, known, now, current if goes_on else None)
        # A master retires no previous key of another master: it leaves out keys that it has never had.
        is_others = goes_on or (current is not None and not current.is_among(self._held))
        previous = known if is_others and self._former_lease is None else self._unlisted
        kept = [e for e in previous if e.slot is Slot.PREVIOUS]
        self._see(e.epoch for e in self._held)
        if goes_on and self._former_lease is None:
            self._former_lease = self._lease
        elif not goes_on:
            self._former_lease = None
        self._lease = SavedLease(state.sender_id, state.senders)
        self._unlisted = self._left_over(kept, known, current, goes_on=goes_on, now=now)
        self._wipe(known)
        if self.state() != before:
            self.version += 1

    def _left_over(
        self, previous: list[RingKey], known: list[RingKey], current: RingKey | None, *, goes_on: bool, now: float
    ) -> list[RingKey]:
        """Return the keys to keep that the master does not list, the most important one last.

        Other nodes may still send with them. The last one is our former key, or the key that we sent with last.
        """
        in_use = [e for e in known if e is not current and e.slot is not Slot.PREVIOUS]
        # The last master may have activated an unused key for other members.
        kept = [RingKey(e.epoch, e.key, Slot.PREVIOUS, now) for e in in_use if e.unused] + previous
        kept += [RingKey(e.epoch, e.key, Slot.PREVIOUS, now) for e in in_use if not e.unused]
        if current is not None:
            kept.append(RingKey(current.epoch, current.key, Slot.CURRENT if goes_on else Slot.PREVIOUS, now))
        return [e for e in kept if not e.is_among(self._held)][-MAX_KEY_ENTRIES:]

    def _wipe(self, known: list[RingKey]) -> None:
        """Wipe the keys of `known` that no slot has any more."""
        held = [e.key.pms for e in self._all()]
        for entry in known:
            if entry.key.pms not in held:
                entry.key.pms.wipe()

    def follow_tick(self, now: float) -> None:
        """As a follower, retire the keys that the master does not list. The master retires its own."""
        known, keep_for = self._all(), self._settings.timing.retire_after
        self._unlisted = [e for e in self._unlisted if e.slot is Slot.CURRENT or now < e.since + keep_for]
        if len(self._all()) < len(known):
            self._wipe(known)
            self.version += 1

    def follow_deadline(self) -> float | None:
        """Return when `follow_tick` has something to do."""
        kept = [e.since for e in self._unlisted if e.slot is Slot.PREVIOUS]
        return min(kept) + self._settings.timing.retire_after if kept else None
