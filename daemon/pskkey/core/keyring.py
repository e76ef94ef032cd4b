"""The key ring of a node: the keys that it uses, and when a key moves to another slot.

Rules
=====

The *master* of a group leads it. A *member* is a node that has joined the master. A *follower* is any node that is not
a master. A *session manager* is a local process that uses the keys. A *record* is a multicast message under a key. The
*epoch* is the number of a key, which each record carries. `key_slots` explains the slots: previous, current and next.

1. Only the master makes keys and moves them to other slots. It sends its key list in KEY_STATE. A follower adopts this
   list.
2. The master distributes a new key as the *next* key. Nodes may receive with it, but do not send with it yet.
3. The next key becomes the *current* key, the key to send with, when all members and session managers that the master
   waits for have acknowledged it. After `activation_deadline` it becomes current in any case. So a member that installs
   keys in time can read all records.
4. The key that was current becomes a *previous* key. Nodes receive with it for `retire_after`, because records may
   still be on their way. While a member sends with this key, the master restarts the time (`keep`). After the time the
   key is *retired*: it is wiped from the memory.
5. A node uses at most three keys.
6. KEY_STATE may list no key to send with. Then a member goes on sending with the key that it brought from another
   partition, its *former key* (`former_keys`). It also keeps the sender id that it had with this key. A *sender id*
   marks the records of one node.
7. When a member stops sending with its former key, it receives with this key for `retire_after`. It also receives
   with each key that its former master listed as previous, until `retire_after` has passed since that key became
   previous. Other nodes of its partition may still send with these keys.
8. A new key has the epoch after the latest known one. After epoch 65535 comes 1, and the master takes a higher term. A
   *term* is the number of a mastership. So the pair (term, epoch) always rises.
"""

from collections.abc import Iterable

from pskkey.core.key_slots import RingKey, assign_slots, latest, latest_ahead_of, ring_of
from pskkey.core.settings import Settings
from pskkey.model import (
    MAX_EPOCH,
    MAX_KEY_AGE,
    MAX_KEY_ENTRIES,
    Group,
    HeldKey,
    Key,
    KeyEntry,
    KeyState,
    SavedLease,
    SavedRing,
    Slot,
)

REMEMBERED_EPOCHS = 16
"""Number of the latest epochs that a node remembers. A new key gets none of these epochs, because members may
already have other keys with them."""

_NOTHING = SavedRing()


