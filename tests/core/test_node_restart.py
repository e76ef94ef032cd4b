"""A node that goes on with what an earlier process of it saved."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Attached, Connected, Direction, Session, Started
from pskkey.core.notices import Slept
from pskkey.model import (
    Group,
    Heartbeat,
    HeldKey,
    Join,
    KeyAck,
    KeyEntry,
    KeyNew,
    KeyNewReason,
    KeyState,
    KeyWatch,
    Process,
    Role,
    SavedState,
    Slot,
)
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import key

LOCAL = Session(Direction.LOCAL, 1)
OTHER = Session(Direction.LOCAL, 2)
MANAGER = Process(10, 0)
SECOND = Process(11, 0)


def attach(harness: NodeHarness, session: Session, process: Process) -> list[KeyState]:
    """Attach a session manager that sends; return what it is told."""
    actions = harness.give(Attached(session, process)) + harness.receive(
        session, KeyWatch(will_send=True, context=process.pid)
    )
    return sent(KeyState, [a for a in actions if isinstance(a, Send) and a.session == session])


def client() -> tuple[NodeHarness, Session]:
    """Return a client whose session manager sends."""
    harness = NodeHarness().start()
    session = harness.become_client("22222222")
    assert attach(harness, LOCAL, MANAGER)[-1].entries[0].send
    harness.receive(LOCAL, KeyAck(1))
    return harness, session


def test_the_session_manager_of_a_restarted_client_goes_on_at_once() -> None:
    harness, _ = client()
    before = harness.node.key_state()
    again = harness.restart()
    assert again.node.view().role is Role.LISTENING
    assert attach(again, LOCAL, MANAGER) == [before]
    assert before.sender_id is not None
    assert before.entries[0].send


def test_a_session_manager_that_was_faster_than_the_start_is_served() -> None:
    harness, _ = client()
    again = NodeHarness(saved=harness.node.saved_state())
    again.now = 12345.0
    assert attach(again, LOCAL, MANAGER) == [harness.node.key_state()]
    assert not of(Slept, again.give(Started()))


def test_it_joins_with_its_instance_its_lease_and_its_keys() -> None:
    harness, _ = client()
    again = harness.restart(incarnation="i9")
    connect = one(Connect, again.hear(advert("11111111", Role.MASTER, term=1)))
    (said,) = sent(Join, again.give(Connected(connect.session)))
    assert (said.incarnation, said.lease, said.term, said.sender) == ("i0", harness.node.key_state().sender_id, 1, True)
    assert [(h.epoch, h.send) for h in said.held] == [(1, True)]


def test_what_another_node_or_another_group_saved_is_not_used() -> None:
    harness, _ = client()
    saved = harness.node.saved_state()
    for foreign in (replace(saved, node="99999999"), replace(saved, group="other")):
        again = harness.restart(foreign, incarnation="i9").start()
        assert again.node.view().keys == ()
        assert again.node.saved_state().incarnation == "i9"


def test_another_process_is_still_kept_from_sending_after_the_restart() -> None:
    harness, _ = client()
    again = harness.restart()
    again.wait(2.5)  # nobody has come back, and no master was found
    told = attach(again, OTHER, SECOND)
    assert not any(e.send for state in told for e in state.entries)
    told = sent(KeyState, again.wait(3.0))  # the others of its group have not come either
    assert [e.epoch for e in told[-1].entries if e.send] == [2]


def test_a_second_sender_that_is_back_first_does_not_take_the_place_of_the_first() -> None:
    harness, _ = client()
    attach(harness, OTHER, SECOND)
    again = harness.restart()
    assert not any(e.send for e in attach(again, OTHER, SECOND)[-1].entries)
    assert attach(again, LOCAL, MANAGER)[-1].entries[0].send


def test_a_lone_master_that_was_restarted_serves_the_same_key_under_a_higher_term_with_the_same_lease() -> None:
    harness = NodeHarness().start().become_master()
    before = attach(harness, LOCAL, MANAGER)[-1]
    assert before.sender_id is not None
    again = harness.restart()
    assert attach(again, LOCAL, MANAGER) == [before]
    again.become_master()
    again.wait(3.0)
    assert again.node.key_state() == before
    assert again.node.view().term > harness.view.term


def test_ids_that_others_had_are_not_given_to_newcomers_under_the_same_key() -> None:
    harness = NodeHarness().start().become_master()
    attach(harness, LOCAL, MANAGER)
    leased = sent(KeyState, harness.accept(1, replace(join("11111111"), sender=True)))[-1].sender_id
    assert leased is not None
    again = harness.restart()
    again.become_master()
    told = sent(KeyState, again.accept(1, replace(join("22222222"), sender=True)))[-1]
    assert told.sender_id is None, "it must wait for the next key"
    assert leased in told.senders


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_coming_key_is_acknowledged_when_the_session_manager_is_back_or_will_not_come(comes_back: bool) -> None:
    harness, session = client()
    harness.receive(
        session, KeyState(1, frozenset(range(3)), (KeyEntry(1, key(901), True), KeyEntry(2, key(902), False)))
    )
    again = harness.restart()
    connect = one(Connect, again.hear(advert("11111111", Role.MASTER, term=1)))
    again.give(Connected(connect.session))
    group = Group(1, "11111111", (member("11111111"), member(ME, sender_id=1), member("22222222")), (ME,))
    state = KeyState(1, frozenset(range(3)), (KeyEntry(1, key(901), True), KeyEntry(2, key(902), False)))
    actions = again.receive(connect.session, group, state)
    assert not sent(KeyAck, actions), "the session manager may not have the key"
    if comes_back:
        attach(again, LOCAL, MANAGER)
        assert not sent(KeyAck, again.wait(0.6) + again.receive(LOCAL, KeyAck(1)))
        assert sent(KeyAck, again.receive(LOCAL, KeyAck(2))) == [KeyAck(2)]
    else:
        actions = again.wait(1.2) + again.receive(connect.session, Heartbeat()) + again.wait(1.2)
        assert sent(KeyAck, actions) == [KeyAck(2)]


def test_a_key_is_retired_in_time_also_when_the_clock_says_that_its_turn_is_yet_to_come() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(2.0)
    harness.give(Attached(LOCAL, MANAGER))
    harness.receive(LOCAL, KeyWatch(will_send=False), KeyNew(KeyNewReason.OPERATOR))
    harness.wait(0.5)
    assert [e.slot.value for e in harness.view.keys] == ["previous", "current"]
    again = harness.restart(now=1.0)
    again.wait(11.0)
    assert [e.slot.value for e in again.node.view().keys] == ["current"]


def test_nothing_of_it_is_saved_before_it_is_so() -> None:
    harness = NodeHarness()
    assert harness.node.saved_state() == SavedState("g", ME, "i0", 0)


def test_when_all_are_restarted_at_once_everybody_goes_on_with_the_lease_that_it_had() -> None:
    master = NodeHarness().start().become_master()
    attach(master, LOCAL, MANAGER)
    other = replace(join("11111111"), sender=True)
    told = sent(KeyState, master.accept(1, other))[0]
    master.wait(0.5)
    again = master.restart()
    attach(again, LOCAL, MANAGER)
    again.become_master()
    held = tuple(HeldKey(e.epoch, e.key.fingerprint, send=e.send) for e in told.entries)
    returned = again.accept(1, replace(other, held=held, lease=told.sender_id, term=1))
    assert sent(KeyState, returned)[0] == told
    assert told.sender_id is not None
    assert not sent(KeyState, again.wait(3.0)), "nobody waits for another key"


def test_a_node_that_begins_with_a_key_long_overdue_was_not_asleep() -> None:
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
