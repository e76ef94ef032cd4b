"""A member that came to its master with another key: what it sends with, and what it says of others that follow."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session
from pskkey.core.keyring import Keyring
from pskkey.model import ErrorMessage, Group, Handover, Heartbeat, KeyAck, KeyEntry, KeyNew, KeyNewReason, Merge, Role
from tests.core.harness import ME, NodeHarness, advert, join, member, of, one, sent
from tests.core.keys import empty_ring, entry, key
from tests.core.situations import HIGH, LOW, OTHER, state


def group(term: int, master: str, *others: str) -> Group:
    """Return a group of these nodes."""
    ids = (master, *others)
    return Group(term, master, tuple(member(i, sender_id=n) for n, i in enumerate(ids)), tuple(sorted(others)))


def keys(ring: Keyring) -> list[tuple[int, bool]]:
    """Return the keys of a ring, oldest first: the number of each, and whether it is sent with."""
    return [(int.from_bytes(e.key.client_random), e is ring.current) for e in ring.entries]


def came_with_901(*entries: KeyEntry) -> Keyring:
    """Return the ring of a node that has sent with key 901, epoch 1, as sender 3, and came to a master with these."""
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), sender_id=3), 0.0)
    ring.adopt(state(*entries, sender_id=8), 10.0)
    return ring


def test_member_without_a_send_mark_goes_on_with_its_key_and_its_lease() -> None:
    ring = came_with_901(entry(2, 902), entry(3, 903))
    assert keys(ring) == [(901, True), (902, False), (903, False)]
    assert ring.state().sender_id == 3, "under this key the other id may be somebody else's"
    assert ring.state().senders == {3, 8}
    assert ring.sends_former_key
    ring.adopt(state(entry(2, 902), entry(3, 903, send=True), sender_id=8), 11.0)
    assert keys(ring) == [(901, False), (902, False), (903, True)]
    assert ring.state().sender_id == 8
    assert not ring.sends_former_key
    ring.follow_tick(21.0)
    assert keys(ring)[-1] == (903, True)
    assert (901, False) not in keys(ring), "it was kept for what was under way"


def test_of_two_keys_of_one_epoch_the_one_that_is_sent_with_is_installed() -> None:
    ring = came_with_901(entry(1, 902), entry(2, 903))
    assert keys(ring) == [(901, True), (903, False)]
    ring.adopt(state(entry(1, 902), entry(2, 903, send=True)), 11.0)
    assert keys(ring) == [(901, False), (903, True)], "others of our group may still send with 901"
    ring.adopt(state(entry(2, 903, send=True), entry(1, 904)), 12.0)
    assert keys(ring) == [(903, True), (904, False)], "a key that is only kept makes way"


def test_key_that_has_room_because_another_cannot_be_held_is_read() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(4, 901, send=True)), 0.0)
    ring.adopt(state(entry(2, 902), entry(3, 903), entry(4, 904)), 1.0)
    assert keys(ring) == [(901, True), (902, False), (903, False)]
    ring.adopt(state(entry(3, 903), entry(4, 904), entry(5, 905)), 2.0)
    assert keys(ring) == [(901, True), (903, False), (905, False)]


def test_key_that_stood_back_is_there_when_the_former_one_is_left() -> None:
    ring = came_with_901(entry(1, 902))
    ring.adopt(state(entry(1, 902, send=True)), 11.0)
    assert keys(ring) == [(902, True)]


def test_former_key_may_be_one_that_the_master_lists() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), sender_id=3), 0.0)
    ring.adopt(state(entry(1, 901), entry(2, 902), sender_id=8), 1.0)
    assert keys(ring) == [(901, True), (902, False)]
    assert ring.state().sender_id == 3
    ring.adopt(state(entry(1, 901), entry(2, 902, send=True), sender_id=8), 2.0)
    assert keys(ring) == [(901, False), (902, True)]
    assert ring.state().sender_id == 8


def test_both_keys_after_a_former_one_that_the_master_lists_can_be_read() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(1, 901), entry(2, 902), entry(3, 903)), 1.0)
    assert keys(ring) == [(901, True), (902, False), (903, False)]


def test_key_that_is_only_kept_makes_way_where_three_are_in_use() -> None:
    ring = came_with_901(entry(2, 902, send=True))
    assert keys(ring) == [(901, False), (902, True)]
    ring.adopt(state(entry(2, 902), entry(3, 903), entry(4, 904)), 11.0)
    assert keys(ring) == [(902, True), (903, False), (904, False)]


def test_third_group_is_come_to_with_the_same_key() -> None:
    ring = came_with_901(entry(2, 902))
    ring.adopt(state(entry(5, 905), sender_id=9), 11.0)
    assert keys(ring) == [(902, False), (901, True), (905, False)], "others may still send with 902"
    assert ring.state().sender_id == 3


def test_what_others_send_with_where_we_come_from_can_be_read() -> None:
    """Seed 2189: its former key was the one of the third group, which does not list that of the second."""
    ring = came_with_901(entry(3, 903))
    ring.adopt(state(entry(1, 901, send=True), entry(4, 904)), 11.0)
    assert keys(ring) == [(903, False), (901, True), (904, False)]
    ring.follow_tick(21.0)
    assert keys(ring) == [(901, True), (904, False)]


def test_newcomer_that_is_not_told_what_to_send_with_sends_nothing() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901), entry(2, 902)), 0.0)
    assert ring.current is None
    assert not ring.sends_former_key


@pytest.mark.parametrize("own_epoch", [4, 5, 6, 7])
def test_member_that_becomes_master_leads_with_the_key_that_it_sends_with(own_epoch: int) -> None:
    ring = empty_ring()
    ring.adopt(state(entry(own_epoch, 901, send=True)), 0.0)
    ring.adopt(state(entry(5, 902), entry(6, 903)), 1.0)
    ring.lead(2.0)
    assert ring.current is not None
    assert ring.current.key == key(901)
    assert not ring.sends_former_key
    assert len({e.epoch for e in ring.entries}) == len(ring.entries)
    ring.install_fresh(key(904), 3.0)
    assert ring.newest is not None
    assert ring.newest.epoch > max(own_epoch, 6)


def test_of_two_keys_of_one_epoch_a_new_master_has_that_of_its_group() -> None:
    ring = came_with_901(entry(1, 902), entry(2, 903))
    ring.adopt(state(entry(1, 902), entry(2, 903, send=True)), 11.0)
    ring.lead(11.1)
    assert keys(ring) == [(902, False), (903, True)]


def test_former_key_and_its_lease_outlive_the_process() -> None:
    ring = came_with_901(entry(2, 902))
    again = empty_ring(saved=ring.saved(None))
    assert keys(again) == [(901, True), (902, False)]
    assert again.state() == ring.state()
    assert again.sends_former_key


# --- transitional members ---------------------------------------------------------------------------------------


def acknowledged(harness: NodeHarness, session: Session) -> list[int]:
    """Return the epochs that a node has acknowledged on a session, once its session managers might have come."""
    harness.receive(session, Heartbeat())
    harness.wait(0.6)
    sends = [a.message for a in of(Send, harness.log) if a.session == session]
    return [m.epoch for m in sends if isinstance(m, KeyAck)]


def joined_another(harness: NodeHarness, lost: Session, *members: str) -> Session:
    """Let a member lose its master and join OTHER, which has these members; return the new session."""
    one(Connect, harness.give(Disconnected(lost, "reset")))
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, harness.log)[-1].session
    harness.give(Connected(new))
    harness.receive(new, group(2, OTHER, ME, *members), state(entry(2, 902)))
    return new


def test_member_acknowledges_no_key_of_its_next_master_before_its_transitional_members_are_here() -> None:
    harness = NodeHarness().start()
    new = joined_another(harness, harness.become_client(HIGH, OTHER))
    assert not acknowledged(harness, new), "HIGH may come"
    harness.receive(new, group(2, OTHER, ME, HIGH), state(entry(2, 902)))
    assert acknowledged(harness, new) == [2], "LOW was the master and is dead"


def test_member_waits_for_its_transitional_members_no_longer_than_comes_within() -> None:
    harness = NodeHarness().start()
    new = joined_another(harness, harness.become_client(HIGH, OTHER))
    for _ in range(25):
        harness.wait(0.1)
        harness.receive(new, Heartbeat())
    assert acknowledged(harness, new) == [2]


def test_member_that_leaves_the_group_of_one_master_is_not_transitional() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, OTHER)
    harness.receive(session, group(1, LOW, ME, OTHER), state(entry(1, 901, send=True), entry(2, 902)))
    assert acknowledged(harness, session)[-1:] == [2]


def test_master_that_hands_over_is_transitional() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    new = one(Connect, harness.receive(session, Handover(member(OTHER), 1))).session
    harness.give(Connected(new))
    harness.receive(new, group(2, OTHER, ME), state(entry(2, 902)))
    assert not acknowledged(harness, new)
    harness.receive(new, group(2, OTHER, ME, LOW), state(entry(2, 902)))
    assert acknowledged(harness, new) == [2]


def test_nodes_that_had_not_joined_the_next_master_before_its_loss_are_transitional() -> None:
    harness = NodeHarness().start()
    new = joined_another(harness, harness.become_client(HIGH, OTHER))
    again = one(Connect, harness.give(Disconnected(new, "reset"))).session
    harness.give(Connected(again))
    harness.receive(again, group(2, OTHER, ME), state(entry(2, 902)))
    assert not acknowledged(harness, again), "HIGH may come"


def test_no_node_is_transitional_long_after_the_loss_of_the_group() -> None:
    harness = NodeHarness(eligible=False).start()
    session = harness.become_client(HIGH)
    harness.receive(session, replace(group(1, LOW, ME, HIGH), succession=(HIGH,)))
    harness.give(Disconnected(session, "reset"))
    harness.wait(30.0)
    assert harness.view.role is not Role.MASTER
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, harness.log)[-1].session
    harness.give(Connected(new))
    harness.receive(new, group(2, OTHER, ME), state(entry(2, 902)))
    assert acknowledged(harness, new) == [2]


def yielded(harness: NodeHarness, *members: str) -> Session:
    """Let a master yield to LOW, which asks it, and join LOW beside these members; return the session."""
    assert [m.winner for m in sent(Merge, harness.accept(9, Merge(member(LOW), 1, 9, 1)))] == [LOW]
    session = of(Connect, harness.log)[-1].session
    harness.give(Connected(session))
    harness.receive(session, group(9, LOW, ME, *members), state(entry(2, 902)))
    return session


def test_members_of_a_yielding_master_are_transitional_and_those_that_it_has_just_lost() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    harness.accept(2, join(OTHER))
    harness.give(Disconnected(Session(Direction.INBOUND, 1), "reset"))
    session = yielded(harness)
    assert not acknowledged(harness, session)
    harness.receive(session, group(9, LOW, ME, OTHER), state(entry(2, 902)))
    assert not acknowledged(harness, session), "HIGH was lost a moment ago"
    harness.receive(session, group(9, LOW, ME, OTHER, HIGH), state(entry(2, 902)))
    assert acknowledged(harness, session) == [2]


def test_master_that_yields_to_one_that_yields_itself_is_transitional() -> None:
    """Seed 3856: of eight masters with one key each yields to the next, and the last one did not wait for all."""
    harness = NodeHarness(priority=200).start().become_master()
    harness.wait(1.2)
    assert [m.winner for m in sent(Merge, harness.accept(2, Merge(member(HIGH), 1, 1, 1)))] == [ME]
    session = yielded(harness)
    assert not acknowledged(harness, session), "HIGH has yielded to us, and has not come yet"
    harness.receive(session, group(9, LOW, ME, HIGH), state(entry(2, 902)))
    assert acknowledged(harness, session) == [2]


def test_persisted_members_are_not_transitional() -> None:
    harness = NodeHarness().start()
    harness.become_client(HIGH)
    again = harness.restart()
    connect = one(Connect, again.hear(advert(OTHER, Role.MASTER, term=2)))
    again.give(Connected(connect.session))
    again.receive(connect.session, group(2, OTHER, ME), state(entry(2, 902)))
    assert acknowledged(again, connect.session) == [2], "nobody knows how old the saved group is"


def refused_by_the_next(harness: NodeHarness) -> Role:
    """Let the node that this one was sent to answer that it is not the master; return our role a moment later."""
    session = of(Connect, harness.log)[-1].session
    harness.give(Connected(session))
    harness.receive(session, ErrorMessage("not_master", "I have yielded"))
    harness.wait(0.1)
    return harness.view.role


def test_yielding_master_listens_at_once_when_the_winner_has_yielded_in_turn() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(9, Merge(member(LOW), 1, 9, 1))
    assert refused_by_the_next(harness) is Role.LISTENING


def test_member_listens_at_once_when_the_winner_that_it_was_sent_to_has_yielded_in_turn() -> None:
    harness = NodeHarness().start()
    harness.receive(harness.become_client(HIGH), Handover(member(OTHER), 1))
    assert refused_by_the_next(harness) is Role.LISTENING


def test_member_asks_a_successor_of_its_group_again_that_is_not_master_yet() -> None:
    harness = NodeHarness().start()
    harness.receive(harness.become_client(HIGH, OTHER), Handover(member(OTHER), 1))
    assert refused_by_the_next(harness) is Role.JOINING


# --- found by a review ------------------------------------------------------------------------------------------


def beside_a_former_key(*entries: KeyEntry) -> tuple[NodeHarness, Session]:
    """Return a member that sends with key 901 and came to OTHER, which lists these."""
    harness = NodeHarness().start()
    one(Connect, harness.give(Disconnected(harness.become_client(OTHER, HIGH), "reset")))
    harness.wait(0.2)
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    session = of(Connect, harness.log)[-1].session
    harness.give(Connected(session))
    harness.receive(session, group(2, OTHER, ME, HIGH), state(*entries))
    assert harness.view.sends_former_key
    return harness, session


def test_request_for_a_key_is_sent_on_though_all_keys_of_the_master_are_to_come() -> None:
    harness, _ = beside_a_former_key(entry(2, 803))
    assert sent(KeyNew, harness.give(RekeyRequested(KeyNewReason.OPERATOR))) == [KeyNew(KeyNewReason.OPERATOR)]


def test_key_that_stands_back_for_the_former_one_is_not_acknowledged() -> None:
    harness, session = beside_a_former_key(entry(1, 803))
    harness.receive(session, Heartbeat())
    harness.wait(0.6)
    harness.receive(session, state(entry(1, 803), entry(2, 804)))
    assert [a.message for a in of(Send, harness.log) if a.session == session and isinstance(a.message, KeyAck)] == [
        KeyAck(2)
    ]


def test_what_the_group_has_just_left_is_read_before_what_was_left_earlier() -> None:
    ring = came_with_901(entry(2, 902), replace(entry(3, 903), unused=True))
    ring.adopt(state(entry(4, 904), replace(entry(5, 905), unused=True)), 11.0)
    ring.adopt(state(entry(4, 904), entry(5, 905, send=True)), 12.0)
    assert 4 in ring.live_epochs


def test_new_master_keeps_the_key_in_use_rather_than_the_unused_one() -> None:
    ring = came_with_901(entry(2, 902), replace(entry(3, 903), unused=True))
    ring.lead(11.0)
    ring.install_fresh(key(904), 12.0)
    assert 2 in ring.live_epochs, "the members of the last master send with it"


def test_unused_key_of_a_dead_master_is_kept_for_whoever_was_told_to_send_with_it() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), replace(entry(2, 902), unused=True)), 0.0)
    ring.adopt(state(entry(5, 905)), 1.0)
    assert 2 in ring.live_epochs


@pytest.mark.parametrize("now", [505.4431660804219, 12345.678901, 99999.1])
def test_key_that_is_kept_is_retired_at_its_deadline(now: float) -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), now - 1)
    ring.adopt(state(entry(2, 902, send=True)), now)
    deadline = ring.follow_deadline()
    assert deadline is not None
    ring.follow_tick(deadline)
    assert ring.follow_deadline() is None
