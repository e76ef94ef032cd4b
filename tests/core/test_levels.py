"""Nodes of different versions: who can be in one group, and its level."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Advertise, Connect, Disconnect
from pskkey.core.events import Accepted, Connected, Direction, Disconnected, Session
from pskkey.core.levels import explain, find_stranger
from pskkey.core.notices import MemberRefused
from pskkey.model import ErrorMessage, Group, Heartbeat, Join, KeyEntry, KeyState, Levels, Merge, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, refusal, sent
from tests.core.keys import key

LOW, HIGH, OTHER = "1" * 16, "f" * 16, "2" * 16


def joiner(node_id: str, lowest: int, highest: int) -> Join:
    return replace(join(node_id), member=member(node_id, speaks=Levels(lowest, highest)))


def kinds_of(harness: NodeHarness) -> list[str]:
    """Return the kinds of the conditions of a node."""
    return [condition.kind for condition in harness.view.conditions]


def level_of(harness: NodeHarness) -> int:
    """Return the level of the group of a master."""
    group = harness.node.group()
    assert group is not None
    return group.level


def level_after(harness: NodeHarness, number: int, message: Join) -> int:
    """Return the level in the last GROUP after a JOIN."""
    return sent(Group, harness.accept(number, message) + harness.wait(0.2))[-1].level


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 1), (1, 2), 1),
        ((1, 3), (2, 5), 3),
        ((3, 3), (1, 3), 3),
        ((1, 1), (9, 12), None),
        ((2, 3), (1, 1), None),
    ],
)
def test_common_level_is_the_highest_one_that_both_speak(
    one: tuple[int, int], other: tuple[int, int], common: int | None
) -> None:
    assert Levels(*one).common(Levels(*other)) == common
    assert Levels(*other).common(Levels(*one)) == common


def test_sentence_names_both_ranges_and_the_versions() -> None:
    old, new = member(LOW), replace(member(HIGH, speaks=Levels(9, 12)), version="3.1.0")
    assert explain(old, new) == (
        "n1 speaks protocol level 1, but nf (pskkey 3.1.0) speaks protocol levels 9 to 12: there is no common level"
    )


def test_members_that_speak_no_higher_level_hold_the_group_back() -> None:
    members = (member(ME, speaks=Levels(1, 3)), member(LOW, speaks=Levels(1, 2)), member(HIGH, speaks=Levels(2, 4)))
    assert [each.id for each in Group(1, ME, members, (), level=2).holding_back] == [LOW]
    assert find_stranger(member(OTHER, speaks=Levels(3, 4)), members) == members[1]
    assert find_stranger(member(OTHER, speaks=Levels(2, 4)), members) is None
    assert find_stranger(member(LOW, speaks=Levels(3, 4)), members) is None, "its own former entry"


def test_nobody_holds_back_a_group_of_equals() -> None:
    members = (member(ME), member(LOW))
    assert Group(1, ME, members, (), level=1).holding_back == ()


def test_joiner_without_a_common_level_is_refused_with_both_ranges() -> None:
    harness = NodeHarness().start().become_master()
    actions = harness.accept(1, joiner(LOW, 9, 12))
    assert refusal(actions) == "version"
    error = one(Disconnect, actions).error
    assert error is not None
    assert "level 1," in error.message
    assert "levels 9 to 12" in error.message
    assert one(MemberRefused, actions).reason == error.message
    assert harness.members == set()


def test_master_without_a_common_level_gets_no_answer_to_merge() -> None:
    harness = NodeHarness().start().become_master()
    stranger = member(LOW, speaks=Levels(9, 12))
    actions = harness.accept(1, Merge(stranger, 5, 9, 3))
    assert refusal(actions) == "version"
    assert sent(Merge, actions) == []
    assert harness.view.role is Role.MASTER
    assert harness.view.term == 1


def test_level_of_the_group_follows_its_members() -> None:
    harness = NodeHarness(speaks=Levels(1, 3)).start().become_master()
    alone = harness.node.group()
    assert alone is not None
    assert alone.level == 3
    assert level_after(harness, 1, joiner(LOW, 1, 2)) == 2
    assert level_after(harness, 2, joiner(HIGH, 1, 1)) == 1
    actions = harness.give(Disconnected(Session(Direction.INBOUND, 2), "it closed the connection"))
    while harness.now < 110.0:  # until the lost member is not awaited any more
        actions += harness.wait(0.4) + harness.receive(Session(Direction.INBOUND, 1), Heartbeat())
    assert sent(Group, actions)[-1].level == 2


def test_level_stays_while_a_member_may_return() -> None:
    """Else a feature of a higher level could begin, and this member could not read it."""
    harness = NodeHarness(speaks=Levels(1, 3)).start().become_master()
    assert level_after(harness, 1, joiner(LOW, 1, 1)) == 1
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "it closed the connection"))
    assert level_of(harness) == 1
    harness.give(Accepted(Session(Direction.INBOUND, 2), "10.0.0.1"))
    harness.receive(Session(Direction.INBOUND, 2), joiner(LOW, 1, 1))
    assert level_of(harness) == 1, "it has joined, and not confirmed yet"
    harness.give(Disconnected(Session(Direction.INBOUND, 2), "it closed the connection"))
    harness.wait(10.0)
    assert level_of(harness) == 3


def test_successor_counts_the_levels_of_members_that_have_not_joined_it_yet() -> None:
    harness = NodeHarness(speaks=Levels(1, 3)).start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    harness.give(Connected(session))
    mine = member(ME, speaks=Levels(1, 3))
    harness.receive(session, Group(1, LOW, (member(LOW), mine, member(HIGH)), (ME, HIGH)))
    harness.receive(session, KeyState(None, frozenset(), (KeyEntry(1, key(901), send=True),)))
    again = one(Connect, harness.give(Disconnected(session, "it closed the connection")))
    harness.give(Disconnected(again.session, "connection refused", "refused"))
    assert harness.view.role is Role.MASTER
    assert level_of(harness) == 1
    harness.wait(10.0)
    assert level_of(harness) == 3


def test_restarted_master_counts_awaited_nodes_of_unknown_levels_as_level_1() -> None:
    harness = NodeHarness(speaks=Levels(1, 2)).start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    harness.wait(1.0)
    again = NodeHarness(saved=harness.node.saved_state(), speaks=Levels(1, 2))
    again.now = harness.now + 0.5
    again.start().become_master()
    assert level_of(again) == 1
    again.wait(10.0)
    assert level_of(again) == 2


def test_level_is_always_one_that_all_members_speak() -> None:
    harness = NodeHarness(speaks=Levels(1, 2)).start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    assert level_after(harness, 2, joiner(HIGH, 2, 2)) == 2, "though LOW may return"


def test_joiner_must_have_a_level_in_common_with_all_members() -> None:
    """Else it could not follow each of them as master."""
    harness = NodeHarness(speaks=Levels(1, 2)).start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    assert refusal(harness.accept(2, joiner(HIGH, 2, 3))) == "version"
    harness.accept(3, joiner(OTHER, 1, 3))
    assert harness.members == {LOW, OTHER}


def test_member_cannot_change_its_levels() -> None:
    """Else one member could keep all other nodes out."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    assert refusal(harness.receive(Session(Direction.INBOUND, 1), joiner(LOW, 200, 200))) == "protocol"
    harness.accept(2, joiner(HIGH, 1, 1))
    assert harness.members == {HIGH}


