"""A restarted node goes on with its persisted state."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Attached, Connected, Session, Started
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
)
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import key
from tests.core.situations import LOCAL, SECOND_LOCAL

MANAGER = Process(10, 0)
SECOND_MANAGER = Process(11, 0)


def test_state_of_a_fresh_node_has_only_its_group_its_id_and_its_incarnation() -> None:
    harness = NodeHarness()
    assert harness.node.saved_state() == SavedState("g", ME, "i0", 0)


def attach(harness: NodeHarness, session: Session, process: Process) -> list[KeyState]:
    """Attach a session manager that sends; return the states that it gets."""
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


def test_persisted_state_of_another_node_or_group_is_not_used() -> None:
    harness, _ = client()
    saved = harness.node.saved_state()
    for foreign in (replace(saved, node="99999999"), replace(saved, group="other")):
        again = harness.restart(foreign, incarnation="i9").start()
        assert again.node.view().keys == ()
        assert again.node.saved_state().incarnation == "i9"


# --- session managers -------------------------------------------------------------------------------------------------


def test_the_session_manager_of_a_restarted_client_goes_on_at_once() -> None:
    harness, _ = client()
    before = harness.node.key_state()
    again = harness.restart()
    assert again.node.view().role is Role.LISTENING
    assert attach(again, LOCAL, MANAGER) == [before]
    assert before.sender_id is not None
    assert before.entries[0].send


def test_session_manager_that_attaches_before_the_start_is_served() -> None:
    harness, _ = client()
    again = NodeHarness(saved=harness.node.saved_state())
    again.now = 12345.0
    assert attach(again, LOCAL, MANAGER) == [harness.node.key_state()]
    assert not of(Slept, again.give(Started()))


def test_second_sender_is_still_kept_from_sending_after_the_restart() -> None:
    harness, _ = client()
    again = harness.restart()
    again.wait(2.5)  # no session manager has come back, and the node has found no master
    states = attach(again, SECOND_LOCAL, SECOND_MANAGER)
    assert not any(e.send for state in states for e in state.entries)
    states = sent(KeyState, again.wait(3.0))  # the other members of its group have not come either
    assert [e.epoch for e in states[-1].entries if e.send] == [2]


def test_a_second_sender_that_is_back_first_does_not_take_the_place_of_the_first() -> None:
    harness, _ = client()
    attach(harness, SECOND_LOCAL, SECOND_MANAGER)
    again = harness.restart()
    assert not any(e.send for e in attach(again, SECOND_LOCAL, SECOND_MANAGER)[-1].entries)
    assert attach(again, LOCAL, MANAGER)[-1].entries[0].send


# --- the group --------------------------------------------------------------------------------------------------------


def test_restarted_node_joins_with_its_incarnation_its_lease_and_its_keys() -> None:
    harness, _ = client()
    again = harness.restart(incarnation="i9")
    connect = one(Connect, again.hear(advert("11111111", Role.MASTER, term=1)))
    (sent_join,) = sent(Join, again.give(Connected(connect.session)))
    assert (sent_join.incarnation, sent_join.lease, sent_join.term, sent_join.sender) == (
        "i0",
        harness.node.key_state().sender_id,
        1,
        True,
    )
    assert [(h.epoch, h.send) for h in sent_join.held] == [(1, True)]


def test_restarted_lone_master_serves_the_same_key_and_lease_under_a_higher_term() -> None:
    harness = NodeHarness().start().become_master()
    before = attach(harness, LOCAL, MANAGER)[-1]
    assert before.sender_id is not None
    again = harness.restart()
    assert attach(again, LOCAL, MANAGER) == [before]
    again.become_master()
    again.wait(3.0)
    assert again.node.key_state() == before
    assert again.node.view().term > harness.view.term


def test_leased_ids_are_not_given_to_newcomers_under_the_same_key_after_a_restart() -> None:
    harness = NodeHarness().start().become_master()
    attach(harness, LOCAL, MANAGER)
    leased = sent(KeyState, harness.accept(1, replace(join("11111111"), sender=True)))[-1].sender_id
    assert leased is not None
    again = harness.restart()
    again.become_master()
    state = sent(KeyState, again.accept(1, replace(join("22222222"), sender=True)))[-1]
    assert state.sender_id is None, "it must wait for the next key"
    assert leased in state.senders


def test_nodes_that_are_all_restarted_at_once_keep_their_leases() -> None:
    master = NodeHarness().start().become_master()
    attach(master, LOCAL, MANAGER)
    other = replace(join("11111111"), sender=True)
    before = sent(KeyState, master.accept(1, other))[0]
    master.wait(0.5)
    again = master.restart()
    attach(again, LOCAL, MANAGER)
    again.become_master()
    held = tuple(HeldKey(e.epoch, e.key.fingerprint, send=e.send) for e in before.entries)
    returned = again.accept(1, replace(other, held=held, lease=before.sender_id, term=1))
    assert sent(KeyState, returned)[0] == before
    assert before.sender_id is not None
    assert not sent(KeyState, again.wait(3.0)), "no node waits for another key"


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("comes_back", [True, False])
def test_next_key_is_acknowledged_when_the_session_manager_is_back_or_its_time_is_over(comes_back: bool) -> None:
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


def test_key_is_retired_in_time_also_when_the_clock_has_gone_back() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(2.0)
    harness.give(Attached(LOCAL, MANAGER))
    harness.receive(LOCAL, KeyWatch(will_send=False), KeyNew(KeyNewReason.OPERATOR))
    harness.wait(0.5)
    assert [e.slot.value for e in harness.view.keys] == ["previous", "current"]
    again = harness.restart(now=1.0)
    again.wait(11.0)
    assert [e.slot.value for e in again.node.view().keys] == ["current"]
