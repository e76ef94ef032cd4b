"""A key is known to all before it is sent with, and kept until all that was sent with it has arrived."""

from dataclasses import replace

from pskkey.core.keyring import Keyring
from pskkey.core.settings import Timing
from pskkey.model import MAX_EPOCH, KeyState
from tests.core.keys import empty_ring, entry, key

TIMING = Timing(activation_deadline=5.0, retire_after=10.0, rekey_spacing=1.0)


def slots(ring: Keyring) -> list[tuple[int, str, bool]]:
    """Return (epoch, turn, is the one to send with) of every key."""
    return [(e.epoch, str(e.slot), e is ring.current) for e in ring.entries]


def leading(number: int = 1, timing: Timing = TIMING) -> Keyring:
    """Return the ring of a fresh group's master."""
    ring = empty_ring(timing)
    ring.lead(0.0)
    ring.install_fresh(key(number), 0.0)
    return ring


def following(*entries: object, sender_id: int = 3) -> KeyState:
    """Return a state as a master tells it."""
    return KeyState(sender_id, frozenset({sender_id, 7}), tuple(entries))  # type: ignore[arg-type]


def test_the_first_key_of_a_group_is_sent_with_at_once() -> None:
    ring = leading()
    assert slots(ring) == [(1, "current", True)]


def test_a_new_key_is_received_first_then_sent_with_and_the_old_one_leaves_last() -> None:
    ring = leading()
    ring.install_fresh(key(2), 2.0)
    assert slots(ring) == [(1, "current", True), (2, "next", False)]
    ring.activate(3.0)
    assert slots(ring) == [(1, "previous", False), (2, "current", True)]
    ring.lead_tick(12.9)
    assert len(ring.entries) == 2
    old = ring.entries[0].key
    ring.lead_tick(13.0)
    assert slots(ring) == [(2, "current", True)]
    assert old.pms.reveal() == bytes(64), "a retired key is wiped"


def unused(ring: Keyring) -> list[int]:
    """Return the epochs of the keys that the ring's node lists as unused."""
    return [e.epoch for e in ring.wire_entries() if e.unused]


def test_a_key_is_unused_while_its_maker_distributes_it() -> None:
    ring = leading()
    assert unused(ring) == [], "the first key is sent with at once"
    ring.install_fresh(key(2), 2.0)
    assert unused(ring) == [2]
    follower = empty_ring(TIMING)
    follower.adopt(following(*ring.wire_entries()), 2.0)
    assert unused(follower) == [2]
    ring.activate(3.0)
    assert unused(ring) == []
    follower.adopt(following(*ring.wire_entries()), 3.0)
    assert unused(follower) == []


def test_a_key_that_a_successor_finds_on_its_way_may_have_been_sent_with_by_its_maker() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(following(entry(1, 1, send=True), replace(entry(2, 2), unused=True)), 0.0)
    assert unused(ring) == [2]
    ring.lead(1.0)
    assert unused(ring) == []


def test_a_leader_with_its_former_key_calls_no_key_of_the_last_master_unused() -> None:
    """Members of the last master may have been sent with it: a new session manager must count it as an earlier key."""
    ring = empty_ring(TIMING)
    ring.adopt(following(entry(7, 9, send=True)), 0.0)
    ring.adopt(following(entry(1, 1), replace(entry(2, 2), unused=True)), 1.0)
    assert (ring.sends_former_key, unused(ring)) == (True, [2])
    ring.lead(2.0)
    assert unused(ring) == []


def test_without_acknowledgements_the_deadline_activates() -> None:
    ring = leading()
    ring.install_fresh(key(2), 2.0)
    assert ring.lead_deadline() == 7.0
    ring.lead_tick(6.99)
    assert slots(ring)[0] == (1, "current", True)
    ring.lead_tick(7.0)
    assert slots(ring)[1] == (2, "current", True)


