"""All members have a key before one sends with it, and keep it until the last datagram under it has arrived."""

from dataclasses import replace

import pytest

from pskkey.core.key_slots import is_above, latest
from pskkey.core.keyring import Keyring
from pskkey.core.settings import Timing
from pskkey.model import MAX_EPOCH, HeldKey, KeyState
from tests.core.keys import empty_ring, entry, key
from tests.core.situations import state

TIMING = Timing(activation_deadline=5.0, retire_after=10.0, rekey_spacing=1.0)


# --- the slots --------------------------------------------------------------------------------------------------------


def leading(number: int = 1, timing: Timing = TIMING) -> Keyring:
    """Return the ring of a fresh group's master."""
    ring = empty_ring(timing)
    ring.begin_to_lead(0.0)
    ring.install_fresh(key(number), 0.0)
    return ring


def slots(ring: Keyring) -> list[tuple[int, str, bool]]:
    """Return the epoch and the slot of every key, and whether it is sent with."""
    return [(e.epoch, str(e.slot), e is ring.current) for e in ring.entries]


def test_the_first_key_of_a_group_is_sent_with_at_once() -> None:
    ring = leading()
    assert slots(ring) == [(1, "current", True)]


def test_a_new_key_is_received_first_then_sent_with_and_the_old_one_leaves_last() -> None:
    ring = leading()
    ring.install_fresh(key(2), 2.0)
    assert slots(ring) == [(1, "current", True), (2, "next", False)]
    ring.activate(3.0)
    assert slots(ring) == [(1, "previous", False), (2, "current", True)]
    ring.tick_as_master(12.9)
    assert len(ring.entries) == 2
    old = ring.entries[0].key
    ring.tick_as_master(13.0)
    assert slots(ring) == [(2, "current", True)]
    assert old.pms.reveal() == bytes(64), "a retired key is wiped"


def test_new_epoch_is_never_more_than_half_a_circle_ahead_of_the_current_one() -> None:
    """Seed 270: a next key of epoch 60002 was replaced by one above 65533, while epoch 30001 was current."""
    ring = leading()
    for above in (30_000, 60_000, MAX_EPOCH - 2):
        ring.install_fresh(key(above), 2.0, above)
        if above == 30_000:
            ring.activate(3.0)
    current, coming = ring.current, ring.next
    assert current is not None
    assert coming is not None
    assert is_above(coming.epoch, current.epoch)


def test_without_acknowledgements_the_deadline_activates() -> None:
    ring = leading()
    ring.install_fresh(key(2), 2.0)
    assert ring.deadline_as_master() == 7.0
    ring.tick_as_master(6.99)
    assert slots(ring)[0] == (1, "current", True)
    ring.tick_as_master(7.0)
    assert slots(ring)[1] == (2, "current", True)


def listed(*entries: object, sender_id: int = 3) -> KeyState:
    """Return a state as a master sends it."""
    return KeyState(sender_id, frozenset({sender_id, 7}), tuple(entries))  # type: ignore[arg-type]


def test_follower_gives_each_key_its_slot_by_its_place() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(listed(entry(9, 1), entry(4, 2, send=True), entry(10, 3)), 0.0)
    assert slots(ring) == [(9, "previous", False), (4, "current", True), (10, "next", False)]
    assert [e.epoch for e in ring.wire_entries()] == [9, 4, 10]


def test_follower_that_becomes_master_keeps_its_keys_in_their_slots() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(listed(entry(4, 1), entry(5, 2, send=True), entry(6, 3)), 0.0)
    ring.begin_to_lead(100.0)
    assert slots(ring) == [(4, "previous", False), (5, "current", True), (6, "next", False)]
    ring.tick_as_master(104.0)
    assert slots(ring)[-1] == (6, "next", False), "a key under way gets its deadline anew"


# --- unused keys ------------------------------------------------------------------------------------------------------


def unused_epochs(ring: Keyring) -> list[int]:
    """Return the epochs of the keys that the ring lists as unused."""
    return [e.epoch for e in ring.wire_entries() if e.unused]


