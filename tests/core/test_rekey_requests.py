"""A rekey request is served even if the master that got it is lost."""

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import Attached, Connected, Disconnected, RekeyRequested, Session, SwitchoverRequested
from pskkey.model import Group, Handover, Heartbeat, KeyEntry, KeyNew, KeyNewReason, KeyWatch, Process, Role
from tests.core.harness import ME, NodeHarness, join, member, of, one, sent
from tests.core.keys import entry, key
from tests.core.situations import HIGH, LOCAL, LOW, acknowledge, state


def ask(harness: NodeHarness, reason: KeyNewReason) -> None:
    """Ask as an operator, or as a session manager of the node."""
    if reason is KeyNewReason.OPERATOR:
        harness.give(RekeyRequested(reason))
        return
    harness.give(Attached(LOCAL, Process(1, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=1), KeyNew(reason))


def join_high(harness: NodeHarness, *entries: KeyEntry) -> Session:
    """Let a client join HIGH after a handover; return the new session."""
    session = harness.view.master_session
    assert session is not None
    new = one(Connect, harness.receive(session, Handover(member(HIGH), 2)))
    harness.give(Connected(new.session))
    harness.receive(new.session, Group(2, HIGH, (member(HIGH), member(ME)), (ME,)), state(*entries))
    assert harness.view.role is Role.CLIENT
    return new.session


def sent_reasons(harness: NodeHarness) -> list[KeyNewReason]:
    """Return the reasons of all rekey requests that the node has sent."""
    return [request.reason for request in sent(KeyNew, harness.log)]


@pytest.mark.parametrize("reason", [KeyNewReason.OPERATOR, KeyNewReason.SEQUENCE_HIGH_WATER])
def test_the_next_master_is_asked_too_until_there_is_a_new_key(reason: KeyNewReason) -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    ask(harness, reason)
    assert sent_reasons(harness) == [reason]
    harness.receive(session, Heartbeat())
    session = join_high(harness, entry(1, 901, send=True))
    assert sent_reasons(harness) == [reason] * 2
    for _ in range(5):  # there is no new key, so the request is sent again, but not with each heartbeat
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert sent_reasons(harness) == [reason] * 3
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902)))
    for _ in range(10):
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert sent_reasons(harness) == [reason] * 3


def test_rekey_request_outlives_the_loss_of_the_master() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.give(Disconnected(session, "reset"))
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyNew(KeyNewReason.SEQUENCE_HIGH_WATER))
    retry = of(Connect, harness.log)[-1]
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    assert harness.view.next is not None


def test_successor_makes_the_key_that_it_had_asked_for() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    ask(harness, KeyNewReason.OPERATOR)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    assert harness.keys == 1
    harness.wait(20.0)
    assert harness.keys == 1


def test_master_that_hands_over_before_it_has_rekeyed_asks_its_successor() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    acknowledge(harness, 1, 1)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert harness.keys == 1, "the second key has to wait so soon after the first"
    new = one(Connect, harness.give(SwitchoverRequested(None)))
    harness.give(Connected(new.session))
    same = state(entry(1, 1, send=True))
    harness.receive(new.session, Group(3, LOW, (member(LOW), member(ME)), (ME,)), same)
    assert sent_reasons(harness) == [KeyNewReason.OPERATOR]


def test_key_that_is_new_only_to_the_joiner_does_not_serve_its_request() -> None:
    harness = NodeHarness().start()
    ask(harness, KeyNewReason.OPERATOR)
    session = harness.become_client(HIGH)
    assert sent_reasons(harness) == [KeyNewReason.OPERATOR]
    for _ in range(5):
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert sent_reasons(harness) == [KeyNewReason.OPERATOR] * 2
    harness.receive(session, state(entry(1, 901, send=True), KeyEntry(2, key(902), send=False)))
    for _ in range(10):
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert sent_reasons(harness) == [KeyNewReason.OPERATOR] * 2
