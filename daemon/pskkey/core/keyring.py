"""The keys of the group: previous, current and next, and when each takes its turn.

Theory of operation
===================

A key is first made known to everybody for reception only (*next*). When all who must have acknowledged it, or after
`activation_deadline`, it becomes the key to send with (*current*), and the one before stays for reception
(*previous*) for `retire_after`, until what was sent with it has arrived; then it is wiped. So at every moment every
member can read what any member sends, and there are never more than three keys.

The master leads: it alone starts a rekey and turns its pages. A client follows: it adopts the master's state as it
comes. One thing a follower does by itself: when it comes from the other half of a split, it goes on sending with the
key of its own half for a while (`own_half`).

Epochs rise by one. After 65535 the count starts over at 1 and the term rises, so (term, epoch) always rises.
"""

from collections.abc import Iterable

from pskkey.core.held import HeldEntry, beside, by_place, is_above, latest
from pskkey.core.own_half import OwnHalf
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
        self._held = [HeldEntry.of(key) for key in saved.keys]
        self._half = OwnHalf(settings, saved)
        self._lease = saved.lease
        self._wanted = False
        self._generating = False
        self._roll_above = 0
        self._seen: tuple[int, ...] = ()
        """The epochs of the keys that came last, from us or from a master."""
        self._last_roll = float("-inf")
        self.version = 0

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[HeldEntry, ...]:
        """Return the keys held, oldest first."""
        return tuple(self._held) if self._half.entry is None else beside(self._half.entry, self._held)

    @property
    def current(self) -> HeldEntry | None:
        """Return the key to send with."""
        return self._half.in_use or self._by_turn(Turn.CURRENT)

    @property
    def is_apart(self) -> bool:
        """Tell whether we still send with the key of our own half, which the master did not give us."""
        return self._half.in_use is not None

    @property
    def next(self) -> HeldEntry | None:
        """Return the key that is being distributed."""
        return self._by_turn(Turn.NEXT)

    @property
    def newest(self) -> HeldEntry | None:
        """Return the key whose turn comes last; after a wrap it has not the highest epoch."""
        return self.entries[-1] if self.entries else None

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
        """Return, as a follower, what session managers may have: with our own half's key goes our own half's lease.

        Another sender id under the old key could be one that somebody else has sent with.
        """
        lease, own = self._lease, self._half.lease
        if self.is_apart:
            lease = SavedLease(own.sender_id, lease.senders | own.senders)
        return KeyState(lease.sender_id, lease.senders, self.wire_entries())

    def saved(self, told: KeyState | None) -> SavedRing:
        """Return the ring as the next process can go on with it, which begins as a follower.

        `told` is, while we lead, what our own session managers were told.
        """
        lease = self._lease if told is None else SavedLease(told.sender_id, told.senders)
        half = self._half
        own = half.entry.saved() if half.entry else None
        return SavedRing(tuple(e.saved() for e in self._held), lease, own, half.lease, half.until_above)

    def restarted(self, now: float) -> None:
        """Begin at `now` with what was saved; nothing can have had its turn since later than that."""
        for entry in (*self._held, *filter(None, [self._half.entry])):
            entry.since = min(entry.since, now)
        if (own := self._half.in_use) is not None:
            own.since = now  # its own half may be away just as long as we were

    def _by_turn(self, turn: Turn) -> HeldEntry | None:
        return next((e for e in self._held if e.turn is turn), None)

    # --- leading ------------------------------------------------------------------------------------------------

    def lead(self, now: float) -> None:
        """Become the master's keyring: what was held is served on; a key under way gets its deadline anew."""
        own, self._half.entry = self._half.entry, None
        if own is not None and own.turn is Turn.CURRENT:
            # We come to lead while our half's own key was still in use: it simply stays the current one. The newest of
            # the other half's keys are kept for those who still send with them; they cannot be ours to send with. The
            # first to go is one that was still on its way, for nobody may have come to send with it.
            theirs = [e for e in self._held if e.epoch != own.epoch][1 - MAX_KEY_ENTRIES :]
            for entry in theirs:
                entry.since = now - (1.0 if entry.turn is Turn.NEXT else 0.0)
                entry.turn = Turn.PREVIOUS
            self._held = [*theirs, own]
            self._roll_above = latest((self._roll_above, *(e.epoch for e in self._held)))
            self.version += 1
        elif own is not None and not any(e.epoch == own.epoch for e in self._held):
            self._held = list(beside(own, self._held))
        elif own is not None:
            own.key.pms.wipe()  # of an epoch there is one key: that of those whom we lead now
            self.version += 1
        if (coming := self.next) is not None:
            coming.since = now
            coming.unused = False  # its maker may have come to send with it
        self._wanted = self._wanted or self.current is None
        self._generating = False

    def roll(self, above: int = 0) -> None:
        """Ask for a fresh key, with an epoch above `above`. Requests that come while one is under way are one."""
        self._roll_above = latest((self._roll_above, above))
        coming = self.next
        if coming is None or not is_above(coming.epoch, self._roll_above):
            self._wanted = True

    def wants_key(self, now: float) -> bool:
        """Tell, once, that a fresh key must be generated now."""
        if not self._wanted or self._generating or now < self._earliest_roll():
            return False
        self._generating = True
        return True

    def install_fresh(self, key: Key, now: float) -> bool:
        """Take the generated key: as current if it is the group's first, else as next. True: epochs wrapped."""
        self._wanted = self._generating = False
        # Also those of keys that were replaced before their turn: some members have acknowledged them already.
        taken = {*self.live_epochs, *self._seen}
        if (replaced := self.next) is not None:
            self._replace(replaced, now)
        while len(self._held) >= MAX_KEY_ENTRIES:
            self._drop(min((e for e in self._held if e.turn is Turn.PREVIOUS), key=lambda e: e.since))
        before = self.newest.epoch if self.newest else 0
        epoch = latest((before, self._roll_above)) % MAX_EPOCH + 1
        while epoch in taken:
            epoch = epoch % MAX_EPOCH + 1
        self._see([epoch])
        self._roll_above = 0
        self._last_roll = now
        turn = Turn.CURRENT if self.current is None else Turn.NEXT
        self._held.append(HeldEntry(epoch, key, turn, now, unused=turn is Turn.NEXT))
        self.version += 1
        return epoch < before

    def activate(self, now: float) -> None:
        """Everybody has the next key, or the deadline passed: send with it."""
        coming = self.next
        if coming is None:
            return
        if (current := self._by_turn(Turn.CURRENT)) is not None:
            current.turn, current.since = Turn.PREVIOUS, now
        coming.turn, coming.since, coming.unused = Turn.CURRENT, now, False
        self.version += 1

    def keep(self, epoch: int, now: float) -> None:
        """Let a key of which the turn is over be kept as if it had just ended: a member still sends with it."""
        for entry in self._held:
            if entry.epoch == epoch and entry.turn is Turn.PREVIOUS:
                entry.since = now

    def lead_tick(self, now: float) -> None:
        """Turn the pages whose time has come, as master."""
        timing = self._settings.timing
        coming = self.next
        if coming is not None and now >= coming.since + timing.activation_deadline:
            self.activate(now)
        self._retire(now)
        current = self._by_turn(Turn.CURRENT)
        if (
            timing.rekey_interval
            and current
            and self.next is None
            and now >= current.grows_old_at(timing.rekey_interval)
        ):
            self._wanted = True

    def lead_deadline(self) -> float | None:
        """Return when `lead_tick` or `wants_key` has something to do."""
        timing = self._settings.timing
        times: list[float] = []
        for entry in self._held:
            if entry.turn is Turn.NEXT:
                times.append(entry.since + timing.activation_deadline)
            elif entry.turn is Turn.PREVIOUS:
                times.append(entry.since + timing.retire_after)
            elif timing.rekey_interval and self.next is None:
                times.append(entry.grows_old_at(timing.rekey_interval))
        if self._wanted and not self._generating:
            times.append(self._earliest_roll())
        return min(times, default=None)

    def _earliest_roll(self) -> float:
        return self._last_roll + self._settings.timing.rekey_spacing

    def _retire(self, now: float) -> None:
        for entry in [e for e in self._held if e.turn is Turn.PREVIOUS]:
            if now >= entry.since + self._settings.timing.retire_after:
                self._drop(entry)
                self.version += 1

    def _replace(self, coming: HeldEntry, now: float) -> None:
        """Let the next key never have its turn. Nobody sends with it, but perhaps its maker, if that is another."""
        if coming.unused:
            self._drop(coming)
            return
        self._held.remove(coming)
        coming.turn, coming.since = Turn.PREVIOUS, now
        self._held.insert(0, coming)

    def _see(self, epochs: Iterable[int]) -> None:
        fresh = tuple(dict.fromkeys(epoch for epoch in epochs if epoch not in self._seen))
        self._seen = (*self._seen, *fresh)[-REMEMBERED_EPOCHS:]

    def _drop(self, entry: HeldEntry) -> None:
        entry.key.pms.wipe()
        self._held.remove(entry)

    # --- following ----------------------------------------------------------------------------------------------

    def follow(self, state: KeyState, now: float) -> None:
        """Cease to lead: `state` is what we told our own session managers until now, and still holds for them."""
        self._lease = SavedLease(state.sender_id, state.senders)
        self._wanted = self._generating = False
        for entry in self._held:
            if entry.turn is Turn.PREVIOUS:
                entry.since = max(entry.since, now - self._settings.timing.retire_after)

    def adopt(self, state: KeyState, now: float, misses_until: float = float("-inf")) -> None:
        """Take the master's key state, keeping our own half's key in use while theirs is not newer yet.

        `misses_until`: until then the rest of our own half may be on its way, and cannot read the newer one.
        """
        before = self.state()
        known = [*self._held, *filter(None, [self._half.entry])]
        adopted = by_place(state.entries, known, now)
        self._half.meet(self._held, adopted, self._lease, misses_until, now)
        self._held = adopted
        self._see(e.epoch for e in adopted)
        self._lease = SavedLease(state.sender_id, state.senders)
        kept = [e.key.pms for e in (*self._held, *filter(None, [self._half.entry]))]
        for entry in known:
            if entry.key.pms not in kept:
                entry.key.pms.wipe()
        if self.state() != before:
            self.version += 1

    def follow_tick(self, now: float) -> None:
        """As a follower, give up our own half's key when the master never superseded it, and retire what was kept."""
        if self._half.tick(self._held, now):
            self.version += 1
        self._retire(now)

    def follow_deadline(self) -> float | None:
        """Return when `follow_tick` has something to do."""
        times = [e.since + self._settings.timing.retire_after for e in self._held if e.turn is Turn.PREVIOUS]
        if (until := self._half.deadline()) is not None:
            times.append(until)
        return min(times, default=None)
