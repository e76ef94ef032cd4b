"""A master sends each member only what has changed in the group (`core/roster.py`, `core/group_sender.py`)."""

from dataclasses import replace

import pytest

from pskkey.core.events import Disconnected, RekeyRequested, SettingsChanged
from pskkey.core.roster import apply_change, fingerprint
from pskkey.core.settings import Timing
from pskkey.model import Group, GroupChange, Heartbeat, KeyAck, KeyNewReason, KeyState, Times
from tests.core.changing import THIRD, beat, come, enter, ids, kinds, leading, to
from tests.core.harness import ME, join, member
from tests.core.situations import HIGH, LOW, OTHER, inbound, sender


def test_joiner_that_names_its_map_gets_group_change_and_key_state_and_another_group_and_key_state() -> None:
    harness = leading(LOW)
    assert kinds(to(inbound(2), enter(harness, 2, HIGH, ""))) == [GroupChange, KeyState]
    assert kinds(to(inbound(3), enter(harness, 3, OTHER, None))) == [Group, KeyState]


def test_both_kinds_of_joiners_learn_the_same_group() -> None:
    harness = leading(LOW)
    (change, state), (group, other_state) = (
        to(inbound(2), enter(harness, 2, HIGH, "")),
        to(inbound(3), enter(harness, 3, OTHER, None)),
    )
    assert isinstance(change, GroupChange)
    assert isinstance(group, Group)
    assert ids(change.members) - {HIGH} == ids(group.members) - {OTHER} == {ME, LOW}
    assert (change.master, change.times, change.level) == (group.master, group.times, group.level)
    assert (change.base, change.knows, change.left, change.has_keys) == (0, "", (), True)
    assert state == other_state


def test_member_that_comes_costs_each_other_one_change_of_the_difference() -> None:
    harness = leading(LOW, HIGH)
    before = len(harness.log)
    come(harness, 3, OTHER)
    for number in (1, 2):
        (change,) = to(inbound(number), harness.log[before:])
        assert isinstance(change, GroupChange)
        assert [entry.id for entry in change.members] == [OTHER]
        assert (change.left, change.master, change.times, change.level, change.senders) == ((), None, None, None, None)
        assert not change.has_keys
    assert kinds(to(inbound(3), harness.log[before:])) == [GroupChange, KeyState], "its own one is in its map already"


def test_member_that_goes_costs_each_other_one_change_of_the_difference() -> None:
    harness = leading(LOW, HIGH, OTHER)
    before = len(harness.log)
    harness.give(Disconnected(inbound(3), "reset"))
    beat(harness, 4)
    for number in (1, 2):
        (change,) = to(inbound(number), harness.log[before:])
        assert isinstance(change, GroupChange)
        assert (change.left, change.members, change.has_keys) == ((OTHER,), (), False)


def test_several_changes_at_once_are_one_change() -> None:
    harness = leading(LOW, HIGH)
    before = len(harness.log)
    for number, node in ((3, OTHER), (4, THIRD)):
        enter(harness, number, node)
        harness.receive(inbound(number), Heartbeat())
    harness.give(Disconnected(inbound(2), "reset"))
    beat(harness, 0.3)
    first, *more = to(inbound(1), harness.log[before:])
    changes = [change for change in (first, *more) if isinstance(change, GroupChange)]
    assert len(changes) <= 2, "the first of them is sent at once"
    assert {entry.id for change in changes for entry in change.members} == {OTHER, THIRD}
    assert [node for change in changes for node in change.left] == [HIGH]


def test_each_change_is_relative_to_the_one_before() -> None:
    harness = leading(LOW)
    for number, node in ((2, HIGH), (3, OTHER)):
        come(harness, number, node)
    harness.give(Disconnected(inbound(2), "reset"))
    beat(harness, 4)
    changes = [m for m in to(inbound(1), harness.log) if isinstance(m, GroupChange)]
    assert [change.base for change in changes] == [0, *(change.number for change in changes[:-1])]
    assert len({change.number for change in changes}) == len(changes) > 3


def test_member_with_other_addresses_is_in_the_change_and_nothing_else() -> None:
    harness = leading(LOW, HIGH)
    before = len(harness.log)
    moved = replace(member(HIGH), addresses=("10.0.9.9",))
    harness.receive(inbound(2), replace(join(HIGH), member=moved, knows=""))
    beat(harness, 0.3)
    (change,) = to(inbound(1), harness.log[before:])
    assert isinstance(change, GroupChange)
    assert [(entry.id, entry.addresses) for entry in change.members] == [(HIGH, ("10.0.9.9",))]


def test_sender_id_is_in_the_entry_for_others_and_in_the_key_state_of_the_sender() -> None:
    harness = leading(LOW, HIGH)
    before = len(harness.log)
    harness.receive(inbound(2), replace(join(HIGH), sender=True, knows=""))
    beat(harness, 0.3)
    (change,) = to(inbound(1), harness.log[before:])
    assert isinstance(change, GroupChange)
    (leased,) = (entry.sender_id for entry in change.members)
    assert leased is not None
    assert change.senders is None, "it follows from the entry"
    mine, state = to(inbound(2), harness.log[before:])
    assert isinstance(mine, GroupChange)
    assert isinstance(state, KeyState)
    assert (mine.has_keys, mine.senders) == (True, None)
    assert state == replace(state, sender_id=leased, senders=frozenset({leased}))


