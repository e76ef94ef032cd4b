"""Sender ids as a group sees them: a configured one, one that is taken, and more senders than there are ids."""

from dataclasses import replace

from pskkey.core.actions import Action
from pskkey.core.events import Attached, Direction, RekeyRequested, Session
from pskkey.core.notices import NoSenderId, OwnSenderIdTaken, SenderIdTaken
from pskkey.model import SENDER_IDS, Group, Join, KeyAck, KeyEntry, KeyNewReason, KeyState, KeyWatch, Process
from tests.core.harness import ME, NodeHarness, join, of, sent
from tests.core.keys import key

LOCAL = Session(Direction.LOCAL, 1)


def sender(node_id: str, wanted: int | None = None) -> Join:
    """Return the JOIN of a node that sends."""
    said = join(node_id)
    return replace(said, member=replace(said.member, sender_id=wanted), sender=True)


def leased(actions: list[Action]) -> int | None:
    """Return the id that a joiner was told."""
    return sent(KeyState, actions)[-1].sender_id


def test_a_configured_id_is_honoured_and_a_clash_is_told_once() -> None:
    harness = NodeHarness().start().become_master()
    assert leased(harness.accept(1, sender("11111111", wanted=42))) == 42
    actions = harness.accept(2, sender("22222222", wanted=42))
    assert leased(actions) not in (42, None)
    (taken,) = of(SenderIdTaken, actions)
    assert (taken.peer.name, taken.configured, taken.sender_id, taken.holder) == ("n2", 42, leased(actions), "n1")
    assert not of(SenderIdTaken, harness.wait(1.0))


def test_a_client_says_that_it_has_not_got_the_id_of_its_configuration() -> None:
    harness = NodeHarness(sender_id=7).start()
    session = harness.become_client()
    state = KeyState(9, frozenset({0, 9}), (KeyEntry(1, key(901), send=True),))
    assert of(OwnSenderIdTaken, harness.receive(session, state)) == [OwnSenderIdTaken(configured=7, sender_id=9)]
    assert not of(OwnSenderIdTaken, harness.receive(session, state))
    mine = replace(state, sender_id=7)
    assert not of(OwnSenderIdTaken, harness.receive(session, mine))


def test_more_senders_than_ids_are_told_of_and_can_receive() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10))
    for number in range(1, SENDER_IDS):
        assert leased(harness.accept(number, sender(f"{number:08x}"))) is not None
    actions = harness.accept(SENDER_IDS, sender(f"{SENDER_IDS:08x}"))
    (state,) = sent(KeyState, actions)
    assert state.sender_id is None
    assert state.entries, "it can receive"
    assert [notice.peer.id for notice in of(NoSenderId, actions)] == [f"{SENDER_IDS:08x}"]


def test_all_know_who_has_the_new_key_once_it_is_in_use() -> None:
    harness = NodeHarness().start().become_master()
    harness.wait(1.0)
    harness.accept(1, join("11111111"))
    harness.receive(Session(Direction.INBOUND, 1), KeyAck(1))
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(0.5)
    actions = harness.receive(Session(Direction.INBOUND, 1), KeyAck(2)) + harness.wait(0.3)
    members = {m.id: m.acked_epoch for m in sent(Group, actions)[-1].members}
    assert members == {ME: 2, "11111111": 2}
