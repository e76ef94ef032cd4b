"""The session with the master is renewed when another PSK becomes the active one, and nothing is interrupted by it."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Action, Connect, Disconnect, Send
from pskkey.core.events import (
    AddressesChanged,
    Attached,
    Connected,
    Direction,
    Disconnected,
    PskChanged,
    Received,
    Session,
    StopRequested,
)
from pskkey.core.notices import (
    JoinFailed,
    MasterLost,
    MemberJoined,
    MemberLost,
    RenewalFailed,
    RoleChanged,
    SessionRenewed,
)
from pskkey.core.renewal import PAUSE_MAX, PAUSE_MIN, RENEWAL_TIMEOUT
from pskkey.model import (
    ErrorMessage,
    Group,
    Handover,
    Heartbeat,
    Join,
    KeyAck,
    KeyEntry,
    KeyState,
    KeyWatch,
    Merge,
    Process,
    PskName,
    Role,
)
from tests.core.door import ME, OLD_PSK, Door, advert, join, member, of, one, sent
from tests.core.keys import key
from tests.core.situations import HIGH, LOW, OTHER, state

OLD, NEW, NEWER = OLD_PSK, PskName("new"), PskName("newer")
BUSY = ErrorMessage("busy", "no place")


def change(door: Door, active: PskName, *others: PskName) -> list[Action]:
    """Change the PSK file of a node; `others` are accepted too."""
    return door.give(PskChanged(active, frozenset({active, *others}))) + door.wait(0.0)


def group(term: int = 1) -> Group:
    """Return the group of LOW with HIGH and ourselves."""
    return Group(term, LOW, (member(LOW), member(ME), member(HIGH)), (ME, HIGH))


def client() -> tuple[Door, Session]:
    """Return a member of LOW, and its session, which was opened with OLD."""
    door = Door().start()
    return door, door.become_client(HIGH)


def connecting() -> tuple[Door, Session, Session]:
    """Return one that has begun to open its second session, with its first session and the second."""
    door, first = client()
    return door, first, one(Connect, change(door, NEW, OLD)).session


def greeting() -> tuple[Door, Session, Session]:
    """Return one that has sent JOIN on its second session."""
    door, first, second = connecting()
    door.give(Connected(second, NEW))
    return door, first, second


def on(session: Session, actions: list[Action]) -> list[type]:
    """Return the kinds of messages that are sent on a session."""
    return [type(a.message) for a in of(Send, actions) if a.session == session]


def is_answered(door: Door, session: Session) -> bool:
    """Return whether a heartbeat of the master is answered on a session."""
    door.wait(0.5)
    return on(session, door.receive(session, Heartbeat())) == [Heartbeat]


def closed(actions: list[Action]) -> list[Session]:
    """Return the sessions that are closed."""
    return [a.session for a in of(Disconnect, actions)]


def is_uninterrupted(door: Door) -> bool:
    """Return whether the node has been a member of LOW since it joined it."""
    kinds = [type(a) for a in door.log]
    return door.view.role is Role.CLIENT and MasterLost not in kinds and kinds.count(RoleChanged) == 2


def test_member_opens_a_second_session_and_goes_on_there_when_welcomed() -> None:
    door, first = client()
    connect = one(Connect, change(door, NEW, OLD))
    assert (connect.peer, connect.addresses, connect.timeout) == (LOW, member(LOW).addresses, RENEWAL_TIMEOUT)
    assert door.view.master_session == first
    actions = door.give(Connected(connect.session, NEW))
    assert [type(a) for a in actions] == [Send]
    assert one(Send, actions).session == connect.session
    assert sent(Join, actions)[0].held == door.view.held()
    assert is_answered(door, first), "the first one is alive meanwhile"
    actions = door.receive(connect.session, group())
    assert closed(actions) == [first]
    assert one(SessionRenewed, actions).identity == "new"
    assert KeyAck in on(connect.session, actions), "its other end does not know what we have"
    assert door.view.master_session == connect.session
    door.receive(connect.session, state(KeyEntry(1, key(901), send=True)))
    assert of(Connect, door.wait(1.4)) == []
    assert is_uninterrupted(door)


def test_nothing_is_renewed_that_has_the_active_psk() -> None:
    door, _ = client()
    assert of(Connect, change(door, OLD, NEW)) == []
    assert of(Connect, change(door, OLD)) == []


def test_the_second_session_goes_to_the_latest_addresses_of_the_master() -> None:
    door, first = client()
    moved = replace(member(LOW), addresses=("10.0.9.9",))
    door.receive(first, Group(1, LOW, (moved, member(ME)), (ME,)))
    assert one(Connect, change(door, NEW, OLD)).addresses == ("10.0.9.9",)


# --- it fails -------------------------------------------------------------------------------------------------------


def test_former_session_goes_on_when_the_second_one_fails() -> None:
    door, first, second = connecting()
    actions = door.give(Disconnected(second, "another key"))
    assert one(RenewalFailed, actions).identity == "old"
    assert closed(actions) == []
    assert door.view.master_session == first
    assert is_answered(door, first)
    assert is_uninterrupted(door)


@pytest.mark.parametrize("error", [BUSY, ErrorMessage("not_master", "not now"), ErrorMessage("group_full", "full")])
def test_former_session_goes_on_when_the_master_refuses_the_second_one(error: ErrorMessage) -> None:
    door, first, second = greeting()
    actions = door.receive(second, error)
    assert closed(actions) == [second]
    assert error.message in one(RenewalFailed, actions).reason
    assert door.view.master_session == first
    assert is_uninterrupted(door)


def test_an_attempt_without_an_answer_ends() -> None:
    door, first, second = connecting()
    beating = iter(range(1000))

    def until_closed() -> float:
        begun = door.now
        for _ in beating:
            if second in closed(door.wait(0.1)):
                return door.now - begun
            door.receive(first, Heartbeat())
        raise AssertionError

    assert until_closed() == pytest.approx(RENEWAL_TIMEOUT * 1.5, abs=0.2)
    while not (again := of(Connect, door.wait(0.1))):
        door.receive(first, Heartbeat())
    second = again[0].session
    door.give(Connected(second, NEW))
    assert until_closed() == pytest.approx(2.0, abs=0.2)
    assert is_uninterrupted(door)


def test_a_second_session_of_an_old_term_is_not_followed() -> None:
    door, first, second = greeting()
    door.receive(first, group(term=4))
    assert closed(door.receive(second, group(term=3))) == [second]
    assert door.view.master_session == first
    assert is_uninterrupted(door)


def test_pauses_double_up_to_a_bound_and_one_failure_is_reported() -> None:
    door, first, second = connecting()
    pauses = []
    for _ in range(8):
        door.give(Disconnected(second, "another key"))
        begun = door.now
        while not (again := of(Connect, door.wait(0.1))):
            door.receive(first, Heartbeat())
        pauses.append(door.now - begun)
        second = again[0].session
    assert PAUSE_MIN <= pauses[0] <= 2 * PAUSE_MIN + 0.1
    assert pauses[1] == pytest.approx(2 * pauses[0], abs=0.2)
    assert pauses[-2:] == pytest.approx([PAUSE_MAX, PAUSE_MAX], abs=0.2)
    assert len(of(RenewalFailed, door.log)) == 1


def test_pauses_of_members_differ() -> None:
    def pause(me: str) -> float:
        door = Door(me=me).start()
        connect = one(Connect, door.hear(advert(LOW, Role.MASTER)))
        door.give(Connected(connect.session, OLD))
        door.receive(connect.session, Group(1, LOW, (member(LOW), member(me)), (me,)))
        door.give(Disconnected(one(Connect, change(door, NEW, OLD)).session, "another key"))
        begun = door.now
        while not of(Connect, door.wait(0.01)):
            door.receive(connect.session, Heartbeat())
        return door.now - begun

    assert len({round(pause(me), 1) for me in ("22222222", "55555555", "99999999", "ffffffff")}) == 4


def test_another_change_of_the_psk_ends_the_pause() -> None:
    door, _, second = connecting()
    door.give(Disconnected(second, "another key"))
    assert of(Connect, door.wait(1.0)) == []
    assert len(of(Connect, change(door, NEW, OLD, NEWER))) == 1


# --- the PSK of the session is removed ------------------------------------------------------------------------------


def test_a_session_with_a_removed_psk_ends_with_the_first_attempt_that_fails() -> None:
    door, first = client()
    second = one(Connect, change(door, NEW)).session
    assert is_uninterrupted(door)
    actions = door.give(Disconnected(second, "another key"))
    lost = one(MasterLost, actions)
    assert lost.reason == "its PSK, identity 'old', was removed from our PSK file: another key"
    assert closed(actions) == [first]
    assert one(Connect, actions).peer == LOW, "it may take the new PSK now"


def test_a_session_with_a_removed_psk_ends_when_its_attempt_is_not_answered() -> None:
    door, first = client()
    second = one(Connect, change(door, NEW)).session
    door.give(Connected(second, NEW))
    for _ in range(15):
        door.receive(first, Heartbeat())
        assert closed(door.wait(0.1)) == []
    door.receive(first, Heartbeat())
    assert set(closed(door.wait(0.6))) == {first, second}
    assert door.view.role is not Role.CLIENT


def test_a_session_outlives_the_failures_before_its_psk_is_removed() -> None:
    door, first, second = connecting()
    door.give(Disconnected(second, "another key"))
    second = one(Connect, change(door, NEW)).session
    assert door.view.master_session == first
    door.give(Connected(second, NEW))
    door.receive(second, group())
    assert door.view.master_session == second
    assert is_uninterrupted(door)


# --- the master ends the former session -----------------------------------------------------------------------------


def test_end_of_the_former_session_before_the_welcome_is_no_loss() -> None:
    door, first, second = greeting()
    door.give(Disconnected(first, "it closed the connection"))
    actions = door.receive(second, group())
    assert closed(actions) == []
    assert one(SessionRenewed, actions).identity == "new"
    door.receive(second, state(KeyEntry(1, key(901), send=True)))
    assert door.view.master_session == second
    assert is_uninterrupted(door)


def test_an_error_on_the_former_session_is_no_loss_either() -> None:
    door, first, second = greeting()
    assert closed(door.receive(first, ErrorMessage("psk_removed", "not accepted any more"))) == [first]
    door.receive(second, group())
    assert is_uninterrupted(door)


def test_end_of_the_former_session_before_our_join_is_a_loss() -> None:
    door, first, second = connecting()
    actions = door.give(Disconnected(first, "reset"))
    assert one(MasterLost, actions).reason == "reset"
    assert closed(actions) == [second]
    assert one(Connect, actions).peer == LOW


def test_master_is_lost_when_both_sessions_end() -> None:
    for order in ((0, 1), (1, 0)):
        door, *sessions = greeting()
        lost = [of(MasterLost, door.give(Disconnected(sessions[n], "reset"))) for n in order]
        assert [len(one_of) for one_of in lost] == [0, 1]


def test_master_is_lost_when_it_does_not_welcome_us_after_the_end_of_the_former_session() -> None:
    door, first, second = greeting()
    door.give(Disconnected(first, "it closed the connection"))
    begun = door.now
    while not (lost := of(MasterLost, door.wait(0.05))):
        pass
    assert lost[0].code == "timeout"
    assert door.now - begun <= 1.6
    assert second in closed(door.log)


def test_master_is_lost_when_it_falls_silent_meanwhile() -> None:
    door, first, second = greeting()
    actions = door.wait(1.6)
    assert one(MasterLost, actions).reason == "it fell silent"
    assert closed(actions)[:2] == [first, second]


# --- the group changes meanwhile ------------------------------------------------------------------------------------


def test_what_the_former_session_brings_after_the_welcome_is_nobodys() -> None:
    door, first, second = greeting()
    door.receive(first, group(term=2))
    assert door.view.term == 2
    door.receive(second, group(term=3))
    assert door.receive(first, group(term=9), Handover(member(HIGH), 9)) == []
    assert door.view.term == 3
    assert is_uninterrupted(door)


def test_a_handover_is_followed_and_both_sessions_end() -> None:
    door, first, second = greeting()
    actions = door.receive(first, Handover(member(HIGH), 2))
    assert set(closed(actions)) == {first, second}
    assert one(Connect, actions).peer == HIGH
    assert of(MasterLost, door.log) == []
    assert door.receive(second, group()) == []


def test_successor_takes_over_while_it_renews() -> None:
    door, first, second = greeting()
    actions = door.receive(first, Handover(member(ME), 2))
    assert set(closed(actions)) == {first, second}
    assert door.view.role is Role.MASTER


def test_a_change_of_ours_is_sent_on_the_session_that_is_used_in_the_end() -> None:
    door, first, second = greeting()
    manager = Session(Direction.LOCAL, 1)
    door.give(Attached(manager, Process(1, 0)))
    assert Join in on(first, door.give(Received(manager, KeyWatch(True, 7))))
    assert Join in on(second, door.receive(second, group()))
    assert [m.sender for m in sent(Join, door.log)][-1]
    door, first, second = greeting()
    door.give(AddressesChanged(("10.0.8.8",)))
    door.receive(second, BUSY)
    assert Join not in on(first, door.wait(0.1)), "it has the address already"


def test_a_new_key_is_acknowledged_on_the_session_that_is_used_in_the_end() -> None:
    door, first, second = greeting()
    keys = state(KeyEntry(1, key(901), send=True), KeyEntry(2, key(902), send=False))
    door.receive(first, group(), keys)
    assert sent(KeyAck, door.wait(1.0)) == [KeyAck(2)]
    assert on(second, door.receive(second, group(), keys)) == [KeyAck]


# --- the PSK changes again ------------------------------------------------------------------------------------------


def test_an_attempt_that_is_outdated_before_it_is_open_begins_anew() -> None:
    door, _, second = connecting()
    actions = change(door, NEWER, NEW, OLD)
    assert closed(actions) == [second]
    assert one(Connect, actions).peer == LOW
    assert door.give(Connected(second, NEW)) == []


def test_an_attempt_ends_when_the_psk_changes_back() -> None:
    door, first, second = connecting()
    actions = change(door, OLD, NEW)
    assert closed(actions) == [second]
    assert of(Connect, actions) == []
    assert door.view.master_session == first


def test_an_attempt_on_which_join_was_sent_is_awaited_and_then_renewed() -> None:
    door, _, second = greeting()
    actions = change(door, NEWER, NEW)
    assert (closed(actions), of(Connect, actions)) == ([], [])
    door.receive(second, group())
    third = one(Connect, door.wait(0.0)).session
    door.give(Connected(third, NEWER))
    assert closed(door.receive(third, group())) == [second]
    assert is_uninterrupted(door)


# --- others than members --------------------------------------------------------------------------------------------


def test_a_node_that_joins_meanwhile_renews_when_it_is_welcomed() -> None:
    door = Door().start()
    connect = one(Connect, door.hear(advert(LOW, Role.MASTER)))
    door.give(Connected(connect.session, OLD))
    assert of(Connect, change(door, NEW, OLD)) == []
    door.receive(connect.session, group())
    second = one(Connect, door.wait(0.0))
    assert (second.peer, door.view.master_session) == (LOW, connect.session)


def test_a_node_on_its_way_to_a_successor_goes_on() -> None:
    door, first = client()
    retry = one(Connect, door.give(Disconnected(first, "reset")))
    actions = change(door, NEW, OLD)
    assert (closed(actions), of(Connect, actions)) == ([], [])
    door.give(Connected(retry.session, NEW))
    door.receive(retry.session, group())
    assert of(Connect, door.wait(0.5)) == []
    assert door.view.role is Role.CLIENT


def test_a_master_that_merges_goes_on() -> None:
    door = Door().start().become_master()
    merge = one(Connect, door.hear(advert(OTHER, Role.MASTER)))
    door.give(Connected(merge.session, OLD))
    assert change(door, NEW, OLD) != [], "it announces itself"
    actions = door.wait(0.5)
    assert (closed(actions), of(Connect, actions)) == ([], [])
    door.receive(merge.session, Merge(member(OTHER), 2, 3, 5, winner=ME))
    assert door.view.role is Role.MASTER


def test_a_master_that_failed_to_be_joined_is_tried_again_at_once() -> None:
    door = Door().start()
    connect = one(Connect, door.hear(advert(LOW, Role.MASTER)))
    assert one(JoinFailed, door.give(Disconnected(connect.session, "another key"))).peer.id == LOW
    assert of(Connect, door.hear(advert(LOW, Role.MASTER))) == []
    change(door, NEW, OLD)
    assert one(Connect, door.hear(advert(LOW, Role.MASTER))).peer == LOW


def test_a_refusal_outlives_a_change_of_the_psk() -> None:
    door = Door().start()
    connect = one(Connect, door.hear(advert(LOW, Role.MASTER)))
    door.give(Connected(connect.session, OLD))
    door.receive(connect.session, ErrorMessage("group_full", "no place"))
    door.wait(0.9)
    change(door, NEW, OLD)
    assert LOW in {a.peer for a in of(Connect, door.wait(3.0))}, "it may have a place now"
    assert door.view.role is not Role.MASTER, "there is one, which has no place for us"


def test_a_node_that_listens_begins_anew() -> None:
    door = Door().start()
    door.wait(0.9)
    change(door, NEW, OLD)
    door.wait(0.9)
    assert door.view.role is Role.LISTENING


def test_both_sessions_end_when_the_node_stops() -> None:
    door, first, second = greeting()
    assert set(closed(door.give(StopRequested()))) == {first, second}


def test_a_master_takes_the_second_session_of_a_member_in_place_of_the_first() -> None:
    door = Door().start().become_master()
    door.accept(1, join(HIGH))
    before = len(of(MemberJoined, door.log))
    actions = door.accept(2, join(HIGH), "10.0.0.1")
    assert closed(actions) == [Session(Direction.INBOUND, 1)]
    assert [type(m) for m in (a.message for a in of(Send, actions))][:2] == [Group, KeyState]
    assert len(of(MemberJoined, door.log)) == before
    assert of(MemberLost, door.log) == []
    assert door.members == {HIGH}
