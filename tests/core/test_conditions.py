"""Each reason why a node is in no group, or why its group is not whole, is a condition that ends with its reason."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Action, Connect
from pskkey.core.events import Accepted, Connected, Disconnected, SettingsChanged
from pskkey.core.settings import Timing
from pskkey.model import Condition, ConditionKind, ErrorMessage, Group, Heartbeat, Role, Times
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one
from tests.core.situations import HIGH, LOW, inbound


def only(harness: NodeHarness) -> Condition:
    """Return the only condition of a node."""
    (condition,) = harness.view.conditions
    return condition


def fail(harness: NodeHarness, actions: list[Action], code: str) -> None:
    """Let the attempt to connect in `actions` fail."""
    harness.give(Disconnected(one(Connect, actions).session, f"10.0.0.17, port 11111: {code}", code))


# --- a master that cannot be joined -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("timeout", "TCP port 11111"),
        ("refused", "start pskkeyd there, or let TCP port 11111"),
        ("unreachable", "correct the route to this address, or let TCP port 11111"),
        ("no_handshake", "let large packets through"),
        ("of a later version", "see the journal of both nodes"),
        ("handshake", "PSK files"),
        ("wrong_node", "[network] interfaces or addresses"),
    ],
)
def test_failed_join_is_a_condition_with_the_peer_and_the_next_step(code: str, remedy: str) -> None:
    harness = NodeHarness(eligible=False).start()
    fail(harness, harness.hear(advert(LOW, Role.MASTER)), code)
    condition = only(harness)
    assert (condition.kind, condition.peer, condition.address) == (
        ConditionKind.MASTER_UNREACHABLE,
        LOW,
        "10.0.0.17",
    )
    assert code in condition.text
    assert remedy in condition.remedy


def test_condition_of_a_master_ends_when_the_node_has_joined_it() -> None:
    harness = NodeHarness(eligible=False).start()
    fail(harness, harness.hear(advert(LOW, Role.MASTER)), "timeout")
    session = one(Connect, harness.wait(1.1)).session
    harness.give(Connected(session))
    harness.receive(session, Group(1, LOW, (member(LOW), member(ME)), (ME,)))
    assert not harness.view.conditions


@pytest.mark.parametrize("is_repeated", [False, True], ids=["silence", "old adverts"])
def test_condition_of_a_master_ends_when_it_is_not_heard_any_more(is_repeated: bool) -> None:
    """A stranger may send its recorded adverts again."""
    harness = NodeHarness().start().become_master()
    fail(harness, harness.hear(advert(LOW, Role.MASTER)), "timeout")
    assert not harness.view.conditions, "it may have died before this attempt"
    harness.wait(0.1)
    harness.hear(advert(LOW, Role.MASTER))
    assert "master too" in only(harness).text
    for number in range(60):
        if is_repeated:
            harness.hear_old(advert(LOW, Role.MASTER, term=number % 2))
        for connect in of(Connect, harness.wait(1.0)):
            harness.give(Disconnected(connect.session, "no answer", "timeout"))
    assert not harness.view.conditions


def test_condition_of_a_master_ends_when_it_is_no_master_any_more() -> None:
    harness = NodeHarness().start().become_master()
    fail(harness, harness.hear(advert(LOW, Role.MASTER)), "timeout")
    harness.wait(0.1)
    harness.hear(advert(LOW, Role.MASTER))
    assert harness.view.conditions
    harness.hear(advert(LOW, Role.CLIENT))
    assert not harness.view.conditions


def test_recorded_advert_of_a_master_makes_no_condition_at_a_master() -> None:
    harness = NodeHarness().start().become_master()
    for _ in range(60):
        harness.hear_old(advert(LOW, Role.MASTER, term=99))
        for connect in of(Connect, harness.wait(1.0)):
            harness.give(Disconnected(connect.session, "no answer", "timeout"))
        assert not harness.view.conditions


def test_refusal_of_a_full_group_names_the_limit() -> None:
    harness = NodeHarness().start()
    session = one(Connect, harness.hear(advert(LOW, Role.MASTER))).session
    harness.give(Connected(session, address="10.0.0.17"))
    harness.receive(session, ErrorMessage("group_full", "the group has 6 members, its limit (limits.members)"))
    assert "[limits] members" in only(harness).remedy


def test_number_of_conditions_of_one_kind_is_bounded() -> None:
    harness = NodeHarness(eligible=False).start()
    for number in range(60):
        fail(harness, harness.hear(replace(advert(LOW, Role.MASTER), id=f"{number:08x}")), "timeout")
    assert len(harness.view.conditions) == 8


# --- a joiner that does not confirm -----------------------------------------------------------------------------------


def test_joiner_that_never_confirms_is_a_condition_of_the_master_and_not_announced() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(0.5)
    sent_before = [a for a in harness.log if isinstance(getattr(a, "message", None), Group)]
    harness.give(Accepted(inbound(2), "10.0.0.99"))
    harness.receive(inbound(2), join(HIGH))
    for _ in range(4):
        harness.receive(inbound(1), Heartbeat())
        harness.wait(0.5)
    sent = [a for a in harness.log if isinstance(getattr(a, "message", None), Group)][len(sent_before) :]
    assert {a.session for a in sent if hasattr(a, "session")} == {inbound(2)}
    condition = only(harness)
    assert (condition.kind, condition.peer) == (ConditionKind.MEMBER_UNREACHABLE, HIGH)
    assert "10.0.0.99" in condition.text
    harness.accept(3, join(HIGH))
    assert not harness.view.conditions


# --- times and eligibility --------------------------------------------------------------------------------------------


def test_times_that_differ_are_a_condition_at_the_master_until_they_are_equal() -> None:
    harness = NodeHarness().start().become_master()
    patient = replace(join(LOW), times=Times(5.0, 15.0))
    harness.accept(1, patient)
    condition = only(harness)
    assert (condition.kind, condition.peer) == (ConditionKind.TIMES_DIFFER, LOW)
    assert "heartbeat_interval = 5 and dead_after = 15" in condition.text
    harness.receive(inbound(1), replace(patient, times=Timing().times))
    assert not harness.view.conditions


def test_times_that_differ_are_a_condition_at_the_member_until_they_are_equal() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(LOW)
    group = Group(1, LOW, (member(LOW), member(ME)), (ME,))
    harness.receive(session, replace(group, times=Times(5.0, 15.0)))
    assert (only(harness).kind, only(harness).peer) == (ConditionKind.TIMES_DIFFER, LOW)
    harness.receive(session, group)
    assert not harness.view.conditions


def test_node_that_knows_no_eligible_node_has_a_condition_until_one_is_heard() -> None:
    harness = NodeHarness(eligible=False).start()
    harness.hear_old(replace(advert(LOW, Role.LISTENING), eligible=False))
    harness.wait(2.0)
    assert only(harness).kind is ConditionKind.NOBODY_ELIGIBLE
    harness.hear_old(advert(HIGH, Role.LISTENING))
    assert not harness.view.conditions


def test_node_has_no_such_condition_when_it_may_be_master_itself() -> None:
    harness = NodeHarness(eligible=False).start()
    harness.wait(2.0)
    harness.give(SettingsChanged("n", 100, eligible=True, max_members=1024, preempt=False, timing=Timing()))
    assert not harness.view.conditions


def test_another_node_with_our_id_is_a_condition_until_it_is_not_heard_any_more() -> None:
    harness = NodeHarness().start().become_master()
    harness.hear(advert(ME, Role.MASTER))
    assert only(harness).kind is ConditionKind.ID_ELSEWHERE
    harness.wait(16.0)
    assert not harness.view.conditions
