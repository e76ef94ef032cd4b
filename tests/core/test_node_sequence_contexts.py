"""Sequence numbers are remembered by somebody or by nobody: who sent with a key is told by that and by nothing else."""

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Attached, Connected, Direction, Disconnected, Session
from pskkey.model import Group, KeyAck, KeyNew, KeyNewReason, KeyState, KeyWatch, Process, Role
from tests.core.harness import NodeHarness, advert, member, one, sent
from tests.core.keys import entry, key

MASTER = "11111111"
FIRST, SECOND = Session(Direction.LOCAL, 1), Session(Direction.LOCAL, 2)
SAME = Process(0, 1000)


def attach(harness: NodeHarness, session: Session, context: int) -> list[KeyState]:
    """Attach a sender of one and the same process; return what it is told."""
    harness.give(Attached(session, SAME))
    return sent(KeyState, harness.receive(session, KeyWatch(will_send=True, context=context)))


def may_send(told: list[KeyState]) -> bool:
    """Tell whether a session manager was told to send, in the end."""
    return any(e.send for e in told[-1].entries)


def client() -> tuple[NodeHarness, Session]:
    """Return a client that has key 901, and its session with the master."""
    harness = NodeHarness().start()
    return harness, harness.become_client(master=MASTER)


@pytest.mark.parametrize(("first", "second", "goes_on"), [(7, 7, True), (7, 8, False), (0, 0, False), (7, 0, False)])
def test_who_comes_again_may_send_with_the_same_key_only_with_the_same_memory(
    first: int, second: int, goes_on: bool
) -> None:
    harness, _ = client()
    assert may_send(attach(harness, FIRST, first))
    harness.give(Disconnected(FIRST, "gone"))
    assert may_send(attach(harness, SECOND, second)) is goes_on


@pytest.mark.parametrize(("context", "goes_on"), [(7, True), (0, False)])
def test_after_a_restart_of_the_daemon_only_a_named_memory_goes_on(context: int, goes_on: bool) -> None:
    harness, _ = client()
    assert may_send(attach(harness, FIRST, context))
    assert may_send(attach(harness.restart(), FIRST, context)) is goes_on


def test_two_memories_of_one_process_do_not_both_send() -> None:
    harness, _ = client()
    assert may_send(attach(harness, FIRST, 7))
    assert not may_send(attach(harness, SECOND, 8))


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_key_that_its_sender_had_to_drop_is_not_sent_with_again(is_restarted: bool) -> None:
    harness, session = client()
    attach(harness, FIRST, 7)
    rolled = KeyState(1, frozenset({0, 1}), (entry(1, 901), entry(2, 902, send=True)))
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True), entry(2, 902))))
    assert may_send(sent(KeyState, harness.receive(session, rolled)))
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(2, 902, send=True),)))
    if is_restarted:
        harness = harness.restart()
        again = one(Connect, harness.hear(advert(MASTER, Role.MASTER, term=4)))
        session = again.session
        harness.give(Connected(session))
        harness.receive(session, Group(4, MASTER, (member(MASTER), member("55555555", sender_id=1)), ("55555555",)))
        attach(harness, FIRST, 7)
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901), entry(2, 902, send=True))))
    back = KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True), entry(2, 902)))
    told = sent(KeyState, harness.receive(session, back))
    current = harness.view.current
    assert current is not None
    if current.key == key(901):
        assert not may_send(told)


def test_a_sender_that_says_that_it_has_lost_its_numbers_does_not_send_with_that_key_again() -> None:
    harness, _ = client()
    assert may_send(attach(harness, FIRST, 7))
    actions = harness.receive(FIRST, KeyNew(KeyNewReason.SENDER_RESTARTED))
    assert not may_send(sent(KeyState, actions))
    assert sent(KeyNew, actions)


def test_a_session_manager_that_only_receives_makes_no_key_unusable_for_the_sender() -> None:
    harness, _ = client()
    assert may_send(attach(harness, FIRST, 7))
    harness.give(Attached(SECOND, Process(2, 1001)))
    harness.receive(SECOND, KeyWatch(will_send=False, context=8), KeyNew(KeyNewReason.SENDER_RESTARTED))
    assert may_send(sent(KeyState, harness.receive(FIRST, KeyWatch(will_send=True, context=7))))


def test_who_has_nothing_new_to_acknowledge_after_a_restart_is_waited_for_no_longer_than_a_moment() -> None:
    harness, _ = client()
    attach(harness, FIRST, 7)
    harness.receive(FIRST, KeyAck(1))
    harness = harness.restart()
    attach(harness, FIRST, 7)
    again = one(Connect, harness.hear(advert(MASTER, Role.MASTER, term=1)))
    harness.give(Connected(again.session))
    harness.receive(
        again.session,
        Group(1, MASTER, (member(MASTER), member("55555555", sender_id=1)), ("55555555",)),
        KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)),
    )
    assert sent(KeyAck, harness.wait(1.4)) == []
    harness.receive(again.session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True),)))
    assert sent(KeyAck, harness.wait(1.0)) == [KeyAck(1)]