def test_epochs_start_over_after_the_last_one_and_say_so() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(following(entry(MAX_EPOCH, 1, send=True)), 0.0)
    ring.lead(1.0)
    assert ring.install_fresh(key(2), 1.0), "the caller must raise the term"
    assert slots(ring) == [(MAX_EPOCH, "current", True), (1, "next", False)]
    ring.activate(2.0)
    assert slots(ring) == [(MAX_EPOCH, "previous", False), (1, "current", True)]


def test_a_follower_gives_each_key_its_turn_by_its_place() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(following(entry(9, 1), entry(4, 2, send=True), entry(10, 3)), 0.0)
    assert slots(ring) == [(9, "previous", False), (4, "current", True), (10, "next", False)]
    assert [e.epoch for e in ring.wire_entries()] == [9, 4, 10]


def test_a_follower_that_comes_to_lead_serves_what_it_held() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(following(entry(4, 1), entry(5, 2, send=True), entry(6, 3)), 0.0)
    ring.lead(100.0)
    assert slots(ring) == [(4, "previous", False), (5, "current", True), (6, "next", False)]
    ring.lead_tick(104.0)
    assert slots(ring)[-1] == (6, "next", False), "a key under way gets its deadline anew"


def test_a_master_gives_out_no_epoch_that_a_former_master_has_given_out() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(following(entry(5, 1, send=True), replace(entry(6, 2), unused=True)), 0.0)
    ring.adopt(following(entry(5, 1, send=True)), 1.0)
    ring.lead(2.0)
    ring.install_fresh(key(3), 2.0)
    assert ring.newest is not None
    assert ring.newest.epoch == 7, "some may hold the key of epoch 6 still"


def test_the_previous_keys_of_the_last_master_stay_in_another_group() -> None:
    """Seed 9732: a neighbour, which came along to the winner of a merge, still sent with the key before our own."""
    for goes_on in (True, False):
        ring = leading()
        ring.install_fresh(key(2), 2.0)
        ring.activate(3.0)
        ring.follow(following(*ring.wire_entries()), 4.0)
        ring.adopt(following(entry(7, 9, send=not goes_on)), 5.0)
        kept = [(1, "previous", False), (2, "current" if goes_on else "previous", goes_on)]
        assert slots(ring) == [*kept, (7, "next" if goes_on else "current", not goes_on)]
        ring.follow_tick(12.9)
        assert 1 in ring.live_epochs
        ring.follow_tick(13.0)
        assert ring.live_epochs == {2, 7}


def test_the_previous_keys_of_a_group_leave_when_its_master_says_so() -> None:
    ring = empty_ring(TIMING)
    ring.adopt(following(entry(1, 1), entry(2, 2, send=True)), 0.0)
    ring.adopt(following(entry(2, 2, send=True)), 1.0)
    assert ring.live_epochs == {2}
    ring.adopt(following(entry(8, 8), entry(9, 9)), 2.0)  # of another group: our key becomes the former one
    ring.adopt(following(entry(8, 8), entry(9, 9, send=True)), 3.0)
    assert ring.live_epochs == {2, 8, 9}
    ring.adopt(following(entry(9, 9, send=True)), 4.0)
    assert ring.live_epochs == {2, 9}


def test_a_restarted_master_gives_out_no_epoch_of_a_key_that_its_last_process_held() -> None:
    """Seed 5540: it led with its former key, retired the last master's, and made another key of that epoch and term."""
    before = empty_ring(TIMING)
    before.adopt(following(entry(1, 9, send=True)), 0.0)
    before.adopt(following(entry(1, 1), replace(entry(2, 2), unused=True)), 1.0)
    ring = empty_ring(TIMING, before.saved(None))
    ring.restart(2.0)
    ring.lead(3.0)
    assert 2 in ring.live_epochs
    ring.lead_tick(20.0)
    assert 2 not in ring.live_epochs
    ring.install_fresh(key(3), 20.0)
    assert ring.newest is not None
    assert ring.newest.epoch == 3
