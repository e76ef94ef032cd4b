"""The harm of authenticated peers that send invalid or repeated messages is bounded."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Disconnect
from pskkey.core.events import Connected, Disconnected, RekeyRequested
from pskkey.core.notices import ForeignKeyMet
from pskkey.core.takeover import MOST_SHORT
from pskkey.model import (
    ErrorMessage,
    Group,
    Handover,
    Heartbeat,
    KeyAck,
    KeyNewReason,
    KeyState,
    KeyWatch,
    Merge,
    Message,
    Role,
)
from pskkey.wire.packet import encode
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, refusal, sent
from tests.core.keys import entry
from tests.core.situations import HIGH, LOW, OTHER, acknowledge, inbound, sender, sending_epoch, state

# --- invalid messages -------------------------------------------------------------------------------------------------


def test_message_that_a_client_may_not_send_ends_only_its_session() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    assert refusal(harness.accept(2, KeyWatch(will_send=False))) == "protocol"
    assert refusal(harness.accept(3, KeyAck(1))) == "protocol"
    group = harness.node.group()
    assert group is not None
    assert [m.id for m in group.members] == [ME, LOW]


def test_state_with_more_than_one_key_of_a_slot_is_cut_to_what_can_be_sent() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    entries = (entry(1, 5, send=True), entry(2, 6), entry(3, 7))
    harness.receive(session, KeyState(1, frozenset({1}), entries))
    assert len(harness.node.key_state().entries) <= 3
    assert encode(harness.node.key_state())


# --- repeated messages ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", [None, ErrorMessage("no_key", "none"), Handover(member(LOW), 5)], ids=["loss", "error", "handover"]
)
def test_master_that_accepts_us_only_to_end_the_session_is_seldom_asked_again(end: Message | None) -> None:
    """It was asked 300 times in a second, and no other master was."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, master=LOW)
    for _ in range(20):
        before = len(harness.log)
        if end is None:
            harness.give(Disconnected(session, "reset"))
        else:
            harness.receive(session, end)
        connects = of(Connect, harness.log[before:])
        if not connects or connects[-1].peer != LOW:
            break
        session = connects[-1].session
        harness.give(Connected(session))
        harness.receive(session, Group(1, LOW, tuple(map(member, (LOW, HIGH, ME))), (ME, HIGH)), state(entry(1, 901)))
    assert [connect.peer for connect in of(Connect, harness.log)].count(LOW) == MOST_SHORT
    assert harness.view.role is Role.LISTENING
    harness.hear(advert(OTHER, Role.MASTER, term=1))
    assert of(Connect, harness.log)[-1].peer == OTHER, "LOW is in hold-down"


def test_masters_that_hand_over_to_each_other_are_left() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, master=LOW)
    pair = (LOW, HIGH)
    for number in range(20):
        now, then = pair[number % 2], pair[(number + 1) % 2]
        before = len(harness.log)
        harness.receive(session, Handover(member(then), 2 + number))
        connects = of(Connect, harness.log[before:])
        if not connects:
            break
        assert connects[-1].peer == then
        session = connects[-1].session
        harness.give(Connected(session))
        group = Group(2 + number, then, tuple(map(member, (then, now, ME))), (ME, now))
        harness.receive(session, group, state(entry(1, 901)))
    assert harness.view.role is Role.LISTENING
    assert len(of(Connect, harness.log)) == MOST_SHORT


def test_master_whose_session_breaks_now_and_then_is_asked_again_at_once() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, master=LOW)
    for _ in range(3):
        again = one(Connect, harness.give(Disconnected(session, "reset")))
        assert again.peer == LOW
        session = again.session
        harness.give(Connected(session))
        harness.receive(session, Group(1, LOW, tuple(map(member, (LOW, HIGH, ME))), (ME, HIGH)), state(entry(1, 901)))
        for _ in range(3):
            harness.wait(0.4)
            harness.receive(session, Heartbeat())


def leading() -> NodeHarness:
    """Return a master with the member LOW."""
    harness = NodeHarness(priority=200).start().become_master()
    harness.accept(1, join(LOW))
    acknowledge(harness, 1, 1)
    harness.wait(1.2)
    return harness


