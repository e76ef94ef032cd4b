"""What seeds of the simulator have shown of keys: each as the few events that it takes."""

import pytest

from pskkey.core.actions import Send
from pskkey.core.events import (
    Attached,
    Direction,
    Disconnected,
    RekeyRequested,
    Session,
    SwitchoverRequested,
)
from pskkey.core.key_slots import is_above, latest
from pskkey.core.keyring import Keyring
from pskkey.model import (
    MAX_EPOCH,
    Handover,
    HeldKey,
    KeyAck,
    KeyNew,
    KeyNewReason,
    KeyState,
    KeyWatch,
    Process,
)
from tests.core.harness import NodeHarness, join, of, sent
from tests.core.keys import empty_ring, entry, key
from tests.core.situations import HIGH, LOW, acked, sender, sending, state, taken_over

LOCAL = Session(Direction.LOCAL, 1)


# --- merges: seeds 26, 57, 32, 28 -------------------------------------------------------------------------------


def test_who_comes_over_while_a_key_is_on_its_way_may_send_with_that() -> None:
    harness = taken_over()
    harness.wait(0.6)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    welcome = sent(KeyState, harness.accept(1, sender(HIGH, sends_with=1, key_number=801, lease=2)))
    assert welcome[-1].sender_id is None, "not under the key that another memory of it may have sent with"
    acked(harness, 1, 2)
    told = sent(KeyState, harness.wait(0.2))
    assert [e.epoch for e in told[-1].entries if e.send] == [2]
    assert told[-1].sender_id == 2
    harness.wait(1.2)
    assert harness.view.next is None, "and no second roll is needed for it"


# --- rolling soon after one another: seeds 2, 67 ----------------------------------------------------------------


def test_a_key_is_kept_for_its_time_while_there_is_room_though_two_have_followed_it() -> None:
    ring = empty_ring()
    ring.lead(0.0)
    for number in range(3):
        ring.install_fresh(key(number), 2.0 * number)
        ring.activate(2.0 * number + 0.1)
    assert [e.epoch for e in ring.entries] == [1, 2, 3]
    ring.keep(HeldKey(1, key(0).fingerprint, send=True), 5.0)
    ring.install_fresh(key(4), 6.0)
    assert [e.epoch for e in ring.entries] == [1, 3, 4], "of the two, that which nobody sends with"


def test_a_key_that_a_member_comes_over_with_is_kept_from_then_on() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, KeyNew(KeyNewReason.OPERATOR))
    harness.wait(1.5)
    harness.accept(2, join(LOW))
    harness.receive(Session(Direction.INBOUND, 2), KeyNew(KeyNewReason.OPERATOR), KeyAck(2))
    assert [e.epoch for e in harness.view.keys] == [1, 2]
    harness.wait(8.0)
    harness.accept(3, sender(HIGH, sends_with=1, key_number=1, lease=9))
    harness.wait(5.0)
    assert 1 in {e.epoch for e in harness.view.keys}


# --- epochs that start over: the seeds of kind "wrap" ------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "other", "is_later"),
    [
        (2, 1, True),
        (1, 2, False),
        (7, 7, False),
        (1, MAX_EPOCH, True),
        (MAX_EPOCH, 1, False),
        (5, 0, True),
        (0, 5, False),
    ],
)
def test_an_epoch_is_later_by_the_shorter_way_round(epoch: int, other: int, is_later: bool) -> None:
    assert is_above(epoch, other) is is_later
    assert latest((epoch, other)) == (epoch if is_later else other)


def late(epoch: int) -> Keyring:
    """Return the ring of a master that sends with this epoch."""
    ring = empty_ring()
    ring.adopt(state(entry(epoch, 901, send=True)), 0.0)
    ring.lead(0.0)
    return ring


def test_the_term_rises_also_when_epochs_start_over_above_another_halfs() -> None:
    ring = late(60_006)
    assert ring.install_fresh(key(902), 1.0, above=1), "from 60,006 it is a shorter way to 1 and on"
    assert [e.epoch for e in ring.entries] == [60_006, 2]


def test_an_acknowledgement_is_of_a_key_and_not_of_the_next_one_with_its_epoch() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10), KeyAck(1))
    assert sent(KeyAck, harness.log) == [KeyAck(1)]
    harness.wait(0.6)
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902), sender_id=1))
    harness.receive(LOCAL, KeyAck(2))
    harness.receive(session, state(entry(1, 901), entry(2, 902, send=True), sender_id=1))
    told = harness.receive(session, state(entry(2, 902, send=True), entry(1, 904), sender_id=1))
    assert sent(KeyState, told)
    assert not sent(KeyAck, told), "the session manager has not got it yet"
    assert sent(KeyAck, harness.receive(LOCAL, KeyAck(1))) == [KeyAck(1)]


# --- connections that break in the middle: seeds 40553, 40354 ---------------------------------------------------


def test_a_member_whose_connection_broke_is_waited_for_a_moment_before_a_key_is_sent_with() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    harness.wait(0.6)
    assert sending(harness.view) == 1
    harness.accept(2, join(LOW))
    acked(harness, 2, 2)
    assert sending(harness.view) == 2


def test_who_is_handed_over_has_the_key_that_its_master_has_just_begun_to_send_with() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    acked(harness, 1, 2)
    assert sending(harness.view) == 2
    told = [
        a.message for a in of(Send, harness.give(SwitchoverRequested())) if a.session.direction is Direction.INBOUND
    ]
    assert [type(message) for message in told] == [KeyState, Handover]
    assert isinstance(told[0], KeyState)
    assert [e.epoch for e in told[0].entries if e.send] == [2]


def test_a_member_that_is_gone_for_good_does_not_hold_up_a_key_for_long() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    harness.wait(2.5)
    assert sending(harness.view) == 2


def test_new_key_waits_for_a_member_that_noticed_the_loss_of_its_master_before_the_master_did() -> None:
    """Seed 20148: a split cut a member off; its connection broke at the master only after the split had healed."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    harness.wait(1.5)
    assert sending(harness.view) == 1, "it walks the succession, and comes back"


def test_a_follower_keeps_a_previous_key_as_long_as_its_master_lists_it() -> None:
    ring = empty_ring()
    listed = state(entry(1, 901), entry(2, 902, send=True))
    ring.adopt(listed, 0.0)
    ring.adopt(listed, 8.0)
    ring.follow_tick(12.0)
    assert [e.epoch for e in ring.entries] == [1, 2]
    assert ring.follow_deadline() is None
    ring.adopt(state(entry(2, 902, send=True)), 18.0)
    assert [e.epoch for e in ring.entries] == [2]