def test_master_presents_the_common_levels_of_its_group() -> None:
    harness = NodeHarness(speaks=Levels(1, 3)).start().become_master()
    harness.accept(1, joiner(LOW, 2, 5))
    harness.accept(2, joiner(HIGH, 1, 2))
    harness.wait(0.3)
    actions = harness.hear(replace(advert(OTHER, Role.LISTENING), challenge="c"))
    assert of(Advertise, actions)[-1].advert.speaks == Levels(2, 2)


def test_groups_without_a_common_level_do_not_merge() -> None:
    """The masters of the two have one, but a member of one of them would have no place in the other."""
    harness = NodeHarness(speaks=Levels(1, 2)).start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    harness.wait(0.5)
    other = member(OTHER, speaks=Levels(2, 2))  # a master that speaks 1 to 2, with a member that speaks 2
    assert refusal(harness.accept(2, Merge(other, 5, 9, 3))) == "version"
    assert sent(Merge, harness.accept(3, Merge(member(OTHER, speaks=Levels(1, 2)), 5, 9, 3))) != []


def test_master_asks_another_one_with_the_common_levels_of_its_group() -> None:
    harness = NodeHarness(speaks=Levels(1, 2)).start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    harness.wait(0.5)
    connect = one(Connect, harness.hear(replace(advert(OTHER, Role.MASTER, term=5), speaks=Levels(1, 2))))
    (merge,) = sent(Merge, harness.give(Connected(connect.session)))
    assert merge.master.speaks == Levels(1, 1)


def test_master_shows_a_node_that_a_member_keeps_out() -> None:
    harness = NodeHarness(speaks=Levels(1, 2)).start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    harness.wait(0.5)
    harness.receive(Session(Direction.INBOUND, 1), Heartbeat())
    harness.hear(replace(advert(HIGH, Role.LISTENING), speaks=Levels(2, 3)))
    (condition,) = harness.view.conditions
    assert (condition.kind, condition.peer) == ("no_common_level", HIGH)


# --- adverts --------------------------------------------------------------------------------------------------------


def test_node_without_a_level_in_common_with_a_master_is_a_group_of_its_own() -> None:
    """An advert costs its sender nothing, so it must not keep anybody from becoming master."""
    harness = NodeHarness().start()
    for _ in range(30):
        actions = harness.hear(replace(advert(LOW, Role.MASTER), speaks=Levels(9, 12))) + harness.wait(1.0)
        assert of(Connect, actions) == []
        assert harness.view.role is Role.MASTER or harness.now < 103.0
    (condition,) = harness.view.conditions
    assert condition.kind == "no_common_level"
    assert (condition.peer, condition.address) == (LOW, "10.0.0.17")
    assert "level 1," in condition.text
    assert "levels 9 to 12" in condition.text


