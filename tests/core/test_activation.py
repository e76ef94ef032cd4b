"""A new key is sent with once the members that are expected have acknowledged it, or at its deadline."""

import pytest

from pskkey.core.arrivals import LONGEST
from pskkey.core.events import Attached, Direction, Disconnected, RekeyRequested, Session
from pskkey.core.settings import Timing
from pskkey.model import Group, Heartbeat, HeldKey, KeyAck, KeyNewReason, KeyState, KeyWatch, Merge, Process
from tests.core.harness import ME, NodeHarness, join, member, sent
from tests.core.keys import entry, key
from tests.core.situations import HIGH, LOCAL, LOW, OTHER, acknowledge, inbound, sending_epoch, state, taken_over

# --- the members that a master waits for ------------------------------------------------------------------------------


def test_new_key_waits_a_moment_for_a_member_whose_connection_broke() -> None:
    """Seeds 40354 and 40553."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    harness.wait(0.6)
    assert sending_epoch(harness.view) == 1
    harness.accept(2, join(LOW))
    acknowledge(harness, 2, 2)
    assert sending_epoch(harness.view) == 2


@pytest.mark.parametrize("how", ["its master yields", "another member of its group comes", "nobody comes"])
def test_new_key_waits_for_an_old_member_that_may_come_from_another_group(how: str) -> None:
    """Seed 5742: the map listed it still, so nobody in that group knew that it was on its way."""
    harness = taken_over()
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(2.0)
    match how:
        case "its master yields":
            harness.accept(1, Merge(member("88888888"), term=1, members=1, epoch=1))
            harness.receive(inbound(1), join("88888888"))
        case "another member of its group comes":
            harness.accept(1, join(OTHER, held=(HeldKey(1, key(901).fingerprint, send=True),)))
        case _:
            pass
    for _ in range(8):
        harness.wait(0.1)
        if how != "nobody comes" and (coming := harness.view.next) is not None:
            acknowledge(harness, 1, coming.epoch)
    assert (harness.view.next is not None) == (how != "nobody comes")


def test_joiners_of_other_groups_cannot_keep_the_place_of_an_old_member_for_ever() -> None:
    harness = taken_over()
    began, listed = harness.now, []
    for number in range(40):
        joiner = join(f"4444{number:04x}", held=(HeldKey(1, key(901).fingerprint, send=True),))
        groups = sent(Group, harness.accept(number, joiner))
        listed.append((harness.now - began, HIGH in {m.id for m in groups[-1].members}))
        harness.wait(0.5)
    comes_within = Timing().comes_within
    assert all(is_listed for at, is_listed in listed if at < LONGEST * comes_within - 0.5)
    assert not any(is_listed for at, is_listed in listed if at > LONGEST * comes_within)


def test_new_key_does_not_wait_long_for_a_member_that_is_gone_for_good() -> None:
    """Seeds 40354 and 40553."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    harness.wait(2.5)
    assert sending_epoch(harness.view) == 2


def test_new_key_waits_for_a_member_that_lost_its_master_before_the_master_noticed() -> None:
    """Seed 20148: a split separated a member; its connection broke at the master only after the split had ended."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    harness.wait(1.5)
    assert sending_epoch(harness.view) == 1, "the member tries the succession, and joins again"


def test_new_key_waits_for_a_silent_member_as_long_as_after_a_takeover() -> None:
    """Seed 5171: the member may notice the loss later than the master."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(0.4)
    assert not harness.members
    harness.wait(2.0)
    assert sending_epoch(harness.view) == 1
    harness.accept(2, join(LOW))
    acknowledge(harness, 2, 2)
    assert sending_epoch(harness.view) == 2


def test_joiner_that_holds_the_next_key_does_not_postpone_it() -> None:
    """Seed 5171."""
    harness = NodeHarness().start().become_master()
    harness.wait(1.2)
    foreign = HeldKey(1, key(801).fingerprint, send=True)
    harness.accept(1, join(LOW, held=(foreign,)))
    coming = harness.view.next
    assert coming is not None
    harness.wait(1.2)
    harness.accept(2, join(LOW, held=(foreign, HeldKey(coming.epoch, coming.key.fingerprint, send=False))))
    harness.wait(0.2)
    assert harness.view.next == coming


def test_newcomer_that_acknowledges_nothing_does_not_postpone_a_key_for_long() -> None:
    """It only sends heartbeats; a key waits up to 5 s for a member that is about to acknowledge it."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    for tenth in range(30):
        if tenth == 22:
            harness.give(RekeyRequested(KeyNewReason.OPERATOR))
        harness.wait(0.1)
        harness.receive(Session(Direction.INBOUND, 1), Heartbeat())
    current = harness.view.current
    assert current is not None
    assert current.epoch == 2


# --- acknowledgements -------------------------------------------------------------------------------------------------


def test_a_client_acknowledges_a_new_epoch_once() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    state = KeyState(1, frozenset({0, 1}), harness.node.key_state().entries)
    assert sent(KeyAck, harness.log) == [KeyAck(1)]
    assert not sent(KeyAck, harness.receive(session, state))


def test_acknowledgement_of_a_key_does_not_count_for_a_later_key_with_its_epoch() -> None:
    """Seeds of the kind "wrap"."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10), KeyAck(1))
    assert sent(KeyAck, harness.log) == [KeyAck(1)]
    harness.wait(0.6)
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902), sender_id=1))
    harness.receive(LOCAL, KeyAck(2))
    harness.receive(session, state(entry(1, 901), entry(2, 902, send=True), sender_id=1))
    actions = harness.receive(session, state(entry(2, 902, send=True), entry(1, 904), sender_id=1))
    assert sent(KeyState, actions)
    assert not sent(KeyAck, actions), "the session manager does not have it yet"
    assert sent(KeyAck, harness.receive(LOCAL, KeyAck(1))) == [KeyAck(1)]


def test_all_members_learn_that_a_joiner_has_the_keys() -> None:
    """Seeds 2910, 4347 and 4705."""
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    harness.wait(0.3)
    before = len(harness.log)
    for _ in range(2):
        acknowledge(harness, 1, 1)
        harness.wait(0.3)
    (group,) = sent(Group, harness.log[before:])  # the second acknowledgement changes nothing
    assert next(m.acked_epoch for m in group.members if m.id == LOW) == 1


def test_group_lists_the_acknowledged_epoch_of_each_member_once_a_key_is_in_use() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.0)
    harness.accept(1, join(LOW))
    harness.receive(Session(Direction.INBOUND, 1), KeyAck(1))
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(0.5)
    actions = harness.receive(Session(Direction.INBOUND, 1), KeyAck(2)) + harness.wait(0.3)
    members = {m.id: m.acked_epoch for m in sent(Group, actions)[-1].members}
    assert members == {ME: 2, LOW: 2}
