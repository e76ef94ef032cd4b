"""A member applies each GROUP_CHANGE to the map that it has (`core/known_group.py`)."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Disconnect
from pskkey.core.events import Attached, Connected, Disconnected, Session
from pskkey.core.notices import Fenced
from pskkey.core.roster import fingerprint
from pskkey.model import GroupChange, Join, KeyEntry, KeyState, KeyWatch, Role, Times
from tests.core.changing import THIRD, enter, to
from tests.core.harness import ME, NodeHarness, advert, member, of, one, sent
from tests.core.keys import key
from tests.core.renewing import NEW, OLD, change_psk
from tests.core.situations import HIGH, LOCAL, LOW, OTHER, SAME, inbound, role


def joined(*others: str) -> tuple[NodeHarness, Session, str]:
    """Return a member of LOW that has got its map as a change, its session, and the map that its JOIN named."""
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    (named,) = sent(Join, harness.give(Connected(connect.session, OLD)))
    entries = tuple(member(node, sender_id=number) for number, node in enumerate((LOW, ME, *others)))
    whole = GroupChange(1, 5, master=LOW, members=entries, times=Times(0.5, 1.5), level=1, key_age=50, has_keys=True)
    keys = KeyState(1, frozenset(range(len(entries))), (KeyEntry(1, key(901), send=True),))
    harness.receive(connect.session, whole, keys)
    assert role(harness) is Role.CLIENT
    assert named.knows is not None
    return harness, connect.session, named.knows


def test_join_of_a_node_without_a_map_names_none() -> None:
    _, _, knows = joined(HIGH)
    assert knows == ""


def test_member_applies_one_change_after_the_other() -> None:
    harness, session, _ = joined(HIGH)
    assert harness.members == {LOW, HIGH}
    harness.receive(session, GroupChange(1, 6, 5, members=(member(OTHER),)))
    assert harness.members == {LOW, HIGH, OTHER}
    harness.receive(session, GroupChange(1, 9, 6, left=(HIGH,)))
    assert harness.members == {LOW, OTHER}
    group = harness.node.group()
    assert group is not None
    assert group.succession == (OTHER, ME)


def test_sender_ids_in_a_change_reach_the_session_managers() -> None:
    harness, session, _ = joined(HIGH)
    harness.give(Attached(LOCAL, SAME))
    (state,) = sent(KeyState, harness.receive(LOCAL, KeyWatch(will_send=True, context=9)))
    assert state.senders == {0, 1, 2}
    (state,) = sent(KeyState, harness.receive(session, GroupChange(1, 6, 5, members=(member(OTHER, sender_id=7),))))
    assert (sorted(state.senders), state.sender_id) == ([0, 1, 2, 7], 1), "the new id follows from the entry"
    moved = replace(member(OTHER, sender_id=7), addresses=("10.0.0.9",))
    assert not sent(KeyState, harness.receive(session, GroupChange(1, 7, 6, members=(moved,)))), "no other sender id"
    left = GroupChange(1, 8, 7, members=(member(HIGH, sender_id=8),), left=(OTHER,))
    (state,) = sent(KeyState, harness.receive(session, left))
    assert sorted(state.senders) == [0, 1, 2, 7, 8], "records of a node that has left may still arrive"
    free = GroupChange(1, 9, 8, members=(moved,), senders=frozenset({0, 1, 8}))
    (state,) = sent(KeyState, harness.receive(session, free))
    assert sorted(state.senders) == [0, 1, 8]


def test_sender_ids_of_entries_count_with_the_keys_that_follow() -> None:
    """The ids of another master belong to its keys. They do not count before these arrive."""
    harness, session, _ = joined(HIGH)
    harness.give(Attached(LOCAL, SAME))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=9))
    change = GroupChange(1, 6, 5, members=(member(OTHER, sender_id=7),), has_keys=True)
    assert not sent(KeyState, harness.receive(session, change))


def test_age_of_the_key_in_a_change_counts_for_the_next_master() -> None:
    harness, session, _ = joined()
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert role(harness) is Role.MASTER
    (change, _) = to(inbound(1), enter(harness, 1, HIGH))
    assert isinstance(change, GroupChange)
    assert change.key_age == 50


@pytest.mark.parametrize(
    "change",
    [
        GroupChange(1, 7, 6, members=(member(OTHER),)),
        GroupChange(1, 6, 5, left=(OTHER,)),
        GroupChange(1, 6, knows="0f" * 8),
        GroupChange(1, 6),
    ],
    ids=["one change is missing", "an unknown member has left", "a map that JOIN did not name", "nothing before"],
)
def test_change_that_does_not_fit_ends_the_session_and_the_node_joins_again(change: GroupChange) -> None:
    harness, session, _ = joined(HIGH)
    before = harness.node.group()
    assert before is not None
    actions = harness.receive(session, change)
    closed = one(Disconnect, actions)
    assert closed.session == session
    assert closed.error is not None
    assert closed.error.code == "protocol"
    again = one(Connect, actions)
    assert again.peer == LOW
    (named,) = sent(Join, harness.give(Connected(again.session, OLD)))
    assert named.knows == fingerprint(before)
    keys = KeyState(1, frozenset(range(3)), (KeyEntry(1, key(901), send=True),))
    harness.receive(again.session, GroupChange(1, 9, knows=named.knows, has_keys=True), keys)
    assert role(harness) is Role.CLIENT
    assert harness.members == {LOW, HIGH}
    harness.receive(again.session, GroupChange(1, 10, 9, left=(HIGH,)))
    assert harness.members == {LOW}


def test_two_sessions_of_a_renewal_have_their_own_numbers() -> None:
    harness, first, _ = joined(HIGH)
    second = one(Connect, change_psk(harness, NEW, OLD)).session
    (named,) = sent(Join, harness.give(Connected(second, NEW)))
    harness.receive(first, GroupChange(1, 6, 5, members=(member(OTHER),)))
    assert named.knows is not None
    harness.receive(second, GroupChange(1, 8, knows=named.knows, members=(member(THIRD),), has_keys=True))
    assert harness.view.master_session == second
    assert harness.members == {LOW, HIGH, THIRD}, "relative to the map that JOIN named"
    harness.receive(second, GroupChange(1, 9, 8, left=(HIGH,)))
    assert harness.members == {LOW, THIRD}


@pytest.mark.parametrize("changes", [1, 20])
def test_map_that_the_join_of_a_renewal_names_may_change_before_the_answer_comes(changes: int) -> None:
    harness, first, _ = joined(HIGH)
    second = one(Connect, change_psk(harness, NEW, OLD)).session
    (named,) = sent(Join, harness.give(Connected(second, NEW)))
    for number in range(changes):
        new = member(f"aaaa{number:04x}")
        harness.receive(first, GroupChange(1, 6 + number, 5 + number, members=(new,)))
    assert named.knows is not None
    actions = harness.receive(second, GroupChange(1, 99, knows=named.knows, members=(member(THIRD),), has_keys=True))
    assert [d.session for d in of(Disconnect, actions)] == [first]
    assert harness.members == {LOW, HIGH, THIRD}


def test_member_of_a_lost_master_keeps_its_map_with_the_next_one() -> None:
    harness, session, _ = joined(OTHER, HIGH)
    former = harness.node.group()
    assert former is not None
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    following = one(Connect, harness.give(Disconnected(retry.session, "refused"))).session
    (named,) = sent(Join, harness.give(Connected(following, OLD)))
    assert named.knows == fingerprint(former)
    harness.receive(following, GroupChange(2, 1, knows=fingerprint(former), master=OTHER, left=(LOW,), has_keys=True))
    group = harness.node.group()
    assert group is not None
    assert (group.master, group.term, harness.members) == (OTHER, 2, {OTHER, HIGH})
    assert (group.times, group.succession) == (former.times, (ME, HIGH))


@pytest.mark.parametrize(
    "change", [GroupChange(0, 6, 5), GroupChange(1, 6, 5, master=HIGH)], ids=["an old term", "another master"]
)
def test_change_with_an_old_term_or_another_master_ends_the_session(change: GroupChange) -> None:
    harness, session, _ = joined(HIGH)
    actions = harness.receive(session, change)
    assert one(Fenced, actions).peer.id == LOW
    assert session in [d.session for d in of(Disconnect, actions)]
