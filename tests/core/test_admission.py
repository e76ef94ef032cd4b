"""A session belongs to one node, each address has its share of the places, and a full group refuses newcomers."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Action, Advertise, Connect
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session, SettingsChanged
from pskkey.core.notices import BadJoin, MemberRefused
from pskkey.core.settings import MEMBERS_PER_ADDRESS, Timing
from pskkey.model import ErrorMessage, Group, Handover, Join, KeyAck, KeyNewReason, KeyState, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, refusal, sent
from tests.core.situations import CHANGED, HIGH, LOW, OTHER, taken_over

LIMIT = MEMBERS_PER_ADDRESS
INSIDER = "10.0.9.9"


# --- a session --------------------------------------------------------------------------------------------------------


def ids_in_use(harness: NodeHarness) -> int:
    """Return how many sender ids are in use."""
    return len(harness.node.key_state().senders)


@pytest.mark.parametrize("other", [join("22222222"), join("11111111", incarnation="i2")], ids=["node", "incarnation"])
def test_a_session_stays_with_the_node_of_its_first_join(other: Join) -> None:
    harness = NodeHarness().start().become_master()
    first = replace(join("11111111"), sender=True)
    harness.accept(1, first)
    actions = harness.receive(Session(Direction.INBOUND, 1), replace(other, sender=True))
    assert refusal(actions) == "protocol"
    assert len(of(BadJoin, actions)) == 1
    (group,) = sent(Group, harness.accept(2, join("33333333")))
    assert {m.id for m in group.members} == {ME, "33333333"}
    assert ids_in_use(harness) == 1, "the id of the node of the first join"


def test_a_session_may_change_the_rest_of_its_join() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("11111111"))
    first = join("11111111")
    changed = replace(first, member=replace(first.member, name="other", priority=7), sender=True)
    assert refusal(harness.receive(Session(Direction.INBOUND, 1), changed)) is None
    (group,) = sent(Group, harness.accept(2, join("33333333")))
    assert {(m.name, m.priority) for m in group.members} >= {("other", 7)}


# --- the share of an address ------------------------------------------------------------------------------------------


def leave(harness: NodeHarness, number: int) -> None:
    """End a session as if the peer closed its connection."""
    harness.give(Disconnected(Session(Direction.INBOUND, number), "closed"))


def sending_joiner(number: int) -> Join:
    """Return the JOIN of a node that sends."""
    return replace(join(f"{number:08x}"), sender=True)


def reason_of_refusal(actions: list[Action]) -> str:
    """Return the reason for which a member was refused."""
    (refused,) = of(MemberRefused, actions)
    return refused.reason


def test_address_has_its_share_of_the_sender_ids_with_those_of_nodes_that_left() -> None:
    harness = NodeHarness().start().become_master()
    for number in range(1, LIMIT + 1):
        assert refusal(harness.accept(number, sending_joiner(number), INSIDER)) is None
        leave(harness, number)
    harness.wait(60.0)
    assert ids_in_use(harness) == LIMIT
    refused = harness.accept(1000, sending_joiner(1000), INSIDER)
    assert refusal(refused) == "group_full"
    assert f"{LIMIT} nodes from {INSIDER} are members or have sender ids" in reason_of_refusal(refused)
    assert refusal(harness.accept(1001, sending_joiner(1), INSIDER)) is None, "a node that comes back has its lease"
    (state,) = sent(KeyState, harness.accept(1002, sending_joiner(1002), "10.0.9.10"))
    assert state.sender_id is not None, "another host has its own share"
    assert ids_in_use(harness) == LIMIT + 1


def test_new_key_frees_the_sender_ids_of_nodes_that_left() -> None:
    harness = NodeHarness().start().become_master()
    for number in range(1, LIMIT + 1):
        harness.accept(number, sending_joiner(number), INSIDER)
        leave(harness, number)
    harness.wait(5.0)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(30.0)
    assert ids_in_use(harness) == 0
    assert refusal(harness.accept(1000, sending_joiner(1000), INSIDER)) is None


def test_address_has_its_share_of_the_places_and_a_member_that_left_is_soon_forgotten() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(3.0)  # a new master keeps the places of its former group for longer
    for number in range(1, LIMIT + 1):
        assert refusal(harness.accept(number, join(f"{number:08x}"), INSIDER)) is None
        harness.receive(Session(Direction.INBOUND, number), KeyAck(1))
    assert refusal(harness.accept(1000, join("aaaaaaaa"), INSIDER)) == "group_full"
    leave(harness, 1)
    assert refusal(harness.accept(1001, join("aaaaaaaa"), INSIDER)) == "group_full", "it may be back in a moment"
    assert refusal(harness.accept(1002, join(f"{1:08x}"), INSIDER)) is None
    leave(harness, 1002)
    harness.wait(2.5)
    assert refusal(harness.accept(1003, join("aaaaaaaa"), INSIDER)) is None


def test_lower_limit_ends_no_session_and_a_member_counts_for_its_last_address() -> None:
    harness = NodeHarness().start().become_master()
    for number in (1, 2, 3):
        harness.accept(number, join(f"{number}" * 8), INSIDER)
    changed = SettingsChanged("n5", 100, eligible=True, max_members=1024, preempt=False, timing=Timing())
    harness.give(replace(changed, members_per_address=2))
    assert refusal(harness.receive(Session(Direction.INBOUND, 1), replace(join("11111111"), sender=True))) is None
    assert refusal(harness.accept(4, join("44444444"), INSIDER)) == "group_full"
    for number in (1, 2):
        assert refusal(harness.accept(10 + number, join(f"{number}" * 8), f"10.0.8.{number}")) is None
    assert refusal(harness.accept(5, join("44444444"), INSIDER)) is None


# --- a full group -----------------------------------------------------------------------------------------------------


def test_member_of_a_full_group_may_join_again_on_another_connection() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(replace(CHANGED, max_members=2))
    assert refusal(harness.accept(1, join("99999999"))) is None
    assert refusal(harness.accept(2, join("99999999"))) is None
    assert refusal(harness.accept(3, join("88888888"))) == "group_full"


def test_newcomer_does_not_take_the_place_of_a_member_that_is_about_to_rejoin() -> None:
    """Seed 52."""
    harness = taken_over(max_members=3)
    assert not harness.members
    harness.accept(1, join(OTHER))
    harness.accept(2, join("33333333"))
    harness.accept(3, join(HIGH))
    assert harness.members == {OTHER, HIGH}


def is_full(harness: NodeHarness) -> bool:
    """Return whether the node's last advert has the mark of a full group."""
    return of(Advertise, harness.log)[-1].advert.is_full


