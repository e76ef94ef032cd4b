"""What else may happen while the session with the master is renewed, and to nodes that are no members."""

from pskkey.core.actions import Connect, Send
from pskkey.core.events import (
    AddressesChanged,
    Attached,
    Connected,
    Direction,
    Disconnected,
    Received,
    Session,
    StopRequested,
)
from pskkey.core.notices import JoinFailed, MasterLost, MemberJoined, MemberLost
from pskkey.model import ErrorMessage, Group, Handover, Join, KeyAck, KeyEntry, KeyState, KeyWatch, Merge, Process, Role
from tests.core.door import ME, Door, advert, join, member, of, one, sent
from tests.core.keys import key
from tests.core.renewing import (
    BUSY,
    NEW,
    NEWER,
    OLD,
    change,
    client,
    closed,
    connecting,
    greeting,
    group,
    is_uninterrupted,
    on,
)
from tests.core.situations import HIGH, LOW, OTHER, state

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
