"""For whom a key waits, and what is still read meanwhile: what seeds of the simulator have shown, in a few events."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session
from pskkey.model import Group, Handover, HeldKey, KeyNewReason, Merge, Role
from tests.core.door import ME, Door, advert, join, member, of, one, sent
from tests.core.keys import empty_ring, entry, key
from tests.core.situations import HIGH, LOW, OTHER, acked, sending, state

LATER = (entry(1, 902), entry(2, 903, send=True))


def group(term: int, master: str, *others: str, without_keys: str = "") -> Group:
    """Return a group of these nodes, which have the master's keys but for one."""
    ids = (master, *others)
    members = [replace(member(i, sender_id=n), acked_epoch=2) for n, i in enumerate(ids)]
    told = tuple(replace(m, acked_epoch=None) if m.id == without_keys else m for m in members)
    return Group(term, master, told, tuple(sorted(others)))


def beside_another_half(door: Door, *others: str) -> Session:
    """Let a member of LOW's group, which HIGH is in too, lose LOW and come to OTHER, which serves `others`."""
    session = door.become_client(HIGH, OTHER)
    one(Connect, door.give(Disconnected(session, "reset")))
    door.wait(0.2)
    door.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, door.log)[-1]
    assert new.peer == OTHER
    door.give(Connected(new.session))
    door.receive(new.session, group(2, OTHER, *others, ME), state(entry(1, 902, send=True)))
    assert door.view.is_apart
    return new.session


# --- a takeover: seeds 2200, 3049, 8626, 8128 -------------------------------------------------------------------


@pytest.mark.parametrize("last_group", [(HIGH,), ()], ids=["which was whole", "to which not all had come yet"])
def test_who_takes_over_with_its_own_halfs_key_waits_for_the_rest_of_its_half(last_group: tuple[str, ...]) -> None:
    door = Door().start()
    session = beside_another_half(door, *last_group)
    retry = one(Connect, door.give(Disconnected(session, "reset")))
    door.give(Disconnected(retry.session, "refused"))
    assert door.view.role is Role.MASTER
    door.give(RekeyRequested(KeyNewReason.OPERATOR))
    door.wait(2.1)
    assert sending(door.view) == 1, "HIGH was with us and may come"
    door.wait(0.3)
    assert sending(door.view) != 1


def test_a_key_that_another_made_can_be_read_when_a_newer_one_takes_its_place_and_one_of_our_own_is_gone() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), entry(2, 902)), 0.0)
    ring.lead(1.0)
    ring.install_fresh(key(903), 2.0)
    assert [e.epoch for e in ring.entries] == [2, 1, 3], "its maker may send with 2 where we did not hear of it"
    assert sending(ring) == 1
    ring.install_fresh(key(904), 3.0)
    assert [e.epoch for e in ring.entries] == [2, 1, 4], "nobody can have sent with 3"


def test_of_two_keys_of_one_epoch_a_new_master_has_that_of_its_group() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(1, 902, send=True), entry(2, 903)), 1.0)
    ring.adopt(state(*LATER), 1.2)
    assert ring.entries[0].key == key(901)
    ring.lead(1.3)
    assert [e.key for e in ring.entries] == [key(902), key(903)]


# --- members that are not there: seed 5171 ----------------------------------------------------------------------


def test_who_fell_silent_may_have_noticed_later_than_we_and_is_waited_for_as_long_as_after_a_takeover() -> None:
    door = Door().start().become_master()
    door.accept(1, join(LOW))
    door.wait(1.2)
    door.give(RekeyRequested(KeyNewReason.OPERATOR))
    door.wait(0.4)
    assert not door.members
    door.wait(2.0)
    assert sending(door.view) == 1
    door.accept(2, join(LOW))
    acked(door, 2, 2)
    assert sending(door.view) == 2


def test_who_comes_back_with_a_key_that_is_on_its_way_does_not_put_it_off() -> None:
    door = Door().start().become_master()
    door.wait(1.2)
    stranger = HeldKey(1, key(801).fingerprint, send=True)
    door.accept(1, join(LOW, held=(stranger,)))
    coming = door.view.next
    assert coming is not None
    door.wait(1.2)
    door.accept(2, join(LOW, held=(stranger, HeldKey(coming.epoch, coming.key.fingerprint, send=False))))
    door.wait(0.2)
    assert door.view.next == coming


# --- halves that come over one by one: seeds 2910, 4347, 4705 ---------------------------------------------------


def test_the_key_of_ones_own_half_is_sent_with_until_all_of_it_have_come_over() -> None:
    door = Door().start()
    session = beside_another_half(door)
    door.receive(session, state(*LATER))
    assert sending(door.view) == 1, "HIGH is not here yet and cannot read the new one"
    door.receive(session, group(2, OTHER, ME, HIGH, without_keys=HIGH), state(*LATER))
    assert sending(door.view) == 1, "nor does it have it yet"
    door.receive(session, group(2, OTHER, ME, HIGH), state(*LATER))
    assert sending(door.view) == 2


