"""Sender ids at a node: configured ids, ids that are taken, and the leases that the last master granted."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Action, Connect
from pskkey.core.events import Attached, Connected, Direction, Disconnected, RekeyRequested, Session
from pskkey.core.notices import NoSenderId, OwnSenderIdTaken, SenderIdTaken
from pskkey.model import SENDER_IDS, Group, Join, KeyEntry, KeyNewReason, KeyState, KeyWatch, Process, Role
from tests.core.harness import NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import entry, key
from tests.core.situations import (
    HIGH,
    LOCAL,
    LOW,
    OTHER,
    acknowledge,
    client_mid_rekey,
    rejoin,
    sender,
    state,
    take_over,
    taken_over,
)

# --- configured ids ---------------------------------------------------------------------------------------------------


def leased(actions: list[Action]) -> int | None:
    """Return the lease in the last state that is sent to a joiner."""
    return sent(KeyState, actions)[-1].sender_id


def sending_joiner(node_id: str, wanted: int | None = None) -> Join:
    """Return the JOIN of a node that sends."""
    plain = join(node_id)
    return replace(plain, member=replace(plain.member, sender_id=wanted), sender=True)


def test_configured_id_is_granted_and_a_clash_is_reported_once() -> None:
    harness = NodeHarness().start().become_master()
    assert leased(harness.accept(1, sending_joiner("11111111", wanted=42))) == 42
    actions = harness.accept(2, sending_joiner("22222222", wanted=42))
    assert leased(actions) not in (42, None)
    (taken,) = of(SenderIdTaken, actions)
    assert (taken.peer.name, taken.configured, taken.sender_id, taken.holder) == ("n2", 42, leased(actions), "n1")
    assert not of(SenderIdTaken, harness.wait(1.0))


def test_client_reports_that_its_lease_is_not_the_configured_id() -> None:
    harness = NodeHarness(sender_id=7).start()
    session = harness.become_client()
    state = KeyState(9, frozenset({0, 9}), (KeyEntry(1, key(901), send=True),))
    assert of(OwnSenderIdTaken, harness.receive(session, state)) == [OwnSenderIdTaken(configured=7, sender_id=9)]
    assert not of(OwnSenderIdTaken, harness.receive(session, state))
    mine = replace(state, sender_id=7)
    assert not of(OwnSenderIdTaken, harness.receive(session, mine))


def test_new_master_reports_that_its_leased_id_is_not_the_configured_one() -> None:
    harness = NodeHarness(sender_id=9).start()
    session = harness.become_client("99999999")
    harness.give(Attached(Session(Direction.LOCAL, 1), Process(1, 0)))
    harness.receive(Session(Direction.LOCAL, 1), KeyWatch(will_send=True, context=1))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    actions = harness.give(Disconnected(retry.session, "refused"))
    actions += harness.wait(3.0)
    assert len(of(SenderIdTaken, actions)) == 1


def test_sender_without_a_free_id_is_reported_and_can_receive() -> None:
    harness = NodeHarness().start().become_master()
    harness.give(Attached(LOCAL, Process(10, 0)))
    harness.receive(LOCAL, KeyWatch(will_send=True, context=10))
    for number in range(1, SENDER_IDS):
        assert leased(harness.accept(number, sending_joiner(f"{number:08x}"))) is not None
    actions = harness.accept(SENDER_IDS, sending_joiner(f"{SENDER_IDS:08x}"))
    (state,) = sent(KeyState, actions)
    assert state.sender_id is None
    assert state.entries, "it can receive"
    assert [notice.peer.id for notice in of(NoSenderId, actions)] == [f"{SENDER_IDS:08x}"]


# --- the leases of the last master ------------------------------------------------------------------------------------


def test_member_of_the_lost_master_keeps_its_lease_at_the_successor() -> None:
    harness = take_over(*client_mid_rekey())
    assert rejoin(harness, 1, HIGH, 2).sender_id == 2


def test_successor_does_not_grant_another_lease_than_the_one_that_it_knows() -> None:
    harness = take_over(*client_mid_rekey())
    assert rejoin(harness, 1, HIGH, 7).sender_id is None


@pytest.mark.parametrize(("claimed", "goes_on"), [(7, True), (2, False)])
def test_unknown_lease_of_the_last_master_is_granted_unless_it_is_taken(claimed: int, goes_on: bool) -> None:
    """Seed 144."""
    harness = taken_over()
    welcome = sent(KeyState, harness.accept(1, sender(OTHER, sends_with=1, key_number=901, lease=claimed)))
    assert welcome[0].sender_id == (claimed if goes_on else None)


def test_id_that_the_last_master_listed_for_us_and_for_another_is_ours() -> None:
    """Seeds of the kind "babbler"."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    members = (member(LOW, sender_id=0), member("55555555", sender_id=1), member(HIGH, sender_id=1))
    harness.receive(session, Group(1, LOW, members, ("55555555", HIGH)))
    harness.receive(session, state(entry(1, 901, send=True), sender_id=1))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.node.key_state().sender_id == 1
    assert sent(KeyState, harness.accept(1, join(HIGH)))[0].sender_id is None


@pytest.mark.parametrize("is_killed", [False, True])
def test_member_map_of_a_master_whose_keys_have_not_arrived_is_not_used(is_killed: bool) -> None:
    """Seeds of the kind "babbler"."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    harness.give(Disconnected(session, "reset"))
    harness = harness.restart(now=harness.now + 120.0)
    again = one(Connect, harness.hear(advert(OTHER, Role.MASTER, term=5)))
    harness.give(Connected(again.session))
    members = (member(OTHER, sender_id=0), member("66666666", sender_id=2), member("55555555", sender_id=8))
    harness.receive(again.session, Group(5, OTHER, members, ("55555555", "66666666")))
    if is_killed:
        harness = harness.restart()
    else:
        harness.give(Disconnected(again.session, "reset"))
        harness.give(Disconnected(of(Connect, harness.log)[-1].session, "refused"))
    harness.wait(3.0)
    group = harness.node.group()
    assert harness.view.role is Role.MASTER
    assert group is not None
    assert harness.node.key_state().sender_id == 1, "the lease that belongs to the keys of this node"
    states = sent(KeyState, harness.accept(1, sender(HIGH, sends_with=1, key_number=901, lease=2)))
    assert states[0].sender_id == 2, (
        "its lease under the key that it sends with, though another node has that id under another key"
    )


def test_joiner_that_has_to_wait_may_send_with_the_key_that_is_on_its_way() -> None:
    """Seeds 26, 28, 32 and 57."""
    harness = taken_over()
    harness.wait(0.6)
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    welcome = sent(KeyState, harness.accept(1, sender(HIGH, sends_with=1, key_number=801, lease=2)))
    assert welcome[-1].sender_id is None, "another incarnation of it may have sent with this key"
    acknowledge(harness, 1, 2)
    states = sent(KeyState, harness.wait(0.2))
    assert [e.epoch for e in states[-1].entries if e.send] == [2]
    assert states[-1].sender_id == 2
    harness.wait(1.2)
    assert harness.view.next is None, "it needs no second rekey"
