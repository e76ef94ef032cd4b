"""A master hands over: at a switchover, when it stops, to a better newcomer, and when it is no longer eligible."""

from dataclasses import replace

from pskkey.core.actions import Action, Connect, Send, Stopped
from pskkey.core.events import Attached, Direction, RekeyRequested, Session, StopRequested, SwitchoverRequested
from pskkey.model import Handover, Heartbeat, KeyNew, KeyNewReason, KeyState, KeyWatch, Process, Role
from tests.core.harness import ME, NodeHarness, join, member, of, one, sent
from tests.core.situations import CHANGED, HIGH, LOCAL, LOW, acknowledge, fail_until_master, sending_epoch


def test_handover_to_us_makes_us_master_and_one_to_another_makes_us_join_it() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.receive(session, Handover(member(ME), 2, (member(LOW, sender_id=0), member(ME, sender_id=1))))
    assert harness.view.role is Role.MASTER
    assert harness.view.term == 2

    other = NodeHarness().start()
    session = other.become_client(HIGH)
    connect = one(Connect, other.receive(session, Handover(member(HIGH), 2)))
    assert connect.peer == HIGH


def test_switchover_goes_to_the_named_member_or_to_the_first_in_the_succession() -> None:
    for wanted, successor in ((None, LOW), ("22222222", "22222222")):
        harness = NodeHarness().start().become_master()
        harness.accept(1, join(LOW))
        harness.accept(2, join("22222222"))
        actions = harness.give(SwitchoverRequested(wanted))
        handovers = sent(Handover, actions)
        assert {h.master.id for h in handovers} == {successor}
        assert len(handovers) == 2
        assert [len(h.members) for h in handovers if h.members] == [3], "the successor gets the member map"
        assert harness.view.role is Role.JOINING
        assert of(Connect, actions)[-1].peer == successor


def test_switchover_without_a_successor_changes_nothing() -> None:
    harness = NodeHarness().start().become_master()
    assert not sent(Handover, harness.give(SwitchoverRequested()))
    harness.accept(1, join(LOW))
    assert not sent(Handover, harness.give(SwitchoverRequested("77777777")))
    assert harness.view.role is Role.MASTER


def test_stopping_master_hands_over_and_sends_no_state_of_keys() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10), KeyNew(KeyNewReason.OPERATOR))
    actions = harness.give(StopRequested())
    assert [h.master.id for h in sent(Handover, actions)] == [LOW]
    assert isinstance(actions[-1], Stopped)
    assert not sent(KeyState, actions)


def test_members_get_the_key_that_was_just_activated_before_they_are_handed_over() -> None:
    """Seeds 40354 and 40553."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    acknowledge(harness, 1, 2)
    assert sending_epoch(harness.view) == 2
    messages = [
        a.message for a in of(Send, harness.give(SwitchoverRequested())) if a.session.direction is Direction.INBOUND
    ]
    assert [type(message) for message in messages] == [KeyState, Handover]
    assert isinstance(messages[0], KeyState)
    assert [e.epoch for e in messages[0].entries if e.send] == [2]


# --- a better newcomer ------------------------------------------------------------------------------------------------


def test_better_newcomer_becomes_master_only_with_preempt_and_not_at_once() -> None:
    for preempt in (False, True):
        harness = NodeHarness(preempt=preempt).start().become_master()
        harness.accept(1, join(LOW))
        for _ in range(3):
            assert harness.view.role is Role.MASTER
            harness.receive(Session(Direction.INBOUND, 1), Heartbeat())
            harness.wait(0.9)
        assert harness.view.role is (Role.JOINING if preempt else Role.MASTER)


def test_unreachable_better_newcomer_is_handed_over_to_less_and_less_often() -> None:
    harness = NodeHarness(preempt=True).start().become_master()
    begun = []
    for number in range(1, 5):
        harness.accept(number, join(LOW))
        since = harness.now
        while harness.view.role is Role.MASTER:
            harness.receive(Session(Direction.INBOUND, number), Heartbeat())
            harness.wait(0.5)
        begun.append(harness.now - since)
        fail_until_master(harness)
    assert begun[0] < 3.0
    assert [50 * 2**n < seconds < 60 * 2**n for n, seconds in enumerate(begun[1:])] == [True] * 3, begun


# --- a master that is no longer eligible ------------------------------------------------------------------------------


def test_master_that_is_no_longer_eligible_hands_over() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(replace(CHANGED, eligible=False))
    assert harness.view.role is Role.MASTER  # it has no members
    harness.give(CHANGED)
    harness.accept(1, join("99999999"))
    assert sent(Handover, harness.give(replace(CHANGED, eligible=False)))
    assert harness.view.role is not Role.MASTER


def send_heartbeats(harness: NodeHarness, *numbers: int) -> list[Action]:
    """Let these members send a heartbeat; return the actions."""
    return [a for n in numbers for a in harness.receive(Session(Direction.INBOUND, n), Heartbeat())]


def test_master_that_is_no_longer_eligible_hands_over_to_the_first_eligible_member() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(replace(CHANGED, eligible=False))
    ineligible = join("99999999")
    harness.accept(1, replace(ineligible, member=replace(ineligible.member, priority=200, eligible=False)))
    assert not sent(Handover, [a for _ in range(10) for a in (*harness.wait(0.5), *send_heartbeats(harness, 1))])
    assert harness.members == {"99999999"}
    harness.accept(2, join("88888888"))
    actions = [a for _ in range(5) for a in (*harness.wait(0.5), *send_heartbeats(harness, 1, 2))]
    assert {h.master.id for h in sent(Handover, actions)} == {"88888888"}
    assert harness.view.role is not Role.MASTER
