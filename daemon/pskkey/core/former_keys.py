"""What a member sends with that came with another key than its master's: the one rule of a merge.

It goes on with the key that it came with (its *former* key), because the nodes that it came with can read that. The
master gives it KEY_STATE without a key to send with, which means just that. It sends with the group's key when

1. that key is above its own, so that no record of one is taken for a record of the other (the master rolls for it),
2. no member with a former key says that others follow which it came with (JOIN), nor is anybody else on its way to the
   master (`arrivals`), as far as that can be known, and
3. every member with a former key has acknowledged the group's key.

Then all of them change in one step. Nobody waits for longer than `Joined.former_until`. Everybody can still receive
with the former key for `retire_after`, so nothing is lost inside either part.

A sender id is leased for a key. Under its former key a member sends as who it was there.
"""

from collections.abc import Iterable

from pskkey.core.admission import Joined
from pskkey.core.key_slots import KeySlot, is_above
from pskkey.model import HeldKey


def is_same(key: HeldKey, entry: KeySlot | None) -> bool:
    """Tell whether a key that a joiner holds is this one of ours, under the same epoch."""
    return entry is not None and (key.epoch, key.fingerprint) == (entry.epoch, entry.key.fingerprint)


def former_key(held: Iterable[HeldKey], current: KeySlot | None) -> HeldKey | None:
    """Return the key that a joiner sends with, of those that it `held`, if that is not the group's `current` one."""
    sends_with = next((key for key in held if key.send), None)
    return None if sends_with is None or is_same(sends_with, current) else sends_with


def leave_former_keys(
    joined: Iterable[Joined],
    current: KeySlot,
    coming: KeySlot | None,
    *,
    all_are_here: bool,
    now: float,
) -> bool:
    """Let the members that may do so leave their former keys; tell whether there was one."""
    senders = [(j, j.former) for j in joined if j.former is not None]
    # One that acknowledges the key after the current one has the current one as well.
    epochs = {current.epoch} if coming is None else {current.epoch, coming.epoch}
    for member, _ in senders:
        if member.others_until is not None and now >= member.others_until:
            member.others_until = None
    is_time = all_are_here and all(j.others_until is None and j.member.acked_epoch in epochs for j, _ in senders)
    has_left = False
    for member, former in senders:
        is_ours = is_same(former, current) or is_above(current.epoch, former.epoch)
        if (is_time and is_ours) or now >= member.former_until:
            member.former, has_left = None, True
    return has_left
