"""The session with the master is renewed, without an interruption, when another PSK becomes the active one."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Connected, Direction, Disconnected, Session
from pskkey.core.notices import MasterLost, MemberJoined, MemberLost, RenewalFailed, SessionRenewed
from pskkey.core.renewal import PAUSE_MAX, PAUSE_MIN, RENEWAL_TIMEOUT
from pskkey.model import ErrorMessage, Group, Heartbeat, Join, KeyAck, KeyEntry, KeyState, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import key
from tests.core.renewing import (
    BUSY,
    NEW,
    NEWER,
    OLD,
    change_psk,
    client,
    closed,
    connecting,
    greeting,
    group,
    is_answered,
    is_uninterrupted,
    kinds_sent_on,
)
from tests.core.situations import HIGH, LOW, state


def test_member_opens_a_second_session_and_goes_on_there_when_welcomed() -> None:
    harness, first = client()
    connect = one(Connect, change_psk(harness, NEW, OLD))
    assert (connect.peer, connect.addresses, connect.timeout) == (LOW, member(LOW).addresses, RENEWAL_TIMEOUT)
    assert harness.view.master_session == first
    actions = harness.give(Connected(connect.session, NEW))
    assert [type(a) for a in actions] == [Send]
    assert one(Send, actions).session == connect.session
    assert sent(Join, actions)[0].held == harness.view.held()
    assert is_answered(harness, first), "the first session is still used"
    actions = harness.receive(connect.session, group())
    assert closed(actions) == [first]
    assert one(SessionRenewed, actions).identity == "new"
    assert harness.view.master_session == connect.session
    actions = harness.receive(connect.session, state(KeyEntry(1, key(901), send=True)))
    assert KeyAck in kinds_sent_on(connect.session, actions), "the other end of this session has no acknowledgement yet"
    assert of(Connect, harness.wait(1.4)) == []
    assert is_uninterrupted(harness)


def test_session_with_the_active_psk_is_not_renewed() -> None:
    harness, _ = client()
    assert of(Connect, change_psk(harness, OLD, NEW)) == []
    assert of(Connect, change_psk(harness, OLD)) == []


def test_the_second_session_goes_to_the_latest_addresses_of_the_master() -> None:
    harness, first = client()
    moved = replace(member(LOW), addresses=("10.0.9.9",))
    harness.receive(first, Group(1, LOW, (moved, member(ME)), (ME,)))
    assert one(Connect, change_psk(harness, NEW, OLD)).addresses == ("10.0.9.9",)


def test_a_master_takes_the_second_session_of_a_member_in_place_of_the_first() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    before = len(of(MemberJoined, harness.log))
    actions = harness.accept(2, join(HIGH), "10.0.0.1")
    assert closed(actions) == [Session(Direction.INBOUND, 1)]
    assert [type(m) for m in (a.message for a in of(Send, actions))][:2] == [Group, KeyState]
    assert len(of(MemberJoined, harness.log)) == before
    assert of(MemberLost, harness.log) == []
    assert harness.members == {HIGH}


# --- the second session fails -----------------------------------------------------------------------------------------


def test_former_session_goes_on_when_the_second_one_fails() -> None:
    harness, first, second = connecting()
    actions = harness.give(Disconnected(second, "another key"))
    assert one(RenewalFailed, actions).identity == "old"
    assert closed(actions) == []
    assert harness.view.master_session == first
    assert is_answered(harness, first)
    assert is_uninterrupted(harness)


@pytest.mark.parametrize("error", [BUSY, ErrorMessage("not_master", "not now"), ErrorMessage("group_full", "full")])
def test_former_session_goes_on_when_the_master_refuses_the_second_one(error: ErrorMessage) -> None:
    harness, first, second = greeting()
    actions = harness.receive(second, error)
    assert closed(actions) == [second]
    assert error.message in one(RenewalFailed, actions).reason
    assert harness.view.master_session == first
    assert is_uninterrupted(harness)


def test_an_attempt_without_an_answer_ends() -> None:
    harness, first, second = connecting()
    beating = iter(range(1000))

    def until_closed() -> float:
        begun = harness.now
        for _ in beating:
            if second in closed(harness.wait(0.1)):
                return harness.now - begun
            harness.receive(first, Heartbeat())
        raise AssertionError

    assert until_closed() == pytest.approx(RENEWAL_TIMEOUT * 1.5, abs=0.2)
    while not (again := of(Connect, harness.wait(0.1))):
        harness.receive(first, Heartbeat())
    second = again[0].session
    harness.give(Connected(second, NEW))
    assert until_closed() == pytest.approx(2.0, abs=0.2)
    assert is_uninterrupted(harness)


def test_a_second_session_of_an_old_term_is_not_followed() -> None:
    harness, first, second = greeting()
    harness.receive(first, group(term=4))
    assert closed(harness.receive(second, group(term=3))) == [second]
    assert harness.view.master_session == first
    assert is_uninterrupted(harness)


def test_pauses_double_up_to_a_bound_and_one_failure_is_reported() -> None:
    harness, first, second = connecting()
    pauses = []
    for _ in range(8):
        harness.give(Disconnected(second, "another key"))
        begun = harness.now
        while not (again := of(Connect, harness.wait(0.1))):
            harness.receive(first, Heartbeat())
        pauses.append(harness.now - begun)
        second = again[0].session
    assert PAUSE_MIN <= pauses[0] <= 2 * PAUSE_MIN + 0.1
    assert pauses[1] == pytest.approx(2 * pauses[0], abs=0.2)
    assert pauses[-2:] == pytest.approx([PAUSE_MAX, PAUSE_MAX], abs=0.2)
    assert len(of(RenewalFailed, harness.log)) == 1


def test_pauses_of_members_differ() -> None:
    def pause(me: str) -> float:
        harness = NodeHarness(me=me).start()
        connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
        harness.give(Connected(connect.session, OLD))
        harness.receive(connect.session, Group(1, LOW, (member(LOW), member(me)), (me,)))
        harness.give(Disconnected(one(Connect, change_psk(harness, NEW, OLD)).session, "another key"))
        begun = harness.now
        while not of(Connect, harness.wait(0.01)):
            harness.receive(connect.session, Heartbeat())
        return harness.now - begun

    assert len({round(pause(me), 1) for me in ("22222222", "55555555", "99999999", "ffffffff")}) == 4


def test_another_change_of_the_psk_ends_the_pause() -> None:
    harness, _, second = connecting()
    harness.give(Disconnected(second, "another key"))
    assert of(Connect, harness.wait(1.0)) == []
    assert len(of(Connect, change_psk(harness, NEW, OLD, NEWER))) == 1


# --- the PSK of the session is removed --------------------------------------------------------------------------------


def test_a_session_with_a_removed_psk_ends_with_the_first_attempt_that_fails() -> None:
    harness, first = client()
    second = one(Connect, change_psk(harness, NEW)).session
    assert is_uninterrupted(harness)
    actions = harness.give(Disconnected(second, "another key"))
    lost = one(MasterLost, actions)
    assert lost.code == "psk_removed"
    assert "another key" in lost.reason
    assert closed(actions) == [first]
    assert one(Connect, actions).peer == LOW, "it may take the new PSK now"


def test_a_session_with_a_removed_psk_ends_when_its_attempt_is_not_answered() -> None:
    harness, first = client()
    second = one(Connect, change_psk(harness, NEW)).session
    harness.give(Connected(second, NEW))
    for _ in range(15):
        harness.receive(first, Heartbeat())
        assert closed(harness.wait(0.1)) == []
    harness.receive(first, Heartbeat())
    assert set(closed(harness.wait(0.6))) == {first, second}
    assert harness.view.role is not Role.CLIENT


def test_a_session_outlives_the_failures_before_its_psk_is_removed() -> None:
    harness, first, second = connecting()
    harness.give(Disconnected(second, "another key"))
    second = one(Connect, change_psk(harness, NEW)).session
    assert harness.view.master_session == first
    harness.give(Connected(second, NEW))
    harness.receive(second, group())
    assert harness.view.master_session == second
    assert is_uninterrupted(harness)


# --- the master ends the former session -------------------------------------------------------------------------------


def test_end_of_the_former_session_before_the_welcome_is_no_loss() -> None:
    harness, first, second = greeting()
    harness.give(Disconnected(first, "it closed the connection"))
    actions = harness.receive(second, group())
    assert closed(actions) == []
    assert one(SessionRenewed, actions).identity == "new"
    harness.receive(second, state(KeyEntry(1, key(901), send=True)))
    assert harness.view.master_session == second
    assert is_uninterrupted(harness)


def test_an_error_on_the_former_session_is_no_loss_either() -> None:
    harness, first, second = greeting()
    assert closed(harness.receive(first, ErrorMessage("psk_removed", "not accepted any more"))) == [first]
    harness.receive(second, group())
    assert is_uninterrupted(harness)


def test_end_of_the_former_session_before_our_join_is_a_loss() -> None:
    harness, first, second = connecting()
    actions = harness.give(Disconnected(first, "reset"))
    assert one(MasterLost, actions).reason == "reset"
    assert closed(actions) == [second]
    assert one(Connect, actions).peer == LOW


def test_master_is_lost_when_both_sessions_end() -> None:
    for order in ((0, 1), (1, 0)):
        harness, *sessions = greeting()
        lost = [of(MasterLost, harness.give(Disconnected(sessions[n], "reset"))) for n in order]
        assert [len(one_of) for one_of in lost] == [0, 1]


def test_master_is_lost_when_it_does_not_welcome_us_after_the_end_of_the_former_session() -> None:
    harness, first, second = greeting()
    harness.give(Disconnected(first, "it closed the connection"))
    begun = harness.now
    while not (lost := of(MasterLost, harness.wait(0.05))):
        pass
    assert lost[0].code == "no_group"
    assert harness.now - begun <= 1.6
    assert second in closed(harness.log)


def test_master_is_lost_when_it_falls_silent_meanwhile() -> None:
    harness, first, second = greeting()
    actions = harness.wait(1.6)
    assert one(MasterLost, actions).reason == "it fell silent"
    assert closed(actions)[:2] == [first, second]
