"""What seeds of the simulator have shown of groups and their members: each as the few events that it takes."""

import pytest

from pskkey.core.actions import Connect, Send
from pskkey.core.events import (
    Connected,
    Direction,
    Disconnected,
    Session,
    SettingsChanged,
    Timeout,
)
from pskkey.core.leases import Leases
from pskkey.core.notices import Slept
from pskkey.core.settings import Timing
from pskkey.model import (
    ErrorMessage,
    Group,
    Handover,
    KeyState,
    Merge,
    Role,
)
from tests.core.door import Door, advert, join, member, of, one, sent
from tests.core.keys import entry
from tests.core.situations import HIGH, LOW, OTHER, sender, state, taken_over

# --- peers that talk nonsense: the seeds of kind "babbler" ------------------------------------------------------


def test_a_member_that_asks_for_a_merge_is_no_member_any_more() -> None:
    door = Door(priority=200).start().become_master()
    door.accept(1, join(LOW))
    assert door.members == {LOW}
    door.receive(Session(Direction.INBOUND, 1), Merge(member(LOW), 1, 1, 1))
    assert not door.members
    later = door.wait(1.0)
    assert not [a for a in of(Send, later) if a.session == Session(Direction.INBOUND, 1)]


def test_of_an_id_that_another_is_said_to_have_as_well_the_lease_is_ours() -> None:
    door = Door().start()
    session = door.become_client(HIGH)
    members = (member(LOW, sender_id=0), member("55555555", sender_id=1), member(HIGH, sender_id=1))
    door.receive(session, Group(1, LOW, members, ("55555555", HIGH)))
    door.receive(session, state(entry(1, 901, send=True), sender_id=1))
    retry = one(Connect, door.give(Disconnected(session, "reset")))
    door.give(Disconnected(retry.session, "refused"))
    assert door.node.key_state().sender_id == 1
    assert sent(KeyState, door.accept(1, join(HIGH)))[0].sender_id is None


def test_of_an_id_that_the_last_master_told_of_twice_nobody_has_the_lease() -> None:
    leases = Leases()
    leases.inherit({LOW: 4, HIGH: 4, OTHER: 5}, frozenset({5}), frozenset({1}))
    assert [leases.sender_id(node) for node in (LOW, HIGH, OTHER)] == [None, None, 5]
    assert leases.in_use() == {4, 5}


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_member_map_of_a_master_whose_keys_have_not_come_is_not_taken_for_that_of_ours(is_killed: bool) -> None:
    door = Door().start()
    session = door.become_client(HIGH)
    door.give(Disconnected(session, "reset"))
    door = door.restarted(now=door.now + 120.0)
    again = one(Connect, door.hear(advert(OTHER, Role.MASTER, term=5)))
    door.give(Connected(again.session))
    members = (member(OTHER, sender_id=0), member("66666666", sender_id=2), member("55555555", sender_id=8))
    door.receive(again.session, Group(5, OTHER, members, ("55555555", "66666666")))
    if is_killed:
        door = door.restarted()
    else:
        door.give(Disconnected(again.session, "reset"))
        door.give(Disconnected(of(Connect, door.log)[-1].session, "refused"))
    door.wait(3.0)
    group = door.node.group()
    assert door.view.role is Role.MASTER
    assert group is not None
    assert door.node.key_state().sender_id == 1, "as we had it with the keys that we hold"
    fellow = sent(KeyState, door.accept(1, sender(HIGH, sends_with=1, key_number=901, lease=2)))
    assert fellow[0].sender_id == 2, "as under the key that it sends with, whoever has that id under another"


# --- groups that are full: seed 52 ------------------------------------------------------------------------------


def test_whom_the_new_master_refuses_does_not_become_one_beside_it() -> None:
    door = Door().start()
    session = door.become_client(LOW, HIGH, master=OTHER)
    new = one(Connect, door.receive(session, Handover(member(LOW), 2)))
    door.hear(advert(LOW, Role.MASTER, term=2))
    door.give(Connected(new.session))
    door.receive(new.session, ErrorMessage("group_full", "the group has 3 members"))
    for _ in range(40):
        door.wait(0.25)
        assert door.view.role is not Role.MASTER
        for connect in of(Connect, door.log)[-1:]:
            door.give(Connected(connect.session))
            door.receive(connect.session, ErrorMessage("group_full", "the group has 3 members"))


def test_a_newcomer_does_not_take_the_place_of_a_member_that_is_about_to_come_over() -> None:
    door = taken_over(max_members=3)
    assert not door.members
    door.accept(1, join(OTHER))
    door.accept(2, join("33333333"))
    door.accept(3, join(HIGH))
    assert door.members == {OTHER, HIGH}


def test_who_is_not_eligible_any_more_neither_claims_nor_asks_to_be_called_for_ever() -> None:
    door = Door().start()
    door.hear(advert(LOW, Role.LISTENING))
    door.wait(1.1)
    door.give(SettingsChanged("n5", 100, eligible=False, max_members=9, preempt=False, timing=Timing()))
    for _ in range(20):
        deadline = door.node.next_deadline()
        assert deadline is not None
        door.now = max(door.now, deadline)
        door.give(Timeout())
    assert door.view.role is Role.LISTENING
    assert door.now > 105.0


def test_a_listener_that_is_refused_again_and_again_is_not_taken_for_a_sleeper() -> None:
    door = Door().start()
    door.hear(advert(LOW, Role.MASTER))
    tried = 0
    for _ in range(400):
        for connect in of(Connect, door.log)[tried:]:
            tried += 1
            door.give(Connected(connect.session))
            door.receive(connect.session, ErrorMessage("group_full", "the group has 3 members"))
        door.wait(0.1)
        door.hear(advert(LOW, Role.MASTER))  # its beacon
    assert tried > 4
    assert not of(Slept, door.log)


# --- leases granted at the last moment: seed 144 ----------------------------------------------------------------


@pytest.mark.parametrize(("claimed", "goes_on"), [(7, True), (2, False)])
def test_a_lease_that_the_last_master_granted_unknown_to_us_is_honoured_unless_somebody_has_it(
    claimed: int, goes_on: bool
) -> None:
    door = taken_over()
    welcome = sent(KeyState, door.accept(1, sender(OTHER, sends_with=1, key_number=901, lease=claimed)))
    assert welcome[0].sender_id == (claimed if goes_on else None)
