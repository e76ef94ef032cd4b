"""A master leads a joiner that sends with another key to the key of the group (`core/former_keys.py`)."""

from dataclasses import replace

from pskkey.core.events import Direction, RekeyRequested, Session
from pskkey.model import Group, Heartbeat, KeyAck, KeyNew, KeyNewReason, KeyState, Merge
from tests.core.harness import ME, NodeHarness, join, member, sent
from tests.core.situations import HIGH, LOW, OTHER, acknowledge, inbound, sender, sending_epoch

# --- a master that yields ---------------------------------------------------------------------------------------------


def merged() -> NodeHarness:
    """Return a master, with the member LOW, to which HIGH has yielded."""
    harness = NodeHarness(priority=200).start().become_master()
    harness.accept(1, join(LOW))
    acknowledge(harness, 1, 1)
    harness.wait(1.2)
    assert [m.winner for m in sent(Merge, harness.accept(2, Merge(member(HIGH), 1, 2, 1)))] == [ME]
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert harness.view.next is not None
    acknowledge(harness, 1, 2)
    return harness


def join_with_key_801(harness: NodeHarness, number: int, node: str, *, epoch: int = 1) -> None:
    """Let a node join that sends with key 801."""
    harness.accept(number, sender(node, sends_with=epoch, key_number=801, lease=0))


def send_mark(harness: NodeHarness, number: int) -> int | None:
    """Return the epoch with the send mark in the last state for member `number`, None if no key has the mark."""
    states = [
        a.message for a in harness.log if getattr(a, "session", None) == inbound(number) and hasattr(a, "message")
    ]
    last = [s for s in states if isinstance(s, KeyState)][-1]
    return next((e.epoch for e in last.entries if e.send), None)


def test_new_key_waits_for_the_yielding_master() -> None:
    harness = merged()
    assert sending_epoch(harness.view) == 1, "HIGH is on its way"
    join_with_key_801(harness, 3, HIGH)
    assert sending_epoch(harness.view) == 1, "it has not acknowledged the new key"
    acknowledge(harness, 3, 2)
    assert sending_epoch(harness.view) == 2
    harness.wait(0.2)
    assert send_mark(harness, 3) == 2


def test_new_key_waits_for_another_node_as_long_as_the_yielding_master_has_not_joined() -> None:
    harness = merged()
    join_with_key_801(harness, 3, OTHER)
    acknowledge(harness, 3, 2)
    assert sending_epoch(harness.view) == 1
    join_with_key_801(harness, 4, HIGH)
    acknowledge(harness, 4, 2)
    assert sending_epoch(harness.view) == 2


def test_new_key_waits_for_two_yielding_masters_with_the_key_of_this_one() -> None:
    harness = NodeHarness(priority=200).start().become_master()
    harness.wait(1.2)
    for number, other in ((2, HIGH), (3, OTHER)):
        harness.accept(number, Merge(member(other), 1, 1, 1))
    harness.wait(0.2)
    harness.accept(4, sender(HIGH, sends_with=1, key_number=1, lease=0))
    acknowledge(harness, 4, 2)
    harness.wait(1.0)
    harness.receive(inbound(4), Heartbeat())
    assert sending_epoch(harness.view) == 1, "OTHER is on its way"
    harness.accept(5, sender(OTHER, sends_with=1, key_number=1, lease=0))
    harness.wait(1.0)
    coming = harness.view.next
    assert coming is not None
    acknowledge(harness, 4, coming.epoch)
    acknowledge(harness, 5, coming.epoch)
    assert sending_epoch(harness.view) == coming.epoch


def keep_alive(harness: NodeHarness, *numbers: int, seconds: float) -> None:
    """Let time pass in which these members are heard."""
    for _ in range(round(seconds / 0.1)):
        harness.wait(0.1)
        for number in numbers:
            harness.receive(inbound(number), Heartbeat())


def test_yielding_master_is_awaited_no_longer_than_comes_within() -> None:
    harness = merged()
    keep_alive(harness, 1, seconds=2.1)
    assert sending_epoch(harness.view) == 1
    keep_alive(harness, 1, seconds=0.3)
    assert sending_epoch(harness.view) == 2


