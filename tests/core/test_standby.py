"""A member has a session with the first successor before it needs one."""

import pytest

from pskkey.core.actions import Connect, Disconnect, Send
from pskkey.core.events import Connected, Direction, Disconnected, Session
from pskkey.core.standby import PAUSE_MIN, STANDBY_AFTER, STANDBY_DEAD_AFTER, STANDBY_INTERVAL, STANDBY_STEP
from pskkey.model import ErrorMessage, Group, Handover, Heartbeat, Join, KeyAck, Role
from tests.core.harness import ME, NodeHarness, member, of, one, sent
from tests.core.situations import LOW
from tests.core.standing_by import (
    FIRST,
    beat,
    become_member,
    lose_master,
    one_attempt,
    tried,
    with_second_successor,
    with_standby,
)


@pytest.mark.parametrize("before_us", [0, 10], ids=["the first by id", "ten come before it"])
def test_members_open_their_standby_sessions_one_after_the_other(before_us: int) -> None:
    harness, session = become_member(*(f"4444{number:04x}" for number in range(before_us)))
    joins = len(of(Connect, harness.log))
    # The master and the first successor come before it in any case.
    beat(harness, session, STANDBY_AFTER + (before_us + 2) * STANDBY_STEP - 0.02)
    assert len(of(Connect, harness.log)) == joins
    beat(harness, session, 0.03)
    assert [c.peer for c in of(Connect, harness.log)[joins:]] == [FIRST]


def test_join_goes_over_the_standby_session_when_the_master_is_lost() -> None:
    harness, session, standby = with_standby()
    before = lose_master(harness, session)
    assert not of(Connect, harness.log[before:])
    assert [a.session for a in of(Send, harness.log[before:]) if isinstance(a.message, Join)] == [standby]
    harness.receive(standby, Group(2, FIRST, (member(FIRST), member(ME)), (ME,)))
    assert harness.view.role is Role.CLIENT


def test_join_goes_over_the_standby_session_when_the_master_hands_over() -> None:
    harness, session, standby = with_standby()
    actions = harness.receive(session, Handover(member(FIRST), 2))
    assert [a.session for a in of(Send, actions) if isinstance(a.message, Join)] == [standby]


def test_attempt_that_is_still_connecting_is_used_too() -> None:
    harness, session = become_member()
    beat(harness, session, STANDBY_AFTER + 0.1)
    standby = of(Connect, harness.log)[-1].session
    before = lose_master(harness, session)
    assert not of(Connect, harness.log[before:]), "the peer would pay for another handshake"
    assert sent(Join, harness.give(Connected(standby)))


def test_first_successor_has_no_standby_session() -> None:
    harness = NodeHarness().start()
    session = harness.become_client("99999999", master=LOW)
    joins = len(of(Connect, harness.log))
    beat(harness, session, 5)
    assert len(of(Connect, harness.log)) == joins


def test_standby_session_follows_the_first_successor() -> None:
    harness, session, standby = with_standby()
    better = "00000000"
    actions = harness.receive(session, Group(1, LOW, tuple(map(member, (LOW, FIRST, better, ME))), (better, FIRST, ME)))
    assert not of(Disconnect, actions)
    beat(harness, session, STANDBY_AFTER + 0.1)
    attempt = of(Connect, harness.log)[-1]
    assert attempt.peer == better
    assert not of(Disconnect, harness.give(Connected(attempt.session)))
    assert [d.session for d in of(Disconnect, harness.receive(attempt.session, Heartbeat()))] == [standby]


def test_next_session_is_with_the_next_successor_and_not_with_the_one_that_has_been_known_for_longest() -> None:
    harness, session = become_member("44444444")
    beat(harness, session, STANDBY_AFTER + 0.1)
    first = one_attempt(harness, FIRST)
    harness.give(Connected(first))
    harness.receive(first, Heartbeat())
    newer = "33333333"
    known = (member(LOW), member(FIRST), member(newer), member("44444444"), member(ME))
    harness.receive(session, Group(1, LOW, known, (FIRST, newer, "44444444", ME)))
    harness.receive(session, Group(1, LOW, (known[0], *known[2:]), (newer, "44444444", ME)))
    before = len(harness.log)
    beat(harness, session, STANDBY_AFTER + 2.0)
    assert tried(harness, before) == [newer]


