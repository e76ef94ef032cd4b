"""A new key that somebody asked for is made, whatever becomes of the master that was told of it."""

import pytest

from pskkey.core.actions import Connect
from pskkey.core.events import (
    Attached,
    Connected,
    Direction,
    Disconnected,
    RekeyRequested,
    Session,
    SwitchoverRequested,
)
from pskkey.model import Group, Handover, Heartbeat, KeyEntry, KeyNew, KeyNewReason, KeyWatch, Process, Role
from tests.core.harness import ME, NodeHarness, join, member, one, sent
from tests.core.keys import entry, key
from tests.core.situations import HIGH, LOW, acked, state

LOCAL = Session(Direction.LOCAL, 1)


def reasons(harness: NodeHarness) -> list[KeyNewReason]:
    """Return with what reasons the node has asked for a new key so far."""
    return [said.reason for said in sent(KeyNew, harness.log)]


def comes_to_high(harness: NodeHarness, *entries: KeyEntry) -> Session:
    """Let a client learn that HIGH is master now, and come to it."""
    session = harness.view.master_session
    assert session is not None
    new = one(Connect, harness.receive(session, Handover(member(HIGH), 2)))
    harness.give(Connected(new.session))
    harness.receive(new.session, Group(2, HIGH, (member(HIGH), member(ME)), (ME,)), state(*entries))
    assert harness.view.role is Role.CLIENT
    return new.session


def ask(harness: NodeHarness, reason: KeyNewReason) -> None:
    """Ask as an operator, or as a session manager of the node."""
    if reason is KeyNewReason.OPERATOR:
        harness.give(RekeyRequested(reason))
        return
    harness.give(Attached(LOCAL, Process(1, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=1), KeyNew(reason))


@pytest.mark.parametrize("reason", [KeyNewReason.OPERATOR, KeyNewReason.SEQUENCE_HIGH_WATER])
def test_the_next_master_is_asked_too_until_there_is_a_new_key(reason: KeyNewReason) -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    ask(harness, reason)
    assert reasons(harness) == [reason]
    harness.receive(session, Heartbeat())
    session = comes_to_high(harness, entry(1, 901, send=True))
    assert reasons(harness) == [reason] * 2
    for _ in range(5):  # it does not come about, so it is said again, and not with each of its words
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert reasons(harness) == [reason] * 3
    harness.receive(session, state(entry(1, 901, send=True), entry(2, 902)))
    for _ in range(10):
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert reasons(harness) == [reason] * 3


def test_who_takes_over_makes_the_key_that_it_had_asked_for() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    ask(harness, KeyNewReason.OPERATOR)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    assert harness.keys == 1
    harness.wait(20.0)
    assert harness.keys == 1


def test_a_master_that_hands_over_before_it_has_rolled_asks_its_successor() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(LOW))
    acked(harness, 1, 1)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert harness.keys == 1, "so soon after the first one it has to wait"
    new = one(Connect, harness.give(SwitchoverRequested(None)))
    harness.give(Connected(new.session))
    same = state(entry(1, 1, send=True))
    harness.receive(new.session, Group(3, LOW, (member(LOW), member(ME)), (ME,)), same)
    assert reasons(harness) == [KeyNewReason.OPERATOR]


def test_a_key_that_is_new_only_to_who_joins_is_not_the_one_that_was_asked_for() -> None:
    harness = NodeHarness().start()
    ask(harness, KeyNewReason.OPERATOR)
    session = harness.become_client(HIGH)
    assert reasons(harness) == [KeyNewReason.OPERATOR]
    for _ in range(5):
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert reasons(harness) == [KeyNewReason.OPERATOR] * 2
    harness.receive(session, state(entry(1, 901, send=True), KeyEntry(2, key(902), send=False)))
    for _ in range(10):
        harness.receive(session, Heartbeat())
        harness.wait(0.5)
    assert reasons(harness) == [KeyNewReason.OPERATOR] * 2