def test_a_key_is_unused_while_its_maker_distributes_it() -> None:
    ring = leading()
    assert unused_epochs(ring) == [], "the first key is sent with at once"
    ring.install_fresh(key(2), 2.0)
    assert unused_epochs(ring) == [2]
    follower = empty_ring(TIMING)
    follower.adopt(listed(*ring.wire_entries()), 2.0)
    assert unused_epochs(follower) == [2]
    ring.activate(3.0)
    assert unused_epochs(ring) == []
    follower.adopt(listed(*ring.wire_entries()), 3.0)
    assert unused_epochs(follower) == []


def test_next_key_that_a_successor_inherits_no_longer_counts_as_unused() -> None:
    """The former master may have sent with it."""
    ring = empty_ring(TIMING)
    ring.adopt(listed(entry(1, 1, send=True), replace(entry(2, 2), unused=True)), 0.0)
    assert unused_epochs(ring) == [2]
    ring.begin_to_lead(1.0)
    assert unused_epochs(ring) == []


def test_new_master_with_its_former_key_lists_no_key_of_the_last_master_as_unused() -> None:
    """Members of the last master may have been sent with it: a new session manager counts it as an earlier key."""
    ring = empty_ring(TIMING)
    ring.adopt(listed(entry(7, 9, send=True)), 0.0)
    ring.adopt(listed(entry(1, 1), replace(entry(2, 2), unused=True)), 1.0)
    assert (ring.sends_former_key, unused_epochs(ring)) == (True, [2])
    ring.begin_to_lead(2.0)
    assert unused_epochs(ring) == []


# --- previous keys ----------------------------------------------------------------------------------------------------


def test_previous_key_is_kept_for_its_time_while_there_is_room() -> None:
    """Seeds 2 and 67."""
    ring = empty_ring()
    ring.begin_to_lead(0.0)
    for number in range(3):
        ring.install_fresh(key(number), 2.0 * number)
        ring.activate(2.0 * number + 0.1)
    assert [e.epoch for e in ring.entries] == [1, 2, 3]
    ring.keep(HeldKey(1, key(0).fingerprint, send=True), 5.0)
    ring.install_fresh(key(4), 6.0)
    assert [e.epoch for e in ring.entries] == [1, 3, 4], (
        "of the two previous keys, the one that no member sends with is dropped"
    )


def test_a_follower_keeps_a_previous_key_as_long_as_its_master_lists_it() -> None:
    """Found with seeds 40354 and 40553."""
    ring = empty_ring()
    listed = state(entry(1, 901), entry(2, 902, send=True))
    ring.adopt(listed, 0.0)
    ring.adopt(listed, 8.0)
    ring.tick_as_follower(12.0)
    assert [e.epoch for e in ring.entries] == [1, 2]
    assert ring.deadline_as_follower() is None
    ring.adopt(state(entry(2, 902, send=True)), 18.0)
    assert [e.epoch for e in ring.entries] == [2]


def test_the_previous_keys_of_the_last_master_stay_in_another_group() -> None:
    """Seed 9732: a transitional member of a merge still sent with the key before our own."""
    for goes_on in (True, False):
        ring = leading()
        ring.install_fresh(key(2), 2.0)
        ring.activate(3.0)
        ring.begin_to_follow(listed(*ring.wire_entries()), 4.0)
        ring.adopt(listed(entry(7, 9, send=not goes_on)), 5.0)
        kept = [(1, "previous", False), (2, "current" if goes_on else "previous", goes_on)]
        assert slots(ring) == [*kept, (7, "next" if goes_on else "current", not goes_on)]
        ring.tick_as_follower(12.9)
        assert 1 in ring.live_epochs
        ring.tick_as_follower(13.0)
        assert ring.live_epochs == {2, 7}