def test_node_joins_when_the_master_has_been_upgraded() -> None:
    harness = NodeHarness().start()
    harness.hear(replace(advert(LOW, Role.MASTER), speaks=Levels(9, 12)))
    one(Connect, harness.hear(replace(advert(LOW, Role.MASTER), speaks=Levels(1, 9))))
    assert kinds_of(harness) == []


def test_master_without_a_common_level_is_shown_only_with_a_proof() -> None:
    """Anybody can send an old advert again."""
    harness = NodeHarness().start().become_master()
    stranger = replace(advert(LOW, Role.MASTER), speaks=Levels(9, 12))
    harness.hear_old(stranger)
    assert kinds_of(harness) == []
    harness.hear(stranger)
    assert kinds_of(harness) == ["no_common_level"]


def test_old_advert_of_a_member_is_not_shown() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, joiner(LOW, 1, 1))
    harness.hear_old(replace(advert(LOW, Role.LISTENING), speaks=Levels(9, 12)))
    assert kinds_of(harness) == []


def test_masters_without_a_common_level_show_each_other_and_do_not_merge() -> None:
    harness = NodeHarness().start().become_master()
    for _ in range(10):
        actions = harness.hear(replace(advert(LOW, Role.MASTER), speaks=Levels(9, 12))) + harness.wait(2.0)
        assert of(Connect, actions) == []
    assert kinds_of(harness) == ["no_common_level"]


def test_master_shows_a_listening_node_that_cannot_join_it() -> None:
    harness = NodeHarness().start().become_master()
    harness.hear(replace(advert(LOW, Role.LISTENING), speaks=Levels(9, 12)))
    assert kinds_of(harness) == ["no_common_level"]
    harness.hear(replace(advert(LOW, Role.LISTENING), speaks=Levels(1, 12)))
    assert kinds_of(harness) == []


def test_member_does_not_show_strangers() -> None:
    harness = NodeHarness().start()
    harness.become_client()
    harness.hear(replace(advert(LOW, Role.LISTENING), speaks=Levels(9, 12)))
    assert kinds_of(harness) == []


# --- a node whose advert did not name its levels ---------------------------------------------------------------------


def test_refused_node_tries_again_at_a_slow_pace_and_shows_the_sentence() -> None:
    harness = NodeHarness(eligible=False).start()
    refused_at = []
    sentence = "n1 speaks protocol levels 9 to 12, but n8 speaks protocol level 1: there is no common level"
    while harness.now < 400.0:
        actions = harness.hear(advert(LOW, Role.MASTER)) + harness.wait(0.5)
        for connect in of(Connect, actions):
            harness.give(Connected(connect.session))
            harness.receive(connect.session, ErrorMessage("version", sentence))
            refused_at.append(harness.now)
    assert harness.view.role is Role.LISTENING
    assert len(refused_at) < 12
    assert refused_at[-1] - refused_at[-2] >= 60.0
    (condition,) = harness.view.conditions
    assert condition.kind == "master_unreachable"
    assert sentence in condition.text
    assert "have a level in common" in condition.remedy


def test_master_whose_merge_is_refused_stays_master_and_tries_again_at_a_slow_pace() -> None:
    harness = NodeHarness().start().become_master()
    asked = 0
    while harness.now < 400.0:
        actions = harness.hear(advert(LOW, Role.MASTER)) + harness.wait(0.5)
        for connect in of(Connect, actions):
            asked += 1
            harness.give(Connected(connect.session))
            harness.receive(connect.session, ErrorMessage("version", "no common level"))
            harness.give(Disconnected(connect.session, "it closed the connection"))
    assert harness.view.role is Role.MASTER
    assert asked < 12
    assert harness.view.term == 1


@pytest.mark.parametrize("code", ["quota", "refused", "timeout", "bad_packet"])
def test_error_of_an_unknown_code_is_a_refusal_with_its_sentence(code: str) -> None:
    """A master that refuses is alive. If this node became master because of an unknown code, there would be two groups.

    Some codes are unknown as those of an ERROR, because only a node itself uses them.
    """
    harness = NodeHarness().start()
    while harness.now < 130.0:
        for connect in of(Connect, harness.hear(advert(LOW, Role.MASTER)) + harness.wait(0.5)):
            harness.give(Connected(connect.session))
            harness.receive(connect.session, ErrorMessage(code, "this node serves 3 members; buy a larger one"))
        assert harness.view.role is not Role.MASTER
    (condition,) = harness.view.conditions
    assert condition.text == "cannot join n1: this node serves 3 members; buy a larger one"
    assert condition.remedy.startswith("see the journal of both nodes")
