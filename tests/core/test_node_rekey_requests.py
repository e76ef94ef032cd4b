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
from tests.core.door import ME, Door, join, member, one, sent
from tests.core.keys import entry, key
from tests.core.situations import HIGH, LOW, acked, state

LOCAL = Session(Direction.LOCAL, 1)


def reasons(door: Door) -> list[KeyNewReason]:
    """Return with what reasons the node has asked for a new key so far."""
    return [said.reason for said in sent(KeyNew, door.log)]


def comes_to_high(door: Door, *entries: KeyEntry) -> Session:
    """Let a client learn that HIGH is master now, and come to it."""
    session = door.view.master_session
    assert session is not None
    new = one(Connect, door.receive(session, Handover(member(HIGH), 2)))
    door.give(Connected(new.session))
    door.receive(new.session, Group(2, HIGH, (member(HIGH), member(ME)), (ME,)), state(*entries))
    assert door.view.role is Role.CLIENT
    return new.session


def ask(door: Door, reason: KeyNewReason) -> None:
    """Ask as an operator, or as a session manager of the node."""
    if reason is KeyNewReason.OPERATOR:
        door.give(RekeyRequested(reason))
        return
    door.give(Attached(LOCAL, Process(1, 0)))
    door.receive(LOCAL, KeyWatch(will_send=True, memory=1), KeyNew(reason))


@pytest.mark.parametrize("reason", [KeyNewReason.OPERATOR, KeyNewReason.SEQUENCE_HIGH_WATER])
def test_the_next_master_is_asked_too_until_there_is_a_new_key(reason: KeyNewReason) -> None:
    door = Door().start()
    session = door.become_client(HIGH)
    ask(door, reason)
    assert reasons(door) == [reason]
    door.receive(session, Heartbeat())
    session = comes_to_high(door, entry(1, 901, send=True))
    assert reasons(door) == [reason] * 2
    for _ in range(5):  # it does not come about, so it is said again, and not with each of its words
        door.receive(session, Heartbeat())
        door.wait(0.5)
    assert reasons(door) == [reason] * 3
    door.receive(session, state(entry(1, 901, send=True), entry(2, 902)))
    for _ in range(10):
        door.receive(session, Heartbeat())
        door.wait(0.5)
    assert reasons(door) == [reason] * 3


def test_who_takes_over_makes_the_key_that_it_had_asked_for() -> None:
    door = Door().start()
    session = door.become_client(HIGH)
    ask(door, KeyNewReason.OPERATOR)
    retry = one(Connect, door.give(Disconnected(session, "reset")))
    door.give(Disconnected(retry.session, "refused"))
    assert door.view.role is Role.MASTER
    assert door.keys == 1
    door.wait(20.0)
    assert door.keys == 1


def test_a_master_that_hands_over_before_it_has_rolled_asks_its_successor() -> None:
    door = Door().start().become_master()
    door.accept(1, join(LOW))
    acked(door, 1, 1)
    door.give(RekeyRequested(KeyNewReason.OPERATOR))
    assert door.keys == 1, "so soon after the first one it has to wait"
    new = one(Connect, door.give(SwitchoverRequested(None)))
    door.give(Connected(new.session))
    same = state(entry(1, 1, send=True))
    door.receive(new.session, Group(3, LOW, (member(LOW), member(ME)), (ME,)), same)
    assert reasons(door) == [KeyNewReason.OPERATOR]


def test_a_key_that_is_new_only_to_who_joins_is_not_the_one_that_was_asked_for() -> None:
    door = Door().start()
    ask(door, KeyNewReason.OPERATOR)
    session = door.become_client(HIGH)
    assert reasons(door) == [KeyNewReason.OPERATOR]
    for _ in range(5):
        door.receive(session, Heartbeat())
        door.wait(0.5)
    assert reasons(door) == [KeyNewReason.OPERATOR] * 2
    door.receive(session, state(entry(1, 901, send=True), KeyEntry(2, key(902), send=False)))
    for _ in range(10):
        door.receive(session, Heartbeat())
        door.wait(0.5)
    assert reasons(door) == [KeyNewReason.OPERATOR] * 2
