"""The group or the PSK changes during the renewal of a session, and nodes that are not members get another PSK."""

from pskkey.core.actions import Connect
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
from pskkey.core.notices import JoinFailed, MasterLost
from pskkey.model import ErrorMessage, Handover, Heartbeat, Join, KeyAck, KeyEntry, KeyWatch, Merge, Process, Role
from tests.core.harness import ME, NodeHarness, advert, member, of, one, sent
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
    is_uninterrupted,
    kinds_sent_on,
)
from tests.core.situations import HIGH, LOW, OTHER, state

# --- the group changes during the renewal -----------------------------------------------------------------------------


def test_messages_on_the_former_session_after_the_welcome_are_ignored() -> None:
    harness, first, second = greeting()
    harness.receive(first, group(term=2))
    assert harness.view.term == 2
    harness.receive(second, group(term=3))
    assert harness.receive(first, group(term=9), Handover(member(HIGH), 9)) == []
    assert harness.view.term == 3
    assert is_uninterrupted(harness)


def test_a_handover_is_followed_and_both_sessions_end() -> None:
    harness, first, second = greeting()
    actions = harness.receive(first, Handover(member(HIGH), 2))
    assert set(closed(actions)) == {first, second}
    assert one(Connect, actions).peer == HIGH
    assert of(MasterLost, harness.log) == []
    assert harness.receive(second, group()) == []


def test_successor_takes_over_while_it_renews() -> None:
    harness, first, second = greeting()
    actions = harness.receive(first, Handover(member(ME), 2))
    assert set(closed(actions)) == {first, second}
    assert harness.view.role is Role.MASTER


def test_update_of_our_join_is_sent_on_the_session_that_is_used_in_the_end() -> None:
    harness, first, second = greeting()
    manager = Session(Direction.LOCAL, 1)
    harness.give(Attached(manager, Process(1, 0)))
    assert Join in kinds_sent_on(first, harness.give(Received(manager, KeyWatch(True, 7))))
    assert Join in kinds_sent_on(second, harness.receive(second, group()))
    assert [m.sender for m in sent(Join, harness.log)][-1]
    harness, first, second = greeting()
    harness.give(AddressesChanged(("10.0.8.8",)))
    harness.receive(second, BUSY)
    assert Join not in kinds_sent_on(first, harness.wait(0.1)), "the master has the address already"


def test_a_new_key_is_acknowledged_on_the_session_that_is_used_in_the_end() -> None:
    harness, first, second = greeting()
    keys = state(KeyEntry(1, key(901), send=True), KeyEntry(2, key(902), send=False))
    harness.receive(first, group(), keys)
    assert sent(KeyAck, harness.wait(1.0)) == [KeyAck(2)]
    assert kinds_sent_on(second, harness.receive(second, group(), keys)) == [Heartbeat, KeyAck]


def test_both_sessions_end_when_the_node_stops() -> None:
    harness, first, second = greeting()
    assert set(closed(harness.give(StopRequested()))) == {first, second}


# --- the PSK changes again --------------------------------------------------------------------------------------------


def test_an_attempt_that_is_outdated_before_it_is_open_begins_anew() -> None:
    harness, _, second = connecting()
    actions = change_psk(harness, NEWER, NEW, OLD)
    assert closed(actions) == [second]
    assert one(Connect, actions).peer == LOW
    assert harness.give(Connected(second, NEW)) == []


def test_an_attempt_ends_when_the_psk_changes_back() -> None:
    harness, first, second = connecting()
    actions = change_psk(harness, OLD, NEW)
    assert closed(actions) == [second]
    assert of(Connect, actions) == []
    assert harness.view.master_session == first


def test_an_attempt_on_which_join_was_sent_is_awaited_and_then_renewed() -> None:
    harness, _, second = greeting()
    actions = change_psk(harness, NEWER, NEW)
    assert (closed(actions), of(Connect, actions)) == ([], [])
    harness.receive(second, group())
    third = one(Connect, harness.wait(0.0)).session
    harness.give(Connected(third, NEWER))
    assert closed(harness.receive(third, group())) == [second]
    assert is_uninterrupted(harness)


# --- nodes that are not members ---------------------------------------------------------------------------------------


def test_joiner_renews_its_session_when_it_is_welcomed() -> None:
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    harness.give(Connected(connect.session, OLD))
    assert of(Connect, change_psk(harness, NEW, OLD)) == []
    harness.receive(connect.session, group())
    second = one(Connect, harness.wait(0.0))
    assert (second.peer, harness.view.master_session) == (LOW, connect.session)


def test_node_that_joins_a_successor_goes_on() -> None:
    harness, first = client()
    retry = one(Connect, harness.give(Disconnected(first, "reset")))
    actions = change_psk(harness, NEW, OLD)
    assert (closed(actions), of(Connect, actions)) == ([], [])
    harness.give(Connected(retry.session, NEW))
    harness.receive(retry.session, group())
    assert of(Connect, harness.wait(0.5)) == []
    assert harness.view.role is Role.CLIENT


def test_a_master_that_merges_goes_on() -> None:
    harness = NodeHarness().start().become_master()
    merge = one(Connect, harness.hear(advert(OTHER, Role.MASTER)))
    harness.give(Connected(merge.session, OLD))
    assert change_psk(harness, NEW, OLD) != [], "it announces itself"
    actions = harness.wait(0.5)
    assert (closed(actions), of(Connect, actions)) == ([], [])
    harness.receive(merge.session, Merge(member(OTHER), 2, 3, 5, winner=ME))
    assert harness.view.role is Role.MASTER


def test_master_that_could_not_be_joined_is_tried_again_at_once() -> None:
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    assert one(JoinFailed, harness.give(Disconnected(connect.session, "another key"))).peer.id == LOW
    assert of(Connect, harness.hear(advert(LOW, Role.MASTER))) == []
    change_psk(harness, NEW, OLD)
    assert one(Connect, harness.hear(advert(LOW, Role.MASTER))).peer == LOW


def test_a_refusal_outlives_a_change_of_the_psk() -> None:
    harness = NodeHarness().start()
    connect = one(Connect, harness.hear(advert(LOW, Role.MASTER)))
    harness.give(Connected(connect.session, OLD))
    harness.receive(connect.session, ErrorMessage("group_full", "no place"))
    harness.wait(0.9)
    change_psk(harness, NEW, OLD)
    assert LOW in {a.peer for a in of(Connect, harness.wait(3.0))}, "it may have a place now"
    assert harness.view.role is not Role.MASTER, "there is a master, which has no place for this node"


def test_listener_begins_its_discovery_window_anew() -> None:
    harness = NodeHarness().start()
    harness.wait(0.9)
    change_psk(harness, NEW, OLD)
    harness.wait(0.9)
    assert harness.view.role is Role.LISTENING