def test_acknowledgements_cost_nothing() -> None:
    harness = leading(LOW, HIGH)
    come(harness, 3, OTHER)
    before = len(harness.log)
    harness.receive(inbound(3), KeyAck(1))
    beat(harness, 1)
    assert [to(inbound(number), harness.log[before:]) for number in (1, 2, 3)] == [[], [], []]


def test_master_sends_its_new_times_and_only_them() -> None:
    harness = leading(LOW)
    before = len(harness.log)
    timing = replace(Timing(), dead_after=3.0)
    harness.give(SettingsChanged("n5", 100, eligible=True, max_members=1024, preempt=False, timing=timing))
    beat(harness, 0.3)
    (change,) = to(inbound(1), harness.log[before:])
    assert isinstance(change, GroupChange)
    assert (change.times, change.members) == (Times(0.5, 3.0), ())


def test_rekey_costs_each_member_one_key_state_for_each_pass_and_no_map() -> None:
    harness = leading(LOW, HIGH, OTHER)
    before = len(harness.log)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    beat(harness, 0.2)
    coming = harness.view.next
    assert coming is not None
    for number in (1, 2, 3):
        (state,) = to(inbound(number), harness.log[before:])
        assert isinstance(state, KeyState), "the next key"
        harness.receive(inbound(number), KeyAck(coming.epoch))
    beat(harness, 0.3)
    assert [kinds(to(inbound(n), harness.log[before:])) for n in (1, 2, 3)] == [[KeyState] * 2] * 3, "it is current"
    beat(harness, 11)
    assert [kinds(to(inbound(n), harness.log[before:])) for n in (1, 2, 3)] == [[KeyState] * 3] * 3, "one is retired"


def test_member_that_reads_only_group_gets_the_whole_group_after_a_change() -> None:
    harness = leading(LOW)
    come(harness, 2, HIGH, None)
    before = len(harness.log)
    come(harness, 3, OTHER)
    groups = [m for m in to(inbound(2), harness.log[before:]) if isinstance(m, Group)]
    assert ids(groups[-1].members) == {ME, LOW, HIGH, OTHER}
    assert not [m for m in to(inbound(2), harness.log) if isinstance(m, GroupChange)]


def test_member_that_renews_its_session_and_names_its_map_gets_a_change_without_members() -> None:
    harness = leading(LOW, HIGH)
    group = None
    for message in to(inbound(2), harness.log):
        group = apply_change(group, message) if isinstance(message, GroupChange) else group
    assert group is not None
    (change, _) = to(inbound(3), enter(harness, 3, HIGH, fingerprint(group)))
    assert isinstance(change, GroupChange)
    assert (change.knows, change.base, change.members, change.left) == (fingerprint(group), 0, (), ())


def test_joiner_with_another_map_gets_all_entries() -> None:
    harness = leading(LOW, HIGH)
    (change, _) = to(inbound(3), enter(harness, 3, OTHER, "0f" * 8))
    assert isinstance(change, GroupChange)
    assert (change.knows, ids(change.members)) == ("", {ME, LOW, HIGH, OTHER})


def test_age_of_the_key_reaches_a_joiner_and_a_member_that_leaves_its_former_key() -> None:
    harness = leading(LOW)
    beat(harness, 60)
    age = int(harness.now - 100)
    (change, state) = to(inbound(2), enter(harness, 2, HIGH, asked=sender(HIGH, sends_with=1, key_number=801, lease=0)))
    assert isinstance(change, GroupChange)
    assert isinstance(state, KeyState)
    assert change.key_age == pytest.approx(age, abs=3)
    assert not any(entry.send for entry in state.entries)
    before = len(harness.log)
    harness.receive(inbound(2), Heartbeat())
    beat(harness, 0.3)
    coming = harness.view.next
    assert coming is not None, "its key has the epoch of ours"
    for number in (1, 2):
        harness.receive(inbound(number), KeyAck(coming.epoch))
    beat(harness, 2)
    states = [m for m in to(inbound(2), harness.log[before:]) if isinstance(m, KeyState)]
    assert any(entry.send for entry in states[-1].entries)


def test_age_of_a_key_that_is_used_since_long_reaches_a_member_that_leaves_its_former_key() -> None:
    harness = leading(LOW)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    beat(harness, 0.2)
    harness.receive(inbound(1), KeyAck(2))
    beat(harness, 60)
    enter(harness, 2, HIGH, asked=sender(HIGH, sends_with=1, key_number=801, lease=0))
    harness.receive(inbound(2), Heartbeat())
    before = len(harness.log)
    beat(harness, 0.3)
    harness.receive(inbound(2), KeyAck(2))
    beat(harness, 0.3)
    messages = to(inbound(2), harness.log[before:])
    (age,) = (m.key_age for m in messages if isinstance(m, GroupChange) and m.has_keys)
    assert age == pytest.approx(60, abs=2)
    assert kinds(messages)[-2:] == [GroupChange, KeyState], "the age is there before the key"
