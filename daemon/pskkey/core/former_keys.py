"""The change of a member from its former key to the key of its new group.

While the network is split, each partition has its own master and its own key. When the partitions merge, one side
yields: its nodes join the master of the other side. Such a node first goes on sending with the key that it brought, its
*former key*, because the other nodes of its partition can read this key. The master permits that: it sends the node a
key list (KEY_STATE) without a key to send with.

The node, now a member, changes to the *current key*, the key that its new group sends with, when three conditions hold:

1. The epoch of the current key is above the epoch of the former key. If it is not, the master makes a new key. So the
   two keys have different epochs, and no node confuses their records. An *epoch* is the number of a key, and each
   *record*, a multicast message, carries the epoch of its key.
2. All nodes that the master waits for have joined, or their time is over (`arrivals`).
3. Each member with a former key has acknowledged the current key. A member acknowledges no key while it still expects
   other nodes of its partition (`known_group`).

When conditions 2 and 3 hold, all members that meet condition 1 change in one step. A member changes at
`Joined.former_until` at the latest. After the change it receives with its former key for `retire_after`, so it loses no
record from its partition.

While a member sends with its former key, it uses the *sender id* that it had in its partition. The sender id marks the
records of one node.
"""

from collections.abc import Iterable

from pskkey.core.admission import Joined
from pskkey.core.key_slots import RingKey, is_above
from pskkey.core.keyring import Keyring
from pskkey.model import HeldKey


def is_same(key: HeldKey, entry: RingKey | None) -> bool:
    """Return whether `key`, which a joiner lists in JOIN, has the epoch and the fingerprint of `entry`."""
    return entry is not None and (key.epoch, key.fingerprint) == (entry.epoch, entry.key.fingerprint)


def find_former_key(held: Iterable[HeldKey], current: RingKey | None) -> HeldKey | None:
    """Return the former key of a joiner, None if it has none.

    `held` are the keys that the joiner lists in JOIN. `current` is the current key of its new group.
    """
    sends_with = next((key for key in held if key.send), None)
    return None if sends_with is None or is_same(sends_with, current) else sends_with


def leave_former_keys(joined: Iterable[Joined], keyring: Keyring, *, all_are_here: bool, now: float) -> bool:
    """Clear `former` of each member that changes to the current key at `now`. Return whether any member changes.

    The master keeps the former keys of the others. `all_are_here` states whether condition 2 holds.
    """
    with_former = [(j, j.former) for j in joined if j.former is not None]
    for _, former in with_former:
        keyring.keep(former, now)
    if (current := keyring.current) is None or not with_former:
        return False
    # A member that has acknowledged the next key has the current key too.
    epochs = {current.epoch} if keyring.next is None else {current.epoch, keyring.next.epoch}
    all_can_read = all_are_here and all(j.member.acked_epoch in epochs for j, _ in with_former)  # conditions 2 and 3
    has_changed = False
    for member, former in with_former:
        is_above_former = is_same(former, current) or is_above(current.epoch, former.epoch)  # condition 1
        if (all_can_read and is_above_former) or now >= member.former_until:
            member.former, has_changed = None, True
    return has_changed