def test_who_does_not_come_over_is_not_missed_for_ever() -> None:
    door = Door().start()
    session = beside_another_half(door)
    door.receive(session, state(*LATER))
    for _ in range(2):
        door.wait(1.0)
        door.receive(session, state(*LATER))
    assert sending(door.view) == 1
    door.wait(0.2)
    assert sending(door.view) == 2, "2.3 s after LOW was lost"
    assert door.view.keys[0].key == key(901), "the others may still send with it"


def test_a_master_that_hands_over_comes_along() -> None:
    door = Door().start()
    session = door.become_client()
    new = one(Connect, door.receive(session, Handover(member(OTHER), 1)))
    door.give(Connected(new.session))
    door.receive(new.session, group(2, OTHER, ME), state(entry(1, 902, send=True)), state(*LATER))
    assert sending(door.view) == 1
    door.receive(new.session, group(2, OTHER, ME, LOW), state(*LATER))
    assert sending(door.view) == 2


@pytest.mark.parametrize("broke", [False, True])
def test_a_master_that_goes_to_another_waits_for_its_own_members(broke: bool) -> None:
    door = Door().start().become_master()
    door.accept(1, join(HIGH))
    if broke:
        door.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    door.wait(0.2)
    door.hear(advert(LOW, Role.MASTER, members=5))
    merge = of(Connect, door.log)[-1]
    assert merge.peer == LOW
    door.give(Connected(merge.session))
    question = sent(Merge, door.log)[-1]
    door.receive(merge.session, Merge(member(LOW), 1, 5, 1, winner=LOW))
    assert question.members == (1 if broke else 2)
    new = of(Connect, door.log)[-1]
    door.give(Connected(new.session))
    door.receive(new.session, group(2, LOW, ME), state(entry(1, 902, send=True)), state(*LATER))
    assert sending(door.view) == 1
    door.receive(new.session, group(2, LOW, ME, HIGH), state(*LATER))
    assert sending(door.view) == 2


def test_also_a_key_that_the_next_master_can_read_is_sent_with_until_all_of_ones_half_have_the_one_after_it() -> None:
    door = Door().start()
    session = door.become_client(HIGH, OTHER)
    door.receive(session, state(entry(1, 901, send=True), entry(2, 903)))
    door.give(Disconnected(session, "reset"))
    door.hear(advert(OTHER, Role.MASTER, term=2))
    session = of(Connect, door.log)[-1].session
    door.give(Connected(session))
    later = state(entry(1, 901), entry(2, 903, send=True))
    door.receive(session, group(2, OTHER, ME), later)
    assert sending(door.view) == 1
    door.receive(session, group(2, OTHER, ME, HIGH), later)
    assert sending(door.view) == 2


def test_everybody_is_told_when_a_joiner_has_the_keys() -> None:
    door = Door().start().become_master()
    door.accept(1, join(LOW))
    door.wait(0.3)
    before = len(door.log)
    for _ in range(2):
        acked(door, 1, 1)
        door.wait(0.3)
    (told,) = sent(Group, door.log[before:])  # the second time it is no news
    assert next(m.acked_epoch for m in told.members if m.id == LOW) == 1


def test_who_comes_back_to_its_own_key_from_a_group_with_another_can_still_read_what_that_one_sends() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(2, 902, send=True)), 1.0)
    assert sending(ring) == 1
    ring.adopt(state(entry(1, 901, send=True), entry(3, 903)), 2.0)
    assert [e.key for e in ring.entries] == [key(902), key(901), key(903)]
    assert sending(ring) == 1
    ring.follow_tick(12.0)
    assert [e.key for e in ring.entries] == [key(901), key(903)]


def test_a_key_of_ones_own_half_that_is_only_read_makes_way_for_one_in_use_of_its_epoch() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(1, 902, send=True)), 1.0)
    ring.adopt(state(entry(2, 903, send=True)), 2.0)
    assert [e.key for e in ring.entries] == [key(901), key(903)]
    ring.adopt(state(entry(2, 903, send=True), entry(1, 904)), 3.0)
    assert [e.key for e in ring.entries] == [key(903), key(904)]


def test_what_superseded_ones_own_halfs_key_at_one_master_does_not_at_the_next() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(1, 902, send=True)), 1.0, 3.0)
    ring.adopt(state(entry(2, 903, send=True)), 1.5, 3.0)
    ring.adopt(state(entry(1, 904, send=True)), 2.0, 3.0)
    ring.follow_tick(3.5)
    assert ring.current is not None
    assert ring.current.key == key(901), "the fellows that are still on their way can read no other"


def test_an_epoch_is_not_given_out_twice_however_far_others_are_ahead() -> None:
    ring = empty_ring()
    ring.lead(0.0)
    given = []
    for n, above in enumerate((0, 0, 30_000, 60_000, 65_533)):  # the last two look like those of before a wrap
        ring.roll(above)
        ring.install_fresh(key(900 + n), 2.0 * n)
        assert ring.newest is not None
        given.append(ring.newest.epoch)
    assert given == [1, 2, 30_001, 3, 4]


def test_a_master_that_rolls_above_ones_own_halfs_key_late_is_still_waited_for() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(1, 902, send=True)), 1.0)
    ring.adopt(state(entry(1, 902, send=True), entry(2, 903)), 6.0)
    ring.follow_tick(10.0)
    assert ring.is_apart
    ring.follow_tick(13.0)
    assert not ring.is_apart
