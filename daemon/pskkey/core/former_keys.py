"""The one rule of a merge: until when a member sends with the key that it came with.

A member that joins with another key than its master's goes on sending with that key, its *former key*, because the
nodes that it came with can read it. A KEY_STATE without a key to send with lets the member do so. The member changes to
the group's key when

1. the epoch of the group's key is above that of the former key, so that no record of one key is taken for a record of
   the other (the master rekeys for it),
2. no node is on its way to the master (`arrivals`), and
3. every member with a former key has acknowledged the group's key. A member acknowledges no key before all nodes of its
   former group that may come are here (`known_group`).

All members for which this is true change in one step. A member changes at `Joined.former_until` in any case. Each
member still receives with its former key for `retire_after`, so no record is lost within a partition.

A sender id is leased under a key. With its former key a member sends under its lease of the former group.
"""

from collections.abc import Iterable

from pskkey.core.admission import Joined
from pskkey.core.key_slots import RingKey, is_above
from pskkey.model import HeldKey


def is_same(key: HeldKey, entry: RingKey | None) -> bool:
    """Return whether the `key` of a joiner is the one in the slot `entry`, under the same epoch."""
    return entry is not None and (key.epoch, key.fingerprint) == (entry.epoch, entry.key.fingerprint)


def former_key(held: Iterable[HeldKey], current: RingKey | None) -> HeldKey | None:
    """Return the key of `held` that a joiner sends with; None if there is none or it is the group's `current` key."""
    sends_with = next((key for key in held if key.send), None)
    return None if sends_with is None or is_same(sends_with, current) else sends_with


def leave_former_keys(
    joined: Iterable[Joined],
    current: RingKey,
    coming: RingKey | None,
    *,
    all_are_here: bool,
    now: float,
) -> bool:
    """Clear `former` of each member that may leave its former key; return whether there was one."""
    senders = [(j, j.former) for j in joined if j.former is not None]
    # A member that has acknowledged the next key has the current key too.
    epochs = {current.epoch} if coming is None else {current.epoch, coming.epoch}
    is_time = all_are_here and all(j.member.acked_epoch in epochs for j, _ in senders)
    has_left = False
    for member, former in senders:
        is_ours = is_same(former, current) or is_above(current.epoch, former.epoch)
        if (is_time and is_ours) or now >= member.former_until:
            member.former, has_left = None, True
    return has_left
