"""What a member sends with that came with another key than its master's: `core/former_keys.py`, from both sides."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session
from pskkey.core.keyring import Keyring
from pskkey.model import Group, Handover, Heartbeat, Join, KeyEntry, KeyNewReason, KeyState, Merge, Role
from tests.core.door import ME, Door, advert, join, member, of, one, sent
from tests.core.keys import empty_ring, entry, key
from tests.core.situations import HIGH, LOW, OTHER, acked, sender, sending, state


def group(term: int, master: str, *others: str) -> Group:
    """Return a group of these nodes."""
    ids = (master, *others)
    return Group(term, master, tuple(member(i, sender_id=n) for n, i in enumerate(ids)), tuple(sorted(others)))


def inbound(number: int) -> Session:
    """Return the session that was accepted under this number."""
    return Session(Direction.INBOUND, number)


def comes(door: Door, number: int, node: str, *, epoch: int = 1, size: int = 1) -> None:
    """Let a node join that sends with key 801 and comes from a group of `size` nodes."""
    said = sender(node, sends_with=epoch, key_number=801, lease=0)
    door.accept(number, replace(said, group_size=size))


def send_mark(door: Door, number: int) -> int | None:
    """Return the epoch of the key that member `number` was last told to send with, None if it goes on with its own."""
    states = [a.message for a in door.log if getattr(a, "session", None) == inbound(number) and hasattr(a, "message")]
    last = [s for s in states if isinstance(s, KeyState)][-1]
    return next((e.epoch for e in last.entries if e.send), None)


def merged(size: int, awaited: int = 0) -> Door:
    """Return a master, with the member LOW, that has won a merge with another one of `size` nodes."""
    door = Door(priority=200).start().become_master()
    door.accept(1, join(LOW))
    acked(door, 1, 1)
    door.wait(1.2)
    other = Merge(member(HIGH), 1, size, 1, key=key(801).fingerprint, awaited=awaited)
    assert [m.winner for m in sent(Merge, door.accept(2, other))] == [ME]
    door.wait(0.1)
    assert door.view.next is not None
    acked(door, 1, 2)
    return door


def stays_alive(door: Door, *numbers: int, seconds: float) -> None:
    """Let time pass in which these members are heard."""
    for _ in range(round(seconds / 0.1)):
        door.wait(0.1)
        for number in numbers:
            door.receive(inbound(number), Heartbeat())


# --- the master -------------------------------------------------------------------------------------------------


def test_new_key_waits_for_all_that_come_from_the_other_master() -> None:
    door = merged(2)
    assert sending(door.view) == 1
    comes(door, 3, HIGH)
    acked(door, 3, 2)
    assert sending(door.view) == 1, "one more is on its way"
    comes(door, 4, OTHER)
    assert sending(door.view) == 1, "it has not acknowledged the new key"
    acked(door, 4, 2)
    assert sending(door.view) == 2
    door.wait(0.2)
    assert [send_mark(door, number) for number in (3, 4)] == [2, 2]


def test_new_key_waits_for_a_node_that_the_other_master_had_just_lost() -> None:
    door = merged(1, awaited=1)
    comes(door, 3, HIGH)
    acked(door, 3, 2)
    assert sending(door.view) == 1
    comes(door, 4, OTHER)
    acked(door, 4, 2)
    assert sending(door.view) == 2


def test_newcomer_does_not_count_for_one_that_comes_with_a_key() -> None:
    door = merged(1)
    door.accept(3, join(OTHER))
    acked(door, 3, 2)
    assert sending(door.view) == 1
    comes(door, 4, HIGH)
    acked(door, 4, 2)
    assert sending(door.view) == 2


def test_nobody_is_waited_for_longer_than_it_takes_to_come() -> None:
    door = merged(1)
    stays_alive(door, 1, seconds=2.1)
    assert sending(door.view) == 1
    stays_alive(door, 1, seconds=0.3)
    assert sending(door.view) == 2


def test_joiner_with_another_key_goes_on_with_it_until_all_of_its_group_are_here_and_have_the_new_one() -> None:
    door = Door().start().become_master()
    comes(door, 1, HIGH, size=2)
    acked(door, 1, 1)
    stays_alive(door, 1, seconds=1.2)
    assert door.view.next is not None, "the master rolls above a key that it does not know"
    acked(door, 1, 2)
    stays_alive(door, 1, seconds=0.3)
    assert sending(door.view) == 1, "the other one may still come"
    comes(door, 2, OTHER, size=2)
    assert send_mark(door, 1) is None
    acked(door, 2, 2)
    door.wait(0.2)
    assert sending(door.view) == 2
    assert [send_mark(door, number) for number in (1, 2)] == [2, 2]


def test_joiner_that_comes_alone_leaves_its_key_as_soon_as_it_has_a_newer_one() -> None:
    door = Door().start().become_master()
    door.wait(1.2)
    door.give(RekeyRequested(KeyNewReason.OPERATOR))
    door.wait(0.2)
    assert sending(door.view) == 2
    comes(door, 1, HIGH)
    assert send_mark(door, 1) is None
    acked(door, 1, 2)
    door.wait(0.2)
    assert send_mark(door, 1) == 2
    assert sending(door.view) == 2, "no other key is needed: the group's is above its own"


def test_joiner_with_an_epoch_above_the_groups_is_not_led_to_a_lower_one() -> None:
    door = Door().start().become_master()
    comes(door, 1, HIGH, epoch=7)
    acked(door, 1, 1)
    door.wait(0.2)
    assert send_mark(door, 1) is None
    stays_alive(door, 1, seconds=1.0)
    acked(door, 1, 8)
    door.wait(0.2)
    assert send_mark(door, 1) == 8


def test_joiner_with_the_groups_previous_key_goes_on_with_it_until_it_has_acknowledged() -> None:
    door = Door().start().become_master()
    door.wait(1.2)
    door.give(RekeyRequested(KeyNewReason.OPERATOR))
    door.wait(0.2)
    door.accept(1, sender(HIGH, sends_with=1, key_number=1, lease=0))
    assert send_mark(door, 1) is None
    acked(door, 1, 2)
    door.wait(0.2)
    assert send_mark(door, 1) == 2


def test_previous_key_is_kept_while_a_member_sends_with_it() -> None:
    door = Door().start().become_master()
    door.wait(1.2)
    door.give(RekeyRequested(KeyNewReason.OPERATOR))
    door.wait(8.0)
    door.accept(1, sender(HIGH, sends_with=1, key_number=1, lease=0))
    stays_alive(door, 1, seconds=3.0)
    assert {e.epoch for e in door.view.keys} == {1, 2}


def test_member_that_never_acknowledges_leaves_its_key_in_the_end() -> None:
    door = Door().start().become_master()
    comes(door, 1, HIGH)
    stays_alive(door, 1, seconds=7.0)
    assert send_mark(door, 1) is None
    stays_alive(door, 1, seconds=0.6)
    assert send_mark(door, 1) == 2


def test_update_of_a_join_changes_nothing_of_it() -> None:
    door = Door().start().become_master()
    comes(door, 1, HIGH, size=2)
    again = sender(HIGH, sends_with=1, key_number=801, lease=0)
    door.receive(inbound(1), again)
    door.wait(0.2)
    assert send_mark(door, 1) is None


# --- the member -------------------------------------------------------------------------------------------------


def keys(ring: Keyring) -> list[tuple[int, bool]]:
    """Return the keys of a ring, oldest first: the number of each, and whether it is sent with."""
    return [(int.from_bytes(e.key.client_random), e is ring.current) for e in ring.entries]


def came_with_901(*entries: KeyEntry) -> Keyring:
    """Return the ring of a node that has sent with key 901, epoch 1, as sender 3, and came to a master with these."""
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), sender_id=3), 0.0)
    ring.adopt(state(*entries, sender_id=8), 10.0)
    return ring


def test_member_without_a_send_mark_goes_on_with_its_key_and_its_lease() -> None:
    ring = came_with_901(entry(2, 902), entry(3, 903))
    assert keys(ring) == [(901, True), (902, False), (903, False)]
    assert ring.state().sender_id == 3, "under this key the other id may be somebody else's"
    assert ring.state().senders == {3, 8}
    assert ring.sends_former_key
    ring.adopt(state(entry(2, 902), entry(3, 903, send=True), sender_id=8), 11.0)
    assert keys(ring) == [(901, False), (902, False), (903, True)]
    assert ring.state().sender_id == 8
    assert not ring.sends_former_key
    ring.follow_tick(21.0)
    assert keys(ring)[-1] == (903, True)
    assert (901, False) not in keys(ring), "it was kept for what was under way"


def test_of_two_keys_of_one_epoch_the_one_that_is_sent_with_is_installed() -> None:
    ring = came_with_901(entry(1, 902), entry(2, 903))
    assert keys(ring) == [(901, True), (903, False)]
    ring.adopt(state(entry(1, 902), entry(2, 903, send=True)), 11.0)
    assert keys(ring) == [(901, False), (903, True)], "others of our group may still send with 901"
    ring.adopt(state(entry(2, 903, send=True), entry(1, 904)), 12.0)
    assert keys(ring) == [(903, True), (904, False)], "a key that is only kept makes way"


def test_key_that_stood_back_is_there_when_the_former_one_is_left() -> None:
    ring = came_with_901(entry(1, 902))
    ring.adopt(state(entry(1, 902, send=True)), 11.0)
    assert keys(ring) == [(902, True)]


def test_former_key_may_be_one_that_the_master_lists() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), sender_id=3), 0.0)
    ring.adopt(state(entry(1, 901), entry(2, 902), sender_id=8), 1.0)
    assert keys(ring) == [(901, True), (902, False)]
    assert ring.state().sender_id == 3
    ring.adopt(state(entry(1, 901), entry(2, 902, send=True), sender_id=8), 2.0)
    assert keys(ring) == [(901, False), (902, True)]
    assert ring.state().sender_id == 8


def test_both_keys_after_a_former_one_that_the_master_lists_can_be_read() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(1, 901), entry(2, 902), entry(3, 903)), 1.0)
    assert keys(ring) == [(901, True), (902, False), (903, False)]


def test_key_that_is_only_kept_makes_way_where_three_are_in_use() -> None:
    ring = came_with_901(entry(2, 902, send=True))
    assert keys(ring) == [(901, False), (902, True)]
    ring.adopt(state(entry(2, 902), entry(3, 903), entry(4, 904)), 11.0)
    assert keys(ring) == [(902, True), (903, False), (904, False)]


def test_third_group_is_come_to_with_the_same_key() -> None:
    ring = came_with_901(entry(2, 902))
    ring.adopt(state(entry(5, 905), sender_id=9), 11.0)
    assert keys(ring) == [(901, True), (905, False)]
    assert ring.state().sender_id == 3


def test_newcomer_that_is_not_told_what_to_send_with_sends_nothing() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901), entry(2, 902)), 0.0)
    assert ring.current is None
    assert not ring.sends_former_key


@pytest.mark.parametrize("own_epoch", [4, 5, 6, 7])
def test_member_that_becomes_master_leads_with_the_key_that_it_sends_with(own_epoch: int) -> None:
    ring = empty_ring()
    ring.adopt(state(entry(own_epoch, 901, send=True)), 0.0)
    ring.adopt(state(entry(5, 902), entry(6, 903)), 1.0)
    ring.lead(2.0)
    assert ring.current is not None
    assert ring.current.key == key(901)
    assert not ring.sends_former_key
    assert len({e.epoch for e in ring.entries}) == len(ring.entries)
    ring.install_fresh(key(904), 3.0)
    assert ring.newest is not None
    assert ring.newest.epoch > max(own_epoch, 6)


def test_of_two_keys_of_one_epoch_a_new_master_has_that_of_its_group() -> None:
    ring = came_with_901(entry(1, 902), entry(2, 903))
    ring.adopt(state(entry(1, 902), entry(2, 903, send=True)), 11.0)
    ring.lead(11.1)
    assert keys(ring) == [(902, False), (903, True)]


def test_former_key_and_its_lease_outlive_the_process() -> None:
    ring = came_with_901(entry(2, 902))
    again = empty_ring(saved=ring.saved(None))
    assert keys(again) == [(901, True), (902, False)]
    assert again.state() == ring.state()
    assert again.sends_former_key


def joined(door: Door) -> Join:
    """Return the last JOIN of a node."""
    return sent(Join, door.log)[-1]


def test_join_counts_the_members_that_may_come_as_well() -> None:
    door = Door().start()
    session = door.become_client(HIGH, OTHER)
    one(Connect, door.give(Disconnected(session, "reset")))
    door.wait(0.2)
    door.hear(advert(OTHER, Role.MASTER, term=2))
    door.give(Connected(of(Connect, door.log)[-1].session))
    assert joined(door).group_size == 3, "HIGH, OTHER and we; LOW was the master and is dead"


def test_join_counts_a_master_that_hands_over() -> None:
    door = Door().start()
    session = door.become_client(HIGH)
    new = one(Connect, door.receive(session, Handover(member(OTHER), 1)))
    door.give(Connected(new.session))
    assert joined(door).group_size == 3


def test_join_counts_those_that_had_not_come_yet_when_the_next_master_was_lost_too() -> None:
    door = Door().start()
    session = door.become_client(HIGH, OTHER)
    one(Connect, door.give(Disconnected(session, "reset")))
    door.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, door.log)[-1].session
    door.give(Connected(new))
    door.receive(new, group(2, OTHER, ME), state(entry(1, 901, send=True)))
    again = one(Connect, door.give(Disconnected(new, "reset")))
    door.give(Connected(again.session))
    assert joined(door).group_size == 2, "HIGH may come; OTHER is dead"
    door.wait(3.0)


def test_master_that_yields_counts_its_members_and_those_that_it_has_just_lost() -> None:
    door = Door().start().become_master()
    door.accept(1, join(HIGH))
    door.accept(2, join(OTHER))
    door.give(Disconnected(inbound(1), "reset"))
    door.wait(0.2)
    door.hear(advert(LOW, Role.MASTER, members=5))
    merge = of(Connect, door.log)[-1]
    door.give(Connected(merge.session))
    asked = sent(Merge, door.log)[-1]
    assert (asked.members, asked.awaited, asked.key) == (2, 1, key(1).fingerprint)
    door.receive(merge.session, Merge(member(LOW), 1, 5, 1, winner=LOW))
    door.give(Connected(of(Connect, door.log)[-1].session))
    assert joined(door).group_size == 3
