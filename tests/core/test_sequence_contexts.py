"""A sender goes on with a key only in the sequence context in which it sent with that key."""

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Attached, Connected, Disconnected
from pskkey.model import Group, KeyNew, KeyNewReason, KeyState, KeyWatch, Process, Role
from tests.core.harness import advert, member, one, sent
from tests.core.keys import entry, key
from tests.core.situations import LOCAL, LOW, SECOND_LOCAL, attach_sender, client_mid_rekey, lone_client


def may_send(states: list[KeyState]) -> bool:
    """Return whether the last state lets a session manager send."""
    return any(e.send for e in states[-1].entries)


@pytest.mark.parametrize(("first", "second", "goes_on"), [(7, 7, True), (7, 8, False), (0, 0, False), (7, 0, False)])
def test_sender_that_attaches_again_goes_on_with_a_key_only_in_the_same_context(
    first: int, second: int, goes_on: bool
) -> None:
    harness, _ = lone_client()
    assert may_send(attach_sender(harness, LOCAL, first))
    harness.give(Disconnected(LOCAL, "gone"))
    assert may_send(attach_sender(harness, SECOND_LOCAL, second)) is goes_on


@pytest.mark.parametrize(("context", "goes_on"), [(7, True), (0, False)])
def test_only_a_named_context_goes_on_after_a_restart_of_the_daemon(context: int, goes_on: bool) -> None:
    harness, _ = lone_client()
    assert may_send(attach_sender(harness, LOCAL, context))
    assert may_send(attach_sender(harness.restart(), LOCAL, context)) is goes_on


def test_two_contexts_of_one_process_do_not_both_send() -> None:
    harness, _ = lone_client()
    assert may_send(attach_sender(harness, LOCAL, 7))
    assert not may_send(attach_sender(harness, SECOND_LOCAL, 8))


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_key_that_its_sender_had_to_drop_is_not_sent_with_again(is_restarted: bool) -> None:
    harness, session = lone_client()
    attach_sender(harness, LOCAL, 7)
    activated = KeyState(1, frozenset({0, 1}), (entry(1, 901), entry(2, 902, send=True)))
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True), entry(2, 902))))
    assert may_send(sent(KeyState, harness.receive(session, activated)))
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(2, 902, send=True),)))
    if is_restarted:
        harness = harness.restart()
        again = one(Connect, harness.hear(advert(LOW, Role.MASTER, term=4)))
        session = again.session
        harness.give(Connected(session))
        harness.receive(session, Group(4, LOW, (member(LOW), member("55555555", sender_id=1)), ("55555555",)))
        attach_sender(harness, LOCAL, 7)
    harness.receive(session, KeyState(1, frozenset({0, 1}), (entry(1, 901), entry(2, 902, send=True))))
    back = KeyState(1, frozenset({0, 1}), (entry(1, 901, send=True), entry(2, 902)))
    states = sent(KeyState, harness.receive(session, back))
    current = harness.view.current
    assert current is not None
    if current.key == key(901):
        assert not may_send(states)


def test_restarted_sender_waits_also_when_the_key_that_it_sent_with_comes_back_later() -> None:
    harness, session = client_mid_rekey()
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10))
    activated = KeyState(1, frozenset({0, 1, 2}), (entry(1, 901), entry(2, 902, send=True)))
    harness.receive(session, activated)
    harness.receive(session, KeyState(1, frozenset({0, 1, 2}), (entry(1, 901, send=True), entry(2, 902))))
    harness.give(Disconnected(LOCAL, "gone"))
    harness.give(Attached(SECOND_LOCAL, Process(11, 0)))
    harness.receive(SECOND_LOCAL, KeyWatch(will_send=True, context=11))
    states = sent(KeyState, harness.receive(session, activated))
    assert not any(e.send for state in states for e in state.entries)


def test_sender_that_reports_lost_sequence_numbers_does_not_send_with_that_key_again() -> None:
    harness, _ = lone_client()
    assert may_send(attach_sender(harness, LOCAL, 7))
    actions = harness.receive(LOCAL, KeyNew(KeyNewReason.SENDER_RESTARTED))
    assert not may_send(sent(KeyState, actions))
    assert sent(KeyNew, actions)


def test_a_session_manager_that_only_receives_makes_no_key_unusable_for_the_sender() -> None:
    harness, _ = lone_client()
    assert may_send(attach_sender(harness, LOCAL, 7))
    harness.give(Attached(SECOND_LOCAL, Process(2, 1001)))
    harness.receive(SECOND_LOCAL, KeyWatch(will_send=False, context=8), KeyNew(KeyNewReason.SENDER_RESTARTED))
    assert may_send(sent(KeyState, harness.receive(LOCAL, KeyWatch(will_send=True, context=7))))
