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
from pskkey.core.leases import LeaseTable
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
from tests.core.harness import NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import entry
from tests.core.situations import HIGH, LOW, OTHER, sender, state, taken_over

# --- peers that talk nonsense: the seeds of kind "babbler" ------------------------------------------------------


def test_a_member_that_asks_for_a_merge_is_no_member_any_more() -> None:
    harness = NodeHarness(priority=200).start().become_master()
    harness.accept(1, join(LOW))
    assert harness.members == {LOW}
    harness.receive(Session(Direction.INBOUND, 1), Merge(member(LOW), 1, 1, 1))
    assert not harness.members
    later = harness.wait(1.0)
    assert not [a for a in of(Send, later) if a.session == Session(Direction.INBOUND, 1)]


def test_of_an_id_that_another_is_said_to_have_as_well_the_lease_is_ours() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    members = (member(LOW, sender_id=0), member("55555555", sender_id=1), member(HIGH, sender_id=1))
    harness.receive(session, Group(1, LOW, members, ("55555555", HIGH)))
    harness.receive(session, state(entry(1, 901, send=True), sender_id=1))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.node.key_state().sender_id == 1
    assert sent(KeyState, harness.accept(1, join(HIGH)))[0].sender_id is None


def test_of_an_id_that_the_last_master_told_of_twice_nobody_has_the_lease() -> None:
    leases = LeaseTable()
    leases.inherit({LOW: 4, HIGH: 4, OTHER: 5}, frozenset({5}), frozenset({1}))
    assert [leases.sender_id(node) for node in (LOW, HIGH, OTHER)] == [None, None, 5]
    assert leases.in_use() == {4, 5}


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_member_map_of_a_master_whose_keys_have_not_come_is_not_taken_for_that_of_ours(is_killed: bool) -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.give(Disconnected(session, "reset"))
    harness = harness.restart(now=harness.now + 120.0)
    again = one(Connect, harness.hear(advert(OTHER, Role.MASTER, term=5)))
    harness.give(Connected(again.session))
    members = (member(OTHER, sender_id=0), member("66666666", sender_id=2), member("55555555", sender_id=8))
    harness.receive(again.session, Group(5, OTHER, members, ("55555555", "66666666")))
    if is_killed:
        harness = harness.restart()
    else:
        harness.give(Disconnected(again.session, "reset"))
        harness.give(Disconnected(of(Connect, harness.log)[-1].session, "refused"))
    harness.wait(3.0)
    group = harness.node.group()
    assert harness.view.role is Role.MASTER
    assert group is not None
    assert harness.node.key_state().sender_id == 1, "as we had it with the keys that we hold"
    fellow = sent(KeyState, harness.accept(1, sender(HIGH, sends_with=1, key_number=901, lease=2)))
    assert fellow[0].sender_id == 2, "as under the key that it sends with, whoever has that id under another"


# --- groups that are full: seed 52 ------------------------------------------------------------------------------


def test_whom_the_new_master_refuses_does_not_become_one_beside_it() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(LOW, HIGH, master=OTHER)
    new = one(Connect, harness.receive(session, Handover(member(LOW), 2)))
    harness.hear(advert(LOW, Role.MASTER, term=2))
    harness.give(Connected(new.session))
    harness.receive(new.session, ErrorMessage("group_full", "the group has 3 members"))
    for _ in range(40):
        harness.wait(0.25)
        assert harness.view.role is not Role.MASTER
        for connect in of(Connect, harness.log)[-1:]:
            harness.give(Connected(connect.session))
            harness.receive(connect.session, ErrorMessage("group_full", "the group has 3 members"))


def test_a_newcomer_does_not_take_the_place_of_a_member_that_is_about_to_come_over() -> None:
    harness = taken_over(max_members=3)
    assert not harness.members
    harness.accept(1, join(OTHER))
    harness.accept(2, join("33333333"))
    harness.accept(3, join(HIGH))
    assert harness.members == {OTHER, HIGH}


def test_who_is_not_eligible_any_more_neither_claims_nor_asks_to_be_called_for_ever() -> None:
    harness = NodeHarness().start()
    harness.hear(advert(LOW, Role.LISTENING))
    harness.wait(1.1)
    harness.give(SettingsChanged("n5", 100, eligible=False, max_members=9, preempt=False, timing=Timing()))
    for _ in range(20):
        deadline = harness.node.next_deadline()
        assert deadline is not None
        harness.now = max(harness.now, deadline)
        harness.give(Timeout())
    assert harness.view.role is Role.LISTENING
    assert harness.now > 105.0


def test_a_listener_that_is_refused_again_and_again_is_not_taken_for_a_sleeper() -> None:
    harness = NodeHarness().start()
    harness.hear(advert(LOW, Role.MASTER))
    tried = 0
    for _ in range(400):
        for connect in of(Connect, harness.log)[tried:]:
            tried += 1
            harness.give(Connected(connect.session))
            harness.receive(connect.session, ErrorMessage("group_full", "the group has 3 members"))
        harness.wait(0.1)
        harness.hear(advert(LOW, Role.MASTER))  # its beacon
    assert tried > 4
    assert not of(Slept, harness.log)


# --- leases granted at the last moment: seed 144 ----------------------------------------------------------------


@pytest.mark.parametrize(("claimed", "goes_on"), [(7, True), (2, False)])
def test_a_lease_that_the_last_master_granted_unknown_to_us_is_honoured_unless_somebody_has_it(
    claimed: int, goes_on: bool
) -> None:
    harness = taken_over()
    welcome = sent(KeyState, harness.accept(1, sender(OTHER, sends_with=1, key_number=901, lease=claimed)))
    assert welcome[0].sender_id == (claimed if goes_on else None)