def test_yielding_masters_take_no_places_of_members() -> None:
    harness = NodeHarness(priority=200, max_members=8).start().become_master()
    for number in range(20):
        other = replace(member(HIGH), id=f"{0xA0000000 + number:08x}")
        harness.accept(10 + number, Merge(other, 1, 1, 1))
    assert sent(Group, harness.accept(1, join(LOW)))


# --- joiners ----------------------------------------------------------------------------------------------------------


def test_joiners_keep_former_key_until_all_of_them_have_acknowledged_the_groups_key() -> None:
    harness = NodeHarness().start().become_master()
    join_with_key_801(harness, 1, HIGH)
    keep_alive(harness, 1, seconds=1.2)
    assert harness.view.next is not None, "the master rekeys above a key that it does not know"
    join_with_key_801(harness, 2, OTHER)
    acknowledge(harness, 2, 2)
    assert sending_epoch(harness.view) == 1, "HIGH waits for a node of its group, and acknowledges nothing"
    acknowledge(harness, 1, 2)
    harness.wait(0.2)
    assert [send_mark(harness, number) for number in (1, 2)] == [2, 2]


def test_joiner_that_comes_alone_leaves_its_key_as_soon_as_it_has_a_newer_one() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(0.2)
    assert sending_epoch(harness.view) == 2
    join_with_key_801(harness, 1, HIGH)
    assert send_mark(harness, 1) is None
    acknowledge(harness, 1, 2)
    harness.wait(0.2)
    assert send_mark(harness, 1) == 2
    assert sending_epoch(harness.view) == 2, "no other key is needed: the group's is above its own"


def test_joiner_with_an_epoch_above_the_groups_is_not_led_to_a_lower_one() -> None:
    harness = NodeHarness().start().become_master()
    join_with_key_801(harness, 1, HIGH, epoch=7)
    acknowledge(harness, 1, 1)
    harness.wait(0.2)
    assert send_mark(harness, 1) is None
    keep_alive(harness, 1, seconds=1.0)
    acknowledge(harness, 1, 8)
    harness.wait(0.2)
    assert send_mark(harness, 1) == 8


def test_joiner_with_the_groups_previous_key_goes_on_with_it_until_it_has_acknowledged() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(0.2)
    harness.accept(1, sender(HIGH, sends_with=1, key_number=1, lease=0))
    assert send_mark(harness, 1) is None
    acknowledge(harness, 1, 2)
    harness.wait(0.2)
    assert send_mark(harness, 1) == 2


def test_previous_key_is_kept_while_a_member_sends_with_it() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(8.0)
    harness.accept(1, sender(HIGH, sends_with=1, key_number=1, lease=0))
    keep_alive(harness, 1, seconds=3.0)
    assert {e.epoch for e in harness.view.keys} == {1, 2}


def test_previous_key_that_a_joiner_sends_with_is_kept_from_the_join_on() -> None:
    """Seeds 2 and 67."""
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


def test_member_that_never_acknowledges_leaves_its_key_in_the_end() -> None:
    harness = NodeHarness().start().become_master()
    join_with_key_801(harness, 1, HIGH)
    keep_alive(harness, 1, seconds=7.0)
    assert send_mark(harness, 1) is None
    keep_alive(harness, 1, seconds=0.6)
    assert send_mark(harness, 1) == 2


def test_renewed_session_does_not_prolong_the_time_of_the_former_key() -> None:
    """Seed 4693: PSKs changed, and each second session began the time again."""
    harness = NodeHarness().start().become_master()
    join_with_key_801(harness, 1, HIGH)
    for number in range(1, 4):
        keep_alive(harness, number, seconds=2.0)
        join_with_key_801(harness, number + 1, HIGH)
    keep_alive(harness, 4, seconds=1.0)
    assert send_mark(harness, 4) is None
    keep_alive(harness, 4, seconds=0.6)
    assert send_mark(harness, 4) == 2


def test_repeated_join_does_not_end_the_former_key() -> None:
    harness = NodeHarness().start().become_master()
    join_with_key_801(harness, 1, HIGH)
    again = sender(HIGH, sends_with=1, key_number=801, lease=0)
    harness.receive(inbound(1), again)
    harness.wait(0.2)
    assert send_mark(harness, 1) is None
