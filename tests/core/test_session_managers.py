"""The session managers of a node get the state of the keys, and the node waits for their acknowledgements."""

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Attached, Connected, Direction, Disconnected, RekeyRequested, Session
from pskkey.core.notices import SecondSender
from pskkey.model import Group, KeyAck, KeyNew, KeyNewReason, KeyState, KeyWatch, Process, Role
from tests.core.harness import NodeHarness, advert, member, of, one, sent
from tests.core.keys import entry
from tests.core.situations import LOCAL, LOW, SECOND_LOCAL, attach_sender, lone_client, sending_epoch, state

# --- who may send -----------------------------------------------------------------------------------------------------


def test_session_manager_gets_the_state_once_there_is_a_key_and_when_it_changes() -> None:
    harness = NodeHarness().start()
    harness.give(Attached(LOCAL, Process(10, 0)))
    first = sent(KeyState, harness.receive(LOCAL, KeyWatch(will_send=True, context=10)))
    assert first == [], "there is no key yet, and an empty state would make it drop its keys"
    later = sent(KeyState, harness.wait(1.5))
    assert later[-1].sender_id is not None
    assert [e.send for e in later[-1].entries] == [True]


def test_a_restarted_sender_receives_at_once_and_sends_from_the_next_epoch_on() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(Attached(LOCAL, Process(10, 0)))
    assert sent(KeyState, harness.receive(LOCAL, KeyWatch(will_send=True, context=10)))[-1].entries[0].send
    harness.give(Disconnected(LOCAL, "gone"))
    harness.wait(2.0)
    harness.give(Attached(SECOND_LOCAL, Process(11, 0)))
    states = sent(KeyState, harness.receive(SECOND_LOCAL, KeyWatch(will_send=True, context=11)))
    assert not any(e.send for e in states[0].entries)
    states += sent(KeyState, harness.wait(1.0))
    assert [e.epoch for e in states[-1].entries if e.send] == [2]


def test_a_sender_that_reconnects_goes_on_and_a_second_one_may_only_receive() -> None:
    harness = NodeHarness().start().become_master()
    for session in (LOCAL, Session(Direction.LOCAL, 3)):
        harness.give(Attached(session, Process(10, 0)))
        assert sent(KeyState, harness.receive(session, KeyWatch(will_send=True, context=10)))[-1].entries[0].send
    harness.give(Attached(SECOND_LOCAL, Process(11, 0)))
    actions = harness.receive(SECOND_LOCAL, KeyWatch(will_send=True, context=11))
    assert not sent(KeyState, actions)[-1].entries[0].send
    assert of(SecondSender, actions)


def test_second_sender_may_send_with_a_new_key_when_the_first_one_leaves() -> None:
    harness = NodeHarness().start().become_master()
    for session, pid in ((LOCAL, 10), (SECOND_LOCAL, 11)):
        harness.give(Attached(session, Process(pid, 0)))
        harness.receive(session, KeyWatch(will_send=True, context=pid))
    states = sent(KeyState, harness.give(Disconnected(LOCAL, "gone")) + harness.wait(2.0))
    assert states[-1].sender_id is not None
    assert [e.epoch for e in states[-1].entries if e.send] == [2], "with a key that the first one has not used"


# --- acknowledgements -------------------------------------------------------------------------------------------------


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


def test_new_key_waits_for_a_session_manager_that_first_acknowledges_a_retired_key() -> None:
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
    assert sending_epoch(harness.view) == 2
    harness.receive(LOCAL, KeyAck(3))
    assert sending_epoch(harness.view) == 3


@pytest.mark.parametrize("attaches", [False, True])
def test_started_client_gives_session_managers_time_to_attach_before_it_acknowledges(
    attaches: bool,
) -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902), sender_id=1))
    assert KeyAck(2) not in sent(KeyAck, harness.log)
    assert KeyAck(2) not in sent(KeyAck, harness.wait(0.3))
    if attaches:
        harness.give(Attached(LOCAL, Process(10, 0)))
        harness.receive(LOCAL, KeyWatch(will_send=False), KeyAck(1))
        assert not sent(KeyAck, harness.wait(0.4)), "the node now waits for the one that has attached"
        assert sent(KeyAck, harness.receive(LOCAL, KeyAck(2))) == [KeyAck(2)]
    else:
        assert sent(KeyAck, harness.wait(0.4)) == [KeyAck(2)]
    rekeyed = state(entry(2, 902, send=True), entry(3, 903), sender_id=1)
    actions = harness.receive(session, rekeyed) + (harness.receive(LOCAL, KeyAck(3)) if attaches else [])
    assert sent(KeyAck, actions) == [KeyAck(3)], "the node waits only after its start"


def test_started_master_gives_session_managers_time_to_attach_before_it_activates_a_key() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902), sender_id=1))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    harness.wait(0.4)
    assert sending_epoch(harness.view) == 1
    harness.wait(0.2)
    assert sending_epoch(harness.view) == 2


def test_client_waits_only_a_moment_for_a_session_manager_with_nothing_new_to_acknowledge() -> None:
    harness, _ = lone_client()
    attach_sender(harness, LOCAL, 7)
    harness.receive(LOCAL, KeyAck(1))
    harness = harness.restart()
    attach_sender(harness, LOCAL, 7)
    again = one(Connect, harness.hear(advert(LOW, Role.MASTER, term=1)))
    harness.give(Connected(again.session))
    harness.receive(
        again.session,
        Group(1, LOW, (member(LOW), member("55555555", sender_id=1)), ("55555555",)),
        KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)),
    )
    assert sent(KeyAck, harness.wait(1.4)) == []
    harness.receive(again.session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)))
    assert sent(KeyAck, harness.wait(1.0)) == [KeyAck(1)]
