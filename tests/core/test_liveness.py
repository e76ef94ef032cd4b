"""Heartbeats show that a peer is alive, silence that it is lost; a node that has slept listens first."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Attached, Connected, Direction, Session, Timeout
from pskkey.core.notices import MasterLost, Slept
from pskkey.core.settings import MOST_UNREAD, Timing
from pskkey.model import (
    ErrorMessage,
    Group,
    Heartbeat,
    Join,
    KeyNew,
    KeyNewReason,
    KeyWatch,
    Process,
    Role,
    Slot,
    Times,
)
from tests.core.harness import ME, NodeHarness, advert, join, member, of, sent
from tests.core.situations import CHANGED, HIGH, LOCAL, LOW, role

MANAGER = Process(10, 0)


# --- times that differ ------------------------------------------------------------------------------------------------

PATIENT = Times(heartbeat_interval=5.0, dead_after=15.0)


def test_master_keeps_a_member_with_a_longer_dead_after_for_that_time() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, replace(join(HIGH), times=PATIENT))
    harness.wait(14.9)
    assert HIGH in harness.members
    harness.wait(0.2)
    assert HIGH not in harness.members


def test_member_keeps_a_master_with_a_longer_dead_after_for_that_time() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(LOW)
    harness.receive(session, Group(1, LOW, (member(LOW), member(ME)), (ME,), PATIENT))
    harness.wait(14.9)
    assert role(harness) is Role.CLIENT
    harness.wait(0.2)
    assert role(harness) is not Role.CLIENT


def test_member_with_shorter_times_does_not_shorten_those_of_the_master() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, replace(join(HIGH), times=Times(0.05, 0.1)))
    harness.wait(1.4)
    assert HIGH in harness.members


def test_member_sends_join_again_when_its_times_have_changed() -> None:
    harness = NodeHarness().start()
    harness.become_client()
    changed = replace(CHANGED, name="n5", priority=100, timing=Timing(heartbeat_interval=5.0, dead_after=15.0))
    assert [message.times for message in sent(Join, harness.give(changed))] == [PATIENT]


# --- heartbeats -------------------------------------------------------------------------------------------------------


def test_a_client_answers_heartbeats_at_most_twice_in_the_interval() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    for _ in range(4):
        assert not sent(Heartbeat, harness.wait(0.49))
        assert sent(Heartbeat, harness.receive(session, Heartbeat()))
    flood = [sent(Heartbeat, [*harness.receive(session, Heartbeat()), *harness.wait(0.01)]) for _ in range(100)]
    assert 3 <= len([beats for beats in flood if beats]) <= 4


@pytest.mark.parametrize(("members", "interval"), [(2, 0.5), (60, 0.5), (75, 0.5625), (120, 0.6), (250, 0.6)])
def test_master_of_many_sends_fewer_heartbeats_but_two_within_dead_after(members: int, interval: float) -> None:
    harness = NodeHarness().start().become_master()
    for number in range(1, members):
        harness.accept(number, join(f"4444{number:04x}"), f"10.0.{number}.1")
    before, began = len(harness.log), harness.now
    while harness.now < began + 12.0:
        harness.wait(0.05)
        for number in range(1, members):
            harness.receive(Session(Direction.INBOUND, number), Heartbeat())
    beats = [a for a in of(Send, harness.log[before:]) if a.message == Heartbeat() and a.session.number == 1]
    assert len(beats) == pytest.approx(12.0 / interval, abs=1.5)


def test_member_that_falls_silent_after_dead_after_became_shorter_is_dropped_in_time() -> None:
    harness = NodeHarness(timing=Timing(heartbeat_interval=0.5, dead_after=300.0)).start().become_master()
    harness.accept(1, join(HIGH))
    harness.give(replace(CHANGED, name="n5", priority=100, timing=Timing()))
    harness.receive(Session(Direction.INBOUND, 1), join(HIGH), Heartbeat())
    harness.wait(1.4)
    assert HIGH in harness.members
    harness.wait(0.2)
    assert HIGH not in harness.members


def test_member_answers_each_heartbeat_of_a_master_of_many_and_sends_none_unasked() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(LOW)
    before = len(harness.log)
    for _ in range(10):
        harness.wait(0.6)
        harness.receive(session, Heartbeat())
    assert len(sent(Heartbeat, harness.log[before:])) == 10


def test_client_sends_heartbeats_unasked_and_loses_a_silent_master_after_dead_after() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    assert not sent(Heartbeat, harness.wait(0.74))
    assert len(sent(Heartbeat, harness.wait(0.7))) == 1
    harness.receive(session, Heartbeat())
    harness.wait(1.4)
    assert harness.view.role is Role.CLIENT
    actions = harness.wait(0.2)
    assert of(MasterLost, actions)


def test_silent_member_is_dropped_and_one_that_sends_heartbeats_is_not() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.accept(2, join(HIGH))
    for _ in range(4):
        harness.receive(Session(Direction.INBOUND, 2), Heartbeat())
        harness.wait(0.5)
    group = harness.node.group()
    assert group is not None
    assert [m.id for m in group.members] == [ME, HIGH]


# --- sleep ------------------------------------------------------------------------------------------------------------


def test_master_that_has_slept_listens_first() -> None:
    harness = NodeHarness().start().become_master()
    harness.now += 30.0
    actions = harness.give(Timeout())
    assert of(Slept, actions)
    assert harness.view.role is Role.LISTENING


def test_listener_that_has_slept_does_not_claim_with_its_old_knowledge() -> None:
    harness = NodeHarness().start()
    harness.now += 30.0
    actions = harness.give(Timeout())
    assert of(Slept, actions)
    assert harness.view.role is Role.LISTENING


def test_listener_that_is_refused_repeatedly_is_not_taken_for_one_that_has_slept() -> None:
    """Seed 52."""
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


def test_restarted_node_with_a_key_that_is_long_overdue_has_not_slept() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(2.0)
    harness.give(Attached(LOCAL, MANAGER))
    harness.receive(LOCAL, KeyWatch(will_send=False), KeyNew(KeyNewReason.OPERATOR))
    harness.wait(0.5)
    again = harness.restart(now=harness.now + 60.0)
    assert again.node.view().keys[0].slot is Slot.PREVIOUS
    again.now += 0.5
    actions = again.hear(advert("11111111", Role.MASTER, term=5))
    assert not of(Slept, actions + again.wait(0.5))


# --- a busy node ------------------------------------------------------------------------------------------------------


def test_master_that_wakes_up_late_reads_the_heartbeats_before_it_takes_members_for_silent() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    harness.accept(2, join(LOW))
    harness.wait(0.6)
    harness.now += 1.4  # the event loop was away, and the heartbeats of 0.5 s ago wait in the sockets
    harness.give(Timeout(unread=1.4))
    assert harness.members == {HIGH, LOW}
    assert harness.node.next_deadline() == harness.now, "as soon as it has read them"
    harness.receive(Session(Direction.INBOUND, 1), Heartbeat())
    harness.give(Timeout())
    assert harness.members == {HIGH}, "LOW has been silent since"


def test_member_that_wakes_up_late_does_not_take_its_master_for_silent() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(master=LOW)
    harness.wait(0.6)
    harness.now += 1.4
    harness.give(Timeout(unread=1.4))
    assert role(harness) is Role.CLIENT
    harness.receive(session, Heartbeat())
    harness.wait(1.4)
    assert role(harness) is Role.CLIENT


def test_listener_that_wakes_up_late_reads_the_proof_of_a_master_before_it_claims() -> None:
    harness = NodeHarness().start()
    claims_at = 0.0
    while role(harness) is Role.LISTENING:
        claims_at = harness.now = harness.node.next_deadline() or harness.now
        harness.give(Timeout())
    assert role(harness) is Role.MASTER
    late = NodeHarness().start()
    while (deadline := late.node.next_deadline()) is not None and deadline < claims_at:
        late.now = deadline
        late.give(Timeout())
    late.now = claims_at + 1.0
    late.give(Timeout(unread=1.2))
    assert role(late) is Role.LISTENING
    late.hear(advert(LOW, Role.MASTER))
    assert role(late) is Role.JOINING


def test_busy_master_sends_its_heartbeats_on_time() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    beats = 0
    for _ in range(80):
        harness.now += 0.05
        beats += len(sent(Heartbeat, harness.give(Timeout(unread=5.0))))
    assert 7 <= beats <= 9
    assert harness.members == {HIGH}


def test_node_with_unread_messages_counts_no_silence_and_has_a_limit() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    began, timing = harness.now, Timing()
    while HIGH in harness.members:
        harness.now += 0.1
        harness.give(Timeout(unread=harness.now - began))
        assert harness.now < began + 20.0
    silence = harness.now - began
    assert silence > timing.dead_after + 1.0
    assert silence <= (1 + MOST_UNREAD) * timing.dead_after + 0.1