def test_previous_keys_of_a_group_leave_when_its_master_no_longer_lists_them() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(listed(entry(1, 1), entry(2, 2, send=True)), 0.0)
    ring.adopt(listed(entry(2, 2, send=True)), 1.0)
    assert ring.live_epochs == {2}
    ring.adopt(listed(entry(8, 8), entry(9, 9)), 2.0)  # another group: our key becomes the former key
    ring.adopt(listed(entry(8, 8), entry(9, 9, send=True)), 3.0)
    assert ring.live_epochs == {2, 8, 9}
    ring.adopt(listed(entry(9, 9, send=True)), 4.0)
    assert ring.live_epochs == {2, 9}


# --- epochs -----------------------------------------------------------------------------------------------------------


def test_epochs_wrap_after_the_last_one_and_the_keyring_reports_it() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(listed(entry(MAX_EPOCH, 1, send=True)), 0.0)
    ring.begin_to_lead(1.0)
    assert ring.install_fresh(key(2), 1.0), "the caller must raise the term"
    assert slots(ring) == [(MAX_EPOCH, "current", True), (1, "next", False)]
    ring.activate(2.0)
    assert slots(ring) == [(MAX_EPOCH, "previous", False), (1, "current", True)]


def master_at_epoch(epoch: int) -> Keyring:
    """Return the ring of a master that sends with this epoch."""
    ring = empty_ring()
    ring.adopt(state(entry(epoch, 901, send=True)), 0.0)
    ring.begin_to_lead(0.0)
    return ring


def test_epochs_wrap_above_a_foreign_epoch_too_and_the_keyring_reports_it() -> None:
    """Seeds of the kind "wrap"."""
    ring = master_at_epoch(60_006)
    assert ring.install_fresh(key(902), 1.0, above=1), "from 60,006 it is a shorter way to 1 and on"
    assert [e.epoch for e in ring.entries] == [60_006, 2]


@pytest.mark.parametrize(
    ("epoch", "other", "is_later"),
    [
        (2, 1, True),
        (1, 2, False),
        (7, 7, False),
        (1, MAX_EPOCH, True),
        (MAX_EPOCH, 1, False),
        (5, 0, True),
        (0, 5, False),
    ],
)
def test_an_epoch_is_later_by_the_shorter_way_round(epoch: int, other: int, is_later: bool) -> None:
    """Seeds of the kind "wrap"."""
    assert is_above(epoch, other) is is_later
    assert latest((epoch, other)) == (epoch if is_later else other)


def test_no_epoch_is_given_out_twice_however_far_others_are_ahead() -> None:
    """Seeds 2910, 4347 and 4705."""
    ring = empty_ring()
    ring.begin_to_lead(0.0)
    given = []
    for n, above in enumerate((0, 0, 30_000, 60_000, 65_533)):  # the last two look like epochs before a wrap
        ring.install_fresh(key(900 + n), 2.0 * n, above)
        ring.activate(2.0 * n + 0.1)
        assert ring.newest is not None
        given.append(ring.newest.epoch)
    assert given == [1, 2, 30_001, 60_001, 65_534]


def test_a_master_gives_out_no_epoch_that_a_former_master_has_given_out() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(listed(entry(5, 1, send=True), replace(entry(6, 2), unused=True)), 0.0)
    ring.adopt(listed(entry(5, 1, send=True)), 1.0)
    ring.begin_to_lead(2.0)
    ring.install_fresh(key(3), 2.0)
    assert ring.newest is not None
    assert ring.newest.epoch == 7, "some members may still hold the key of epoch 6"


def test_a_restarted_master_gives_out_no_epoch_of_a_key_that_its_last_process_held() -> None:
    """Seed 5540: it led with its former key, retired the last master's, and made another key of that epoch and term."""
    before = empty_ring(TIMING)
    before.adopt(listed(entry(1, 9, send=True)), 0.0)
    before.adopt(listed(entry(1, 1), replace(entry(2, 2), unused=True)), 1.0)
    ring = empty_ring(TIMING, before.saved(None))
    ring.restart(2.0)
    ring.begin_to_lead(3.0)
    assert 2 in ring.live_epochs
    ring.tick_as_master(20.0)
    assert 2 not in ring.live_epochs
    ring.install_fresh(key(3), 20.0)
    assert ring.newest is not None
    assert ring.newest.epoch == 3
