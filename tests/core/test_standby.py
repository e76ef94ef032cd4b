"""A member has a session with the first successor before it needs one."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Disconnect, Send
from pskkey.core.events import Connected, Direction, Disconnected, PskChanged, Session
from pskkey.core.standby import PAUSE_MIN, STANDBY_AFTER, STANDBY_DEAD_AFTER, STANDBY_INTERVAL, STANDBY_STEP
from pskkey.model import UNNAMED_PSK, ErrorMessage, Group, Handover, Heartbeat, Join, KeyAck, Role
from tests.core.harness import ME, NodeHarness, member, of, one, sent
from tests.core.situations import LOW

FIRST = "22222222"
"""The first successor."""


def become_member(*others: str) -> tuple[NodeHarness, Session]:
    """Return a node that has just joined LOW, which also serves FIRST and `others`; and its session."""
    harness = NodeHarness().start()
    return harness, harness.become_client(FIRST, *others, master=LOW)


def beat(harness: NodeHarness, session: Session, seconds: float) -> None:
    """Let time pass while the master sends heartbeats."""
    end = harness.now + seconds
    while harness.now < end - 0.01:
        harness.wait(min(0.4, end - harness.now))
        harness.receive(session, Heartbeat())


def with_standby() -> tuple[NodeHarness, Session, Session]:
    """Return a member, its session with LOW, and its open standby session with FIRST."""
    harness, session = become_member()
    beat(harness, session, STANDBY_AFTER + 0.1)
    standby = of(Connect, harness.log)[-1]
    assert standby.peer == FIRST
    harness.give(Connected(standby.session))
    return harness, session, standby.session


def fail(harness: NodeHarness, session: Session, code: str = "unreachable") -> None:
    """Let the last attempt of the node fail after 0.1 s, and the next one begin."""
    attempt = of(Connect, harness.log)[-1]
    beat(harness, session, 0.1)
    harness.give(Disconnected(attempt.session, "no route to it", code))
    beat(harness, session, 0.1)


def tried(harness: NodeHarness, before: int = 0) -> list[str]:
    """Return the nodes that the node has tried to reach beside its master, without the first `before` actions."""
    return [connect.peer for connect in of(Connect, harness.log[before:]) if connect.peer != LOW]


def lose_master(harness: NodeHarness, session: Session) -> int:
    """Let the node lose its master for good; return how many actions there were before."""
    again = one(Connect, harness.give(Disconnected(session, "reset")))
    before = len(harness.log)
    harness.give(Disconnected(again.session, "refused"))
    return before


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


def test_standby_session_is_with_the_first_successor_that_can_be_reached() -> None:
    harness, session = become_member("33333333")
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    standby = of(Connect, harness.log)[-1]
    assert standby.peer == "33333333"
    harness.give(Connected(standby.session))
    before = lose_master(harness, session)
    assert [a.session for a in of(Send, harness.log[before:]) if isinstance(a.message, Join)] == [standby.session]


def test_successor_out_of_reach_is_tried_again_beside_the_open_session() -> None:
    harness, session = become_member("33333333")
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    second = of(Connect, harness.log)[-1].session
    harness.give(Connected(second))
    before = len(harness.log)
    beat(harness, session, PAUSE_MIN)
    first = one(Connect, harness.log[before:])
    assert first.peer == FIRST
    assert not of(Disconnect, harness.log[before:]), "the node would have no session for a while"
    assert not of(Disconnect, harness.give(Connected(first.session)))
    assert [d.session for d in of(Disconnect, harness.receive(first.session, Heartbeat()))] == [second]
    before = lose_master(harness, session)
    assert [a.session for a in of(Send, harness.log[before:]) if isinstance(a.message, Join)] == [first.session]


def test_nodes_out_of_reach_delay_no_failover() -> None:
    """An insider had joined as some members that do not exist. Each of them delayed the failover by 0.5 s."""
    absent = [FIRST, *(f"3333333{number}" for number in range(5))]
    harness, session = become_member(*absent[1:])
    beat(harness, session, STANDBY_AFTER + 0.2)
    for node in absent:
        assert of(Connect, harness.log)[-1].peer == node
        fail(harness, session)
    lose_master(harness, session)
    assert harness.view.role is Role.MASTER


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


@pytest.mark.parametrize("code", ["no_handshake", "handshake", "wrong_node", "lost"])
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
    harness, session = become_member("33333333")
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    second = of(Connect, harness.log)[-1].session
    harness.give(Connected(second))
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
    harness, session = become_member("33333333")
    beat(harness, session, STANDBY_AFTER + 0.1)
    fail(harness, session)
    second = of(Connect, harness.log)[-1].session
    harness.give(Connected(second))
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