def test_successor_that_was_tried_before_comes_in_its_order_again() -> None:
    harness, session, second = with_second_successor()
    harness.receive(second, Heartbeat())
    beat(harness, session, PAUSE_MIN)
    first = one_attempt(harness, FIRST)
    harness.give(Connected(first))
    harness.receive(first, Heartbeat())
    members = (member(LOW), member("33333333"), member("44444444"), member(ME))
    harness.receive(session, Group(1, LOW, members, ("33333333", "44444444", ME)))
    before = len(harness.log)
    beat(harness, session, STANDBY_AFTER + 2.0)
    assert tried(harness, before) == ["33333333"]


def test_both_ends_send_slow_heartbeats() -> None:
    harness, session, standby = with_standby()
    sends = [a for a in of(Send, harness.log) if a.session == standby]
    assert len(sends) == 1
    beat(harness, session, STANDBY_INTERVAL + 0.1)
    assert [a.message for a in of(Send, harness.log) if a.session == standby] == [Heartbeat()] * 2
    inbound = Session(Direction.INBOUND, 1)
    actions = harness.accept(1, Heartbeat())
    assert [(a.session, a.message) for a in of(Send, actions)] == [(inbound, Heartbeat())]


def test_silent_standby_session_is_opened_again_after_a_pause() -> None:
    harness, session, standby = with_standby()
    before = len(harness.log)
    beat(harness, session, STANDBY_DEAD_AFTER + 0.1)
    assert standby in [d.session for d in of(Disconnect, harness.log[before:])]
    assert not of(Connect, harness.log[before:])
    beat(harness, session, PAUSE_MIN)
    assert one(Connect, harness.log[before:]).peer == FIRST


def test_heartbeats_of_the_successor_keep_the_standby_session() -> None:
    harness, session, standby = with_standby()
    before = len(harness.log)
    for _ in range(5):
        beat(harness, session, STANDBY_INTERVAL)
        harness.receive(standby, Heartbeat())
    assert not of(Disconnect, harness.log[before:])


@pytest.mark.parametrize("end", ["disconnect", "error", "protocol"])
def test_lost_standby_session_changes_nothing_else_and_its_pause_doubles(end: str) -> None:
    harness, session, standby = with_standby()
    role, pauses = harness.view.role, []
    for _ in range(3):
        match end:
            case "disconnect":
                harness.give(Disconnected(standby, "reset"))
            case "error":
                harness.receive(standby, ErrorMessage("busy", "no place"))
            case _:
                harness.receive(standby, KeyAck(1))
        lost_at, before = harness.now, len(of(Connect, harness.log))
        while len(of(Connect, harness.log)) == before:
            beat(harness, session, 0.2)
        pauses.append(round(harness.now - lost_at))
        standby = of(Connect, harness.log)[-1].session
        if end == "disconnect":
            continue
        harness.give(Connected(standby))
    assert harness.view.role is role
    assert pauses == [2, 4, 8]


def test_standby_session_that_ends_at_join_is_no_proof_of_death() -> None:
    """The successor may have restarted with its daemon, or its address may have changed."""
    harness, session, standby = with_standby()
    lose_master(harness, session)
    again = one(Connect, harness.give(Disconnected(standby, "reset")))
    assert again.peer == FIRST
    harness.give(Disconnected(again.session, "refused"))
    assert harness.view.role is Role.MASTER, "this node is the next one"


def test_silent_successor_has_the_time_of_a_join_and_a_living_one_has_more() -> None:
    harness, session, standby = with_standby()
    lose_master(harness, session)
    roles = []
    for seconds in (1.9, 2.7, 0.2):
        harness.wait(seconds)
        roles.append(harness.view.role)
        harness.receive(standby, Heartbeat())
    assert roles == [Role.JOINING, Role.JOINING, Role.MASTER], "heartbeats cannot keep it waiting for ever"


def test_master_has_no_standby_session() -> None:
    harness, session, standby = with_standby()
    actions = harness.receive(session, Handover(member(ME), 2))
    assert standby in [d.session for d in of(Disconnect, actions)]


def test_listening_node_has_no_standby_session() -> None:
    harness, session, standby = with_standby()
    lose_master(harness, session)
    actions = harness.receive(standby, ErrorMessage("not_master", "not I"))
    assert harness.view.role is Role.LISTENING
    assert standby in [d.session for d in of(Disconnect, actions)]
    before = len(of(Connect, harness.log))
    harness.wait(0.9)
    assert len(of(Connect, harness.log)) == before
