"""A member tries the successors in turn until one can be reached, and asks those out of reach last."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Disconnect, Send
from pskkey.core.events import Connected, Disconnected, PskChanged
from pskkey.core.standby import PAUSE_MIN, STANDBY_AFTER, STANDBY_DEAD_AFTER, STANDBY_STEP
from pskkey.model import UNNAMED_PSK, ErrorMessage, Group, Heartbeat, Join, Role
from tests.core.harness import ME, member, of, one
from tests.core.situations import LOW
from tests.core.standing_by import (
    FIRST,
    beat,
    become_member,
    fail,
    lose_master,
    tried,
    with_second_successor,
    with_standby,
)


def test_standby_session_is_with_the_first_successor_that_can_be_reached() -> None:
    harness, session, second = with_second_successor()
    before = lose_master(harness, session)
    assert [a.session for a in of(Send, harness.log[before:]) if isinstance(a.message, Join)] == [second]


def test_successor_out_of_reach_is_tried_again_beside_the_open_session() -> None:
    harness, session, second = with_second_successor()
    before = len(harness.log)
    beat(harness, session, PAUSE_MIN)
    first = one(Connect, harness.log[before:])
    assert first.peer == FIRST
    assert not of(Disconnect, harness.log[before:]), "the node would have no session for a while"
    assert not of(Disconnect, harness.give(Connected(first.session)))
    assert [d.session for d in of(Disconnect, harness.receive(first.session, Heartbeat()))] == [second]
    before = lose_master(harness, session)
    assert [a.session for a in of(Send, harness.log[before:]) if isinstance(a.message, Join)] == [first.session]


@pytest.mark.parametrize("code", ["unreachable", "refused", "timeout", "no_address", "wrong_node"])
def test_nodes_out_of_reach_delay_no_failover(code: str) -> None:
    """An insider had joined as some members that do not exist. Each of them delayed the failover by 0.5 s."""
    absent = [FIRST, *(f"3333333{number}" for number in range(5))]
    harness, session = become_member(*absent[1:])
    beat(harness, session, STANDBY_AFTER + 0.2)
    for node in absent:
        assert of(Connect, harness.log)[-1].peer == node
        fail(harness, session, code)
    lose_master(harness, session)
    assert harness.view.role is Role.MASTER


@pytest.mark.parametrize(("code", "least", "most"), [("refused", 60, 80), ("wrong_node", 10, 16)])
def test_node_that_answers_for_another_one_does_few_handshakes(code: str, least: int, most: int) -> None:
    """Its address may be announced for the first successor, so all members may do handshakes with it."""
    harness, session = become_member()
    for _ in range(1200):
        before = len(harness.log)
        beat(harness, session, 0.5)
        for attempt in of(Connect, harness.log[before:]):
            harness.give(Disconnected(attempt.session, "no way to it", code))
    assert least <= len(tried(harness)) <= most, "in ten minutes"


def test_successor_out_of_reach_is_asked_when_no_other_node_is_left() -> None:
    harness, session = become_member("88888888")
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    change = Group(1, LOW, (member(LOW), member(FIRST), member(ME, eligible=False)), (FIRST,))
    harness.receive(session, change)
    before = lose_master(harness, session)
    assert [c.peer for c in of(Connect, harness.log[before:])] == [FIRST]


def test_lost_standby_session_does_not_prove_that_the_successor_is_out_of_reach() -> None:
    harness, session, standby = with_standby()
    harness.give(Disconnected(standby, "reset"))
    before = lose_master(harness, session)
    assert [c.peer for c in of(Connect, harness.log[before:])] == [FIRST]


def test_node_that_left_the_group_is_forgotten() -> None:
    harness, session = become_member()
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    harness.receive(session, Group(1, LOW, (member(LOW), member(ME)), (ME,)))
    harness.receive(session, Group(1, LOW, tuple(map(member, (LOW, FIRST, ME))), (FIRST, ME)))
    before = len(harness.log)
    beat(harness, session, STANDBY_AFTER + 0.1)
    assert one(Connect, harness.log[before:]).peer == FIRST


def test_each_successor_is_tried_once_before_one_is_tried_again() -> None:
    others = [FIRST, *(f"3333333{number}" for number in range(9))]
    harness, session = become_member(*others[1:])
    beat(harness, session, STANDBY_AFTER + 0.3)
    before = len(harness.log)
    for _ in others:
        beat(harness, session, PAUSE_MIN)
        fail(harness, session, "no_handshake")
    assert tried(harness, before)[: len(others)] == [*others[1:], FIRST]


@pytest.mark.parametrize("code", ["no_handshake", "handshake", "lost"])
def test_successor_whose_tcp_opens_is_asked_first_as_before(code: str) -> None:
    """It may only be busy, and become master itself."""
    harness, session = become_member("33333333")
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session, code)
    assert tried(harness)[-2:] == [FIRST, "33333333"]
    before = lose_master(harness, session)
    assert tried(harness, before) == [FIRST]


@pytest.mark.parametrize("change", ["its address", "the PSK"])
def test_successor_that_may_be_reachable_again_is_asked_first_as_before(change: str) -> None:
    harness, session = become_member()
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    if change == "its address":
        moved = replace(member(FIRST), addresses=("10.0.0.99",))
        harness.receive(session, Group(1, LOW, (member(LOW), moved, member(ME)), (FIRST, ME)))
    else:
        harness.give(PskChanged(UNNAMED_PSK, frozenset({UNNAMED_PSK})))
    before = lose_master(harness, session)
    assert FIRST in tried(harness, before)


@pytest.mark.parametrize("how", ["the session is lost", "the node leaves", "a better one comes", "the PSK changes"])
def test_members_open_their_next_standby_sessions_one_after_the_other(how: str) -> None:
    """Else all members would do a handshake with one node at once."""
    before_us = [f"4444{number:04x}" for number in range(10)]
    harness, session = become_member("33333333", *before_us)
    beat(harness, session, STANDBY_AFTER + 0.3)
    if how in ("a better one comes", "the node leaves"):
        fail(harness, session)
    standby = of(Connect, harness.log)[-1]
    harness.give(Connected(standby.session))
    ids = [LOW, FIRST, "33333333", *before_us, ME]
    match how:
        case "the session is lost":
            harness.give(Disconnected(standby.session, "reset"))
        case "the node leaves":
            ids.remove("33333333")
        case "a better one comes":
            ids.append("00000000")
        case _:
            harness.give(Disconnected(standby.session, "reset"))
            harness.give(PskChanged(UNNAMED_PSK, frozenset({UNNAMED_PSK})))
    harness.receive(session, Group(1, LOW, tuple(map(member, ids)), tuple(sorted(set(ids) - {LOW}))))
    before = len(harness.log)
    beat(harness, session, STANDBY_AFTER + 12 * STANDBY_STEP - 0.02)
    assert not tried(harness, before)
    beat(harness, session, 0.1)
    assert len(tried(harness, before)) == 1


def test_members_open_their_next_standby_sessions_in_turn_when_the_first_attempts_end_together() -> None:
    """The first successor accepted TCP, froze and left the group."""
    before_us = [f"4444{number:04x}" for number in range(10)]
    harness, session = become_member("33333333", *before_us)
    beat(harness, session, STANDBY_AFTER + 0.3)
    ids = [LOW, "33333333", *before_us, ME]
    harness.receive(session, Group(1, LOW, tuple(map(member, ids)), tuple(sorted(set(ids) - {LOW}))))
    before = len(harness.log)
    beat(harness, session, STANDBY_AFTER + 12 * STANDBY_STEP - 0.02)
    assert not tried(harness, before)
    beat(harness, session, 0.1)
    assert tried(harness, before) == ["33333333"]


def test_members_return_to_a_successor_that_ended_all_sessions_one_after_the_other() -> None:
    before_us = [f"4444{number:04x}" for number in range(100)]
    harness, session = become_member(*before_us)
    beat(harness, session, STANDBY_AFTER + 102 * STANDBY_STEP + 0.1)
    first = of(Connect, harness.log)[-1]
    harness.give(Connected(first.session))
    harness.give(Disconnected(first.session, "its PSK was removed"))
    before = len(harness.log)
    beat(harness, session, PAUSE_MIN + 102 * STANDBY_STEP - 0.1)
    assert FIRST not in tried(harness, before)


def test_successor_with_another_address_each_time_does_not_keep_the_others_from_their_turn() -> None:
    harness, session = become_member("33333333")
    for number in range(8):
        moved = replace(member(FIRST), addresses=(f"10.0.1.{number}",))
        members = (member(LOW), moved, member("33333333"), member(ME))
        harness.receive(session, Group(1, LOW, members, (FIRST, "33333333", ME)))
        beat(harness, session, 5.0)
    assert "33333333" in tried(harness)


def test_successor_that_was_out_of_reach_and_only_fails_the_handshake_now_is_asked_first_again() -> None:
    harness, session = become_member()
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    beat(harness, session, PAUSE_MIN + 0.1)
    fail(harness, session, "no_handshake")
    before = lose_master(harness, session)
    assert tried(harness, before) == [FIRST]


def test_session_that_opens_and_stays_silent_is_no_success() -> None:
    harness, session = become_member()
    ends: list[float] = []
    for _ in range(3):
        before = len(tried(harness))
        while len(tried(harness)) == before:
            beat(harness, session, 0.2)
        opened_at = harness.now
        harness.give(Connected(of(Connect, harness.log)[-1].session))
        beat(harness, session, STANDBY_DEAD_AFTER + 0.1)
        ends.append(opened_at)
    assert ends[2] - ends[1] > ends[1] - ends[0] + 1.0, "the pause doubles"


def test_successor_that_opens_and_ends_each_session_costs_no_other_session() -> None:
    harness, session, second = with_second_successor()
    before = len(harness.log)
    attempts: list[float] = []
    while len(attempts) < 4:
        beat(harness, session, 0.4)
        harness.receive(second, Heartbeat())
        if len(new := of(Connect, harness.log[before:])) > len(attempts):
            attempts.append(harness.now)
            harness.give(Connected(new[-1].session))
            harness.receive(new[-1].session, ErrorMessage("busy", "no place"))
    assert second not in [d.session for d in of(Disconnect, harness.log[before:])]
    assert attempts[3] - attempts[2] > 2 * PAUSE_MIN


def test_attempt_that_opens_during_the_walk_does_not_end_the_session_that_is_asked_first() -> None:
    harness, session, second = with_second_successor()
    beat(harness, session, PAUSE_MIN)
    first = of(Connect, harness.log)[-1]
    again = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Connected(first.session))
    harness.receive(first.session, Heartbeat())
    actions = harness.give(Disconnected(again.session, "refused", "refused"))
    assert [a.session for a in of(Send, actions) if isinstance(a.message, Join)] == [second]


def test_attempt_that_the_walk_takes_over_has_the_time_of_the_walk() -> None:
    """An insider that joins again and again is always a new first successor, which accepts TCP and stays silent."""
    harness, session = become_member()
    beat(harness, session, STANDBY_AFTER + 0.1)
    lose_master(harness, session)
    harness.wait(2.0)
    assert harness.view.role is Role.MASTER, "the handshake of a standby session has 10 s"