class Keyring:
    """The keys of a node. `version` rises with every change that a session manager must see."""

    def __init__(self, settings: Settings, saved: SavedRing = _NOTHING) -> None:
        self._settings = settings
        self._listed = [RingKey.of(key) for key in saved.keys]
        """As follower, the keys that the master lists. As master, all keys of this node."""
        self._lease = saved.lease
        """As follower, the sender id that the master leases to this node, and the sender ids in use in its group."""
        self._unlisted = [RingKey.of(key) for key in saved.unlisted]
        """As follower, the other keys: the former key, in the slot `current`, and previous keys."""
        self._former_lease = saved.former_lease
        """The `_lease` that belongs to the former key, None without a former key."""
        self._noted_epochs: tuple[int, ...] = ()
        """The epochs of the latest keys that this node made or received."""
        self._known_outside = saved.known_outside
        self._note_epochs(entry.epoch for entry in self._all())
        self.version = 0

    # --- reading ------------------------------------------------------------------------------------------------

    @property
    def entries(self) -> tuple[RingKey, ...]:
        """Return the keys in use, at most three, in the order previous, current, next."""
        if len(self._listed) == 1 and not self._unlisted:
            return (self._listed[0],)  # the usual case, and this is read many times for each event
        return ring_of(self._unlisted, self._listed)

    @property
    def current(self) -> RingKey | None:
        """Return the key to send with."""
        former = next((e for e in self._unlisted if e.slot is Slot.CURRENT), None)
        return former or self._in_slot(Slot.CURRENT)

    @property
    def sends_former_key(self) -> bool:
        """Return whether this node sends with a former key."""
        return self._former_lease is not None

    @property
    def next(self) -> RingKey | None:
        """Return the next key, None if there is none or this node sends with a former key."""
        return None if self.sends_former_key else self._in_slot(Slot.NEXT)

    @property
    def newest(self) -> RingKey | None:
        """Return the last key of `entries`. Its epoch is not always the highest number, because 1 comes after 65535."""
        return self.entries[-1] if self.entries else None

    @property
    def newest_listed(self) -> RingKey | None:
        """Return the last key of `entries` that the master lists. A member acknowledges this key."""
        return next((e for e in reversed(self.entries) if e in self._listed), None)

    @property
    def live_epochs(self) -> frozenset[int]:
        """Return the epochs of the keys in use. Records may arrive under each of them."""
        return frozenset(e.epoch for e in self.entries)

    def age(self, now: float) -> int:
        """Return the whole seconds for which the current key has been the current key of the group; 0 without a key."""
        return 0 if self.current is None else min(max(0, int(now - self.current.since)), MAX_KEY_AGE)

    @property
    def known_outside(self) -> str:
        """Return the fingerprint of the newest key if a node that has left knows it (`departures`), else ""."""
        newest = self.newest
        return self._known_outside if newest and newest.key.fingerprint == self._known_outside else ""

    def note_known_outside(self) -> None:
        """Record that a node that has left the group knows the newest key."""
        if (newest := self.newest) is not None:
            self._known_outside = newest.key.fingerprint

    def held(self) -> tuple[HeldKey, ...]:
        """Return the keys in use as JOIN lists them."""
        current = self.current
        return tuple(HeldKey(e.epoch, e.key.fingerprint, send=e is current) for e in self.entries)

    def wire_entries(self) -> tuple[KeyEntry, ...]:
        """Return the keys in use as KEY_STATE lists them."""
        current = self.current
        return tuple(KeyEntry(e.epoch, e.key, send=e is current, unused=e.unused) for e in self.entries)

    def state(self) -> KeyState:
        """Return the key state that a follower sends to its session managers.

        While the node sends with a former key, it uses the sender id that it had with this key. Another node may have
        used the new sender id with this former key.
        """
        lease, former = self._lease, self._former_lease
        if former is not None:
            lease = SavedLease(former.sender_id, lease.senders | former.senders)
        return KeyState(lease.sender_id, lease.senders, self.wire_entries())

    @property
    def senders(self) -> frozenset[int]:
        """Return the sender ids in use, as the last master has sent them."""
        return self._lease.senders

    def saved(self, master_state: KeyState | None) -> SavedRing:
        """Return the ring as the persisted state has it. The next process of this node begins as follower.

        `master_state`: as master, the key state for the session managers of this node; else None.
        """
        lease = self._lease if master_state is None else SavedLease(master_state.sender_id, master_state.senders)
        unlisted = tuple(e.saved() for e in self._unlisted)
        listed = tuple(e.saved() for e in self._listed)
        return SavedRing(listed, lease, unlisted, self._former_lease, self.known_outside)

    def restart(self, now: float) -> None:
        """Begin at `now` with the persisted keys. A time in the future becomes `now`."""
        for entry in self._all():
            entry.since = min(entry.since, now)

    def _all(self) -> list[RingKey]:
        return [*self._unlisted, *self._listed]

    def _in_slot(self, slot: Slot) -> RingKey | None:
        return next((e for e in self._listed if e.slot is slot), None)

    # --- as master ----------------------------------------------------------------------------------------------

    def begin_to_lead(self, now: float) -> None:
        """Begin as master with the keys of this node. `activation_deadline` of a next key starts again.

        If there is no current key, the next key becomes current.
        """
        current, known = self.current, self._all()
        if current is not None and self.sends_former_key:
            # This node sends with its former key, so the former key is the current key of the group that it now leads.
            # The other keys are from the lost master, whose members may still send with them. They become previous.
            self._listed = list(self.entries)
            for entry in (e for e in self._listed if e is not current):
                # An unused key matters least: perhaps the last master never activated it. So its `since` is set one
                # second earlier: `install_fresh` drops the key with the earliest `since` first.
                entry.since = now - (1.0 if entry.unused else 0.0)
                entry.slot, entry.unused = Slot.PREVIOUS, False
            self._listed.sort(key=lambda e: e is current)
        else:
            # If two keys have the same epoch, the listed one stays, because the members have it.
            epochs = {e.epoch for e in self._listed}
            self._listed = list(ring_of([e for e in self._unlisted if e.epoch not in epochs], self._listed))
        self._unlisted, self._former_lease = [], None
        self._wipe(known)
        self.version += 1
        if (coming := self.next) is not None:
            coming.since = now
            coming.unused = False  # the last master may have activated it
            if self.current is None:
                coming.slot = Slot.CURRENT
        for entry in self._listed:
            entry.kept_until = self._kept_until(now)

    def install_fresh(self, key: Key, now: float, above: int = 0) -> bool:
        """Add a new key, with an epoch above `above` and above the epochs of all keys in use.

        Ignore an `above` that is more than half a circle ahead of the current epoch.
        The key becomes current if there is no current key. Else it becomes the next key and replaces an earlier next
        key. Return whether the epochs start again at 1.
        """
        taken = {*self.live_epochs, *self._noted_epochs}
        if (replaced := self.next) is not None:
            if replaced.unused:  # this master made it, and no node sends with it
                self._drop(replaced)
            else:  # an earlier master made it and may have activated it
                self._listed.remove(replaced)
                replaced.slot, replaced.since, replaced.kept_until = Slot.PREVIOUS, now, self._kept_until(now)
                self._listed.insert(0, replaced)
        while len(self._listed) >= MAX_KEY_ENTRIES:
            self._drop(min((e for e in self._listed if e.slot is Slot.PREVIOUS), key=lambda e: e.since))
        before = self.newest.epoch if self.newest else 0
        in_use = latest(self.live_epochs) if self.current is None else self.current.epoch
        epoch = latest_ahead_of(in_use, (*self.live_epochs, above)) % MAX_EPOCH + 1
        while epoch in taken:
            epoch = epoch % MAX_EPOCH + 1
        self._note_epochs([epoch])
        slot = Slot.CURRENT if self.current is None else Slot.NEXT
        self._listed.append(RingKey(epoch, key, slot, now, unused=slot is Slot.NEXT))
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
        """Restart `retire_after` of a previous key, because a member sends with it. After `kept_until` do nothing."""
        for entry in self._listed:
            if entry.key.fingerprint == key.fingerprint and entry.slot is Slot.PREVIOUS and now < entry.kept_until:
                entry.since = now

    def _kept_until(self, now: float) -> float:
        """Return `kept_until` of a key that becomes previous at `now`. After that time, `keep` has no effect on it.

        In the worst case, a member that sends with this key joins at `now` + `retire_after`, and then sends with it for
        another `former_key_span`.
        """
        timing = self._settings.timing
        return now + timing.retire_after + timing.former_key_span

    def tick_as_master(self, now: float) -> None:
        """Activate the next key if its deadline is over, and retire each previous key whose time is over."""
        timing = self._settings.timing
        coming = self.next
        if coming is not None and now >= coming.since + timing.activation_deadline:
            self.activate(now)
        self._retire(now)

    def deadline_as_master(self) -> float | None:
        """Return when `tick_as_master` has something to do."""
        timing = self._settings.timing
        times: list[float] = []
        for entry in self._listed:
            if entry.slot is Slot.NEXT:
                times.append(entry.since + timing.activation_deadline)
            elif entry.slot is Slot.PREVIOUS:
                times.append(entry.since + timing.retire_after)
        return min(times, default=None)

    def _retire(self, now: float) -> None:
        for entry in [e for e in self._listed if e.slot is Slot.PREVIOUS]:
            if now >= entry.since + self._settings.timing.retire_after:
                self._drop(entry)
                self.version += 1

    def _note_epochs(self, epochs: Iterable[int]) -> None:
        fresh = tuple(dict.fromkeys(epoch for epoch in epochs if epoch not in self._noted_epochs))
        self._noted_epochs = (*self._noted_epochs, *fresh)[-REMEMBERED_EPOCHS:]

    def _drop(self, entry: RingKey) -> None:
        entry.key.pms.wipe()
        self._listed.remove(entry)

    # --- as follower --------------------------------------------------------------------------------------------

    def begin_to_follow(self, state: KeyState, now: float) -> None:
        """Stop leading. Keep the lease of `state`, the key state that this node, as master, gave to its managers."""
        self._lease = SavedLease(state.sender_id, state.senders)
        for entry in self._listed:
            if entry.slot is Slot.PREVIOUS:
                # A node that slept may have a key that is long overdue. Such a key counts as due now.
                entry.since = max(entry.since, now - self._settings.timing.retire_after)

    def adopt(self, state: KeyState, now: float) -> None:
        """Adopt the key list of the master. If it has no key to send with, go on sending with the current key."""
        before, known, current = self.state(), self._all(), self.current
        sends_former = current is not None and not any(entry.send for entry in state.entries)
        self._listed = assign_slots(state.entries, known, now, current if sends_former else None)
        # The master of another group has never had our previous keys. So it does not list them, although they are not
        # retired.
        is_other_group = sends_former or (current is not None and not current.is_among(self._listed))
        keeps_all = is_other_group and self._former_lease is None
        previous = [e for e in (known if keeps_all else self._unlisted) if e.slot is Slot.PREVIOUS]
        self._note_epochs(e.epoch for e in self._listed)
        if sends_former and self._former_lease is None:
            self._former_lease = self._lease
        elif not sends_former:
            self._former_lease = None
        self._lease = SavedLease(state.sender_id, state.senders)
        self._unlisted = self._left_over(previous, known, current, sends_former=sends_former, now=now)
        self._wipe(known)
        if self.state() != before:
            self.version += 1

    def adopt_senders(self, senders: frozenset[int]) -> None:
        """Adopt the sender ids in use, as the master has changed them."""
        before = self.state()
        self._lease = SavedLease(self._lease.sender_id, senders)
        if self.state() != before:
            self.version += 1

    def note_group(self, group: Group, now: float) -> None:
        """Record the facts in the `group` that the master sent together with the key list.

        The nodes of a group get a key at different times, because some join later. The next master rekeys by the time
        for which the key has been the current key of the group, and because of nodes that left before it joined itself.
        """
        if (current := self.current) is not None and not self.sends_former_key:
            current.since = min(current.since, now - group.key_age)
        if group.known_outside:
            self._known_outside = group.known_outside

    def _left_over(
        self, previous: list[RingKey], known: list[RingKey], current: RingKey | None, *, sends_former: bool, now: float
    ) -> list[RingKey]:
        """Return the keys that stay although the master does not list them. Other nodes may still send with them.

        The last key is the most important one: the former key, or the key that this node sent with until now.
        """
        others = [e for e in known if e is not current and e.slot is not Slot.PREVIOUS]
        # Unused keys come first, so they are dropped first if there are too many. They are kept because the last master
        # may have activated them for other members.
        kept = [RingKey(e.epoch, e.key, Slot.PREVIOUS, now) for e in others if e.unused] + previous
        kept += [RingKey(e.epoch, e.key, Slot.PREVIOUS, now) for e in others if not e.unused]
        if current is not None and sends_former:
            kept.append(RingKey(current.epoch, current.key, Slot.CURRENT, current.since))
        elif current is not None:
            kept.append(RingKey(current.epoch, current.key, Slot.PREVIOUS, now))
        return [e for e in kept if not e.is_among(self._listed)][-MAX_KEY_ENTRIES:]

    def _wipe(self, known: list[RingKey]) -> None:
        """Wipe each key of `known` that this node has no more."""
        in_use = [e.key.pms for e in self._all()]
        for entry in known:
            if entry.key.pms not in in_use:
                entry.key.pms.wipe()

    def tick_as_follower(self, now: float) -> None:
        """Retire each unlisted previous key whose time is over. The master retires the listed keys."""
        known, keep_for = self._all(), self._settings.timing.retire_after
        self._unlisted = [e for e in self._unlisted if e.slot is Slot.CURRENT or now < e.since + keep_for]
        if len(self._all()) < len(known):
            self._wipe(known)
            self.version += 1

    def deadline_as_follower(self) -> float | None:
        """Return when `tick_as_follower` has something to do."""
        kept = [e.since for e in self._unlisted if e.slot is Slot.PREVIOUS]
        return min(kept) + self._settings.timing.retire_after if kept else None