def let_time_pass(harness: NodeHarness, seconds: float) -> None:
    """Let time pass in which member 1 is alive and acknowledges each key."""
    for _ in range(round(seconds * 10)):
        harness.wait(0.1)
        harness.receive(inbound(1), Heartbeat())
        if harness.view.next:
            acknowledge(harness, 1, harness.view.next.epoch)


def test_joins_with_ever_higher_epochs_keep_no_key_from_its_activation() -> None:
    """A review found this."""
    harness = leading()
    harness.accept(2, sender(OTHER, sends_with=7, key_number=801, lease=0))
    made = harness.keys
    for _ in range(60):
        let_time_pass(harness, 1.0)
        newest = harness.view.newest
        assert newest is not None
        harness.receive(inbound(2), sender(OTHER, sends_with=newest.epoch, key_number=801, lease=0))
    assert (sending_epoch(harness.view) or 0) > 7
    assert harness.keys - made <= 36, "six keys in 10 s: the last one waits for the member that acknowledges nothing"
    assert len(of(ForeignKeyMet, harness.log)) <= 36


def test_merges_that_are_won_repeatedly_keep_no_key_from_its_activation() -> None:
    """A review found this."""
    harness = leading()
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    for number in range(10, 40):
        harness.accept(number, Merge(member(HIGH), 1, 1, 1))
        let_time_pass(harness, 2.0)
    assert (sending_epoch(harness.view) or 0) > 1


def test_merges_of_ever_new_masters_keep_no_key_from_its_activation() -> None:
    """A review found this."""
    harness = leading()
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    for number in range(300):
        other = replace(member(HIGH, priority=1), id=f"{0xA0000000 + number:08x}")
        harness.accept(10 + number, Merge(other, 1, 1, 1))
        let_time_pass(harness, 0.1)
    let_time_pass(harness, 6.0)
    assert (sending_epoch(harness.view) or 0) > 1


def test_previous_key_that_is_claimed_repeatedly_is_retired() -> None:
    """A review found this."""
    harness = leading()
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    let_time_pass(harness, 0.2)
    assert sending_epoch(harness.view) == 2
    for number in range(10, 20):
        harness.accept(number, sender(HIGH, sends_with=1, key_number=1, lease=0), "10.0.0.9")
        for _ in range(60):
            let_time_pass(harness, 0.1)
            harness.receive(inbound(number), Heartbeat())
    assert {e.epoch for e in harness.view.keys} == {2}


def test_groups_of_ever_new_nodes_make_no_merge_that_cannot_be_sent() -> None:
    """A review found this."""
    harness = NodeHarness().start()
    session = harness.become_client()
    for first in (0x20000000, 0x30000000, 0x40000000):
        others = tuple(replace(member("20000000"), id=f"{first + n:08x}") for n in range(4094))
        group = Group(1, LOW, (member(LOW), member(ME), *others), (ME,))
        harness.receive(session, group, state(entry(1, 901, send=True)))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    harness.wait(0.2)
    harness.hear(advert(HIGH, Role.MASTER, members=5, priority=200))
    harness.give(Connected(of(Connect, harness.log)[-1].session))
    assert encode(sent(Merge, harness.log)[-1])


def test_masters_that_have_yielded_take_no_places_when_a_node_leads_again() -> None:
    """A review found this."""
    harness = NodeHarness(priority=200, max_members=8).start().become_master()
    for number in range(20):
        other = replace(member(HIGH, priority=1), id=f"{0xA0000000 + number:08x}")
        harness.accept(10 + number, Merge(other, 1, 1, 1))
    harness.accept(40, Merge(member(HIGH), 1, 99, 1))
    harness.wait(0.1)
    for _ in range(40):
        if harness.view.role is Role.MASTER:
            break
        if (connect := of(Connect, harness.log)[-1]).session not in {a.session for a in of(Disconnect, harness.log)}:
            harness.give(Disconnected(connect.session, "unreachable"))
        harness.wait(0.1)
    assert harness.view.role is Role.MASTER
    assert sent(Group, harness.accept(50, join(LOW)))
