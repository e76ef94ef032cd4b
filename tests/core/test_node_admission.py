"""Whom a master takes as a member: one session is one node, and one address has its share and no more."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Action, Advertise, Connect
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session, SettingsChanged
from pskkey.core.notices import BadJoin, MemberRefused
from pskkey.core.settings import MEMBERS_PER_ADDRESS, Timing
from pskkey.model import ErrorMessage, Group, Join, KeyAck, KeyNewReason, KeyState, Role
from tests.core.harness import ME, NodeHarness, advert, join, of, refusal, sent

INSIDER = "10.0.9.9"
LIMIT = MEMBERS_PER_ADDRESS


def sender(number: int) -> Join:
    """Return the JOIN of a node that sends."""
    return replace(join(f"{number:08x}"), sender=True)


def leave(harness: NodeHarness, number: int) -> None:
    """End a session as a peer does that closes its connection."""
    harness.give(Disconnected(Session(Direction.INBOUND, number), "closed"))


def ids_in_use(harness: NodeHarness) -> int:
    """Return how many sender ids are in use."""
    return len(harness.node.key_state().senders)


def text_of(actions: list[Action]) -> str:
    """Return why a member was refused."""
    (refused,) = of(MemberRefused, actions)
    return refused.reason


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
    assert ids_in_use(harness) == 1, "that of the node that was there"


def test_a_session_may_change_the_rest_of_its_join() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join("11111111"))
    said = join("11111111")
    changed = replace(said, member=replace(said.member, name="other", priority=7), sender=True)
    assert refusal(harness.receive(Session(Direction.INBOUND, 1), changed)) is None
    (group,) = sent(Group, harness.accept(2, join("33333333")))
    assert {(m.name, m.priority) for m in group.members} >= {("other", 7)}


def test_one_address_has_its_share_of_the_sender_ids_also_of_those_whose_nodes_left() -> None:
    harness = NodeHarness().start().become_master()
    for number in range(1, LIMIT + 1):
        assert refusal(harness.accept(number, sender(number), INSIDER)) is None
        leave(harness, number)
    harness.wait(60.0)
    assert ids_in_use(harness) == LIMIT
    refused = harness.accept(1000, sender(1000), INSIDER)
    assert refusal(refused) == "group_full"
    assert f"{LIMIT} nodes from {INSIDER} are members or have sender ids" in text_of(refused)
    assert refusal(harness.accept(1001, sender(1), INSIDER)) is None, "a node that comes back has its lease"
    (state,) = sent(KeyState, harness.accept(1002, sender(1002), "10.0.9.10"))
    assert state.sender_id is not None, "another host has its own share"
    assert ids_in_use(harness) == LIMIT + 1


def test_a_renewed_key_frees_the_ids_of_those_that_left() -> None:
    harness = NodeHarness().start().become_master()
    for number in range(1, LIMIT + 1):
        harness.accept(number, sender(number), INSIDER)
        leave(harness, number)
    harness.wait(5.0)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(30.0)
    assert ids_in_use(harness) == 0
    assert refusal(harness.accept(1000, sender(1000), INSIDER)) is None


def test_one_address_has_its_share_of_the_places_and_a_member_that_left_is_soon_forgotten() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(3.0)  # a new master awaits its former group for longer
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


def test_a_lower_limit_ends_no_session_and_a_member_counts_for_the_address_that_it_came_from_last() -> None:
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


def is_full(harness: NodeHarness) -> bool:
    """Return whether the node's last advert says that its group is full."""
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
    assert len(of(Connect, harness.log)) == tries, "an old advert may come from anybody"
    harness.hear(free)
    assert len(of(Connect, harness.log)) == tries + 1
    connect = of(Connect, harness.log)[-1]
    harness.give(Connected(connect.session))
    harness.receive(connect.session, ErrorMessage("group_full", "another node was faster"))
    harness.wait(2.0)
    harness.hear(free)
    assert len(of(Connect, harness.log)) == tries + 1, "one attempt for each time that the group was full"