def test_a_master_advertises_that_its_group_is_full_as_long_as_no_place_is_free() -> None:
    harness = NodeHarness(max_members=2).start().become_master()
    assert not is_full(harness)
    harness.accept(1, join("11111111"))
    harness.wait(0.2)
    assert is_full(harness)
    leave(harness, 1)
    harness.wait(0.5)
    assert is_full(harness), "the place is kept for the member"
    assert refusal(harness.accept(2, join("22222222"))) == "group_full"
    harness.wait(Timing().comes_within)
    assert not is_full(harness)
    assert refusal(harness.accept(3, join("22222222"))) is None
    harness.wait(0.2)
    assert is_full(harness)
    harness.give(SettingsChanged("n5", 100, eligible=True, max_members=3, preempt=False, timing=Timing()))
    harness.wait(0.2)
    assert not is_full(harness)


def test_a_refused_node_asks_again_as_soon_as_a_place_is_free() -> None:
    """Seed 4352: its hold-down had grown to 16 s when the group lost a member."""
    full = replace(advert("11111111", Role.MASTER, members=3), is_full=True)
    harness = NodeHarness().start()
    harness.hear(full)
    for _ in range(20):
        for connect in of(Connect, harness.log)[-1:]:
            harness.give(Connected(connect.session))
            harness.receive(connect.session, ErrorMessage("group_full", "the group has 3 members"))
        harness.wait(2.0)
        harness.hear(full)
    tries = len(of(Connect, harness.log))
    assert tries < 10
    free = replace(full, is_full=False)
    harness.hear_old(free)
    assert len(of(Connect, harness.log)) == tries, "an old advert may come from a stranger"
    harness.hear(free)
    assert len(of(Connect, harness.log)) == tries + 1
    connect = of(Connect, harness.log)[-1]
    harness.give(Connected(connect.session))
    harness.receive(connect.session, ErrorMessage("group_full", "another node was faster"))
    harness.wait(2.0)
    harness.hear(free)
    assert len(of(Connect, harness.log)) == tries + 1, "one attempt for each time that the group was full"


@pytest.mark.parametrize("code", ["group_full", "busy"])
def test_refused_node_does_not_found_a_group_beside_the_one_that_refused_it(code: str) -> None:
    harness = NodeHarness().start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    for _ in range(5):
        tries = len(of(Connect, harness.log))
        harness.give(Connected(session))
        harness.receive(session, ErrorMessage(code, "there is no place"))
        while len(of(Connect, harness.log)) == tries:
            harness.wait(0.5)
            harness.hear(advert(LOW, Role.MASTER))  # its beacon
            assert harness.view.role is not Role.MASTER
        session = of(Connect, harness.log)[-1].session


def test_member_that_the_new_master_refuses_does_not_become_master_beside_it() -> None:
    """Seed 52."""
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
