"""What the session managers of a node are told, and what is waited for from them."""

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Attached, Direction, Disconnected, RekeyRequested, Session
from pskkey.core.notices import SecondSender
from pskkey.model import (
    KeyAck,
    KeyNew,
    KeyNewReason,
    KeyState,
    KeyWatch,
    Process,
    Role,
)
from tests.core.harness import NodeHarness, of, one, sent
from tests.core.keys import entry
from tests.core.situations import sending, state

LOCAL = Session(Direction.LOCAL, 1)
OTHER = Session(Direction.LOCAL, 2)


def test_a_watcher_is_told_the_state_once_there_is_a_key_and_when_it_changes() -> None:
    harness = NodeHarness().start()
    harness.give(Attached(LOCAL, Process(10, 0)))
    first = sent(KeyState, harness.receive(LOCAL, KeyWatch(will_send=True, context=10)))
    assert first == [], "there is no key yet, and an empty state would make it drop those that it has"
    later = sent(KeyState, harness.wait(1.5))
    assert later[-1].sender_id is not None
    assert [e.send for e in later[-1].entries] == [True]


def test_a_restarted_sender_receives_at_once_and_sends_from_the_next_epoch_on() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(Attached(LOCAL, Process(10, 0)))
    assert sent(KeyState, harness.receive(LOCAL, KeyWatch(will_send=True, context=10)))[-1].entries[0].send
    harness.give(Disconnected(LOCAL, "gone"))
    harness.wait(2.0)
    harness.give(Attached(OTHER, Process(11, 0)))
    states = sent(KeyState, harness.receive(OTHER, KeyWatch(will_send=True, context=11)))
    assert not any(e.send for e in states[0].entries)
    states += sent(KeyState, harness.wait(1.0))
    assert [e.epoch for e in states[-1].entries if e.send] == [2]


def test_a_sender_that_reconnects_goes_on_and_a_second_one_may_only_receive() -> None:
    harness = NodeHarness().start().become_master()
    for session in (LOCAL, Session(Direction.LOCAL, 3)):
        harness.give(Attached(session, Process(10, 0)))
        assert sent(KeyState, harness.receive(session, KeyWatch(will_send=True, context=10)))[-1].entries[0].send
    harness.give(Attached(OTHER, Process(11, 0)))
    actions = harness.receive(OTHER, KeyWatch(will_send=True, context=11))
    assert not sent(KeyState, actions)[-1].entries[0].send
    assert of(SecondSender, actions)


def test_a_new_key_waits_for_the_session_manager_that_acknowledges() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10), KeyAck(1))
    harness.wait(2.0)
    harness.receive(LOCAL, KeyNew(KeyNewReason.OPERATOR))
    assert harness.view.next is not None
    harness.wait(4.9)
    assert harness.view.next is not None
    harness.receive(LOCAL, KeyAck(2))
    current = harness.view.current
    assert current is not None
    assert current.epoch == 2


def test_a_session_manager_so_slow_that_its_first_word_is_of_a_key_that_has_gone_is_waited_for_as_well() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(Attached(LOCAL, Process(7, 0)))
    assert sent(KeyState, harness.receive(LOCAL, KeyWatch(will_send=True, context=10)))
    harness.wait(1.2)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(11.0)
    assert sorted(e.epoch for e in harness.view.keys) == [2]
    harness.receive(LOCAL, KeyAck(1))
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(1.0)
    assert sending(harness.view) == 2
    harness.receive(LOCAL, KeyAck(3))
    assert sending(harness.view) == 3


@pytest.mark.parametrize("comes", [False, True])
def test_a_daemon_that_has_just_started_gives_those_time_to_come_who_hold_the_keys_of_its_last_process(
    comes: bool,
) -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902), sender_id=1))
    assert KeyAck(2) not in sent(KeyAck, harness.log)
    assert KeyAck(2) not in sent(KeyAck, harness.wait(0.3))
    if comes:
        harness.give(Attached(LOCAL, Process(10, 0)))
        harness.receive(LOCAL, KeyWatch(will_send=False), KeyAck(1))
        assert not sent(KeyAck, harness.wait(0.4)), "and then for those who came"
        assert sent(KeyAck, harness.receive(LOCAL, KeyAck(2))) == [KeyAck(2)]
    else:
        assert sent(KeyAck, harness.wait(0.4)) == [KeyAck(2)]
    rolled = state(entry(2, 902, send=True), entry(3, 903), sender_id=1)
    actions = harness.receive(session, rolled) + (harness.receive(LOCAL, KeyAck(3)) if comes else [])
    assert sent(KeyAck, actions) == [KeyAck(3)], "that was only at its start"


def test_it_gives_them_time_also_when_it_becomes_master_at_once() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902), sender_id=1))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    harness.wait(0.4)
    assert sending(harness.view) == 1
    harness.wait(0.2)
    assert sending(harness.view) == 2
