"""A member that joined its master with another key sends with this former key until the master marks another one."""

from dataclasses import replace

import pytest

from pskkey.core.actions import Connect, Send
from pskkey.core.events import Connected, Disconnected, RekeyRequested, Session
from pskkey.core.keyring import Keyring
from pskkey.model import Heartbeat, KeyAck, KeyEntry, KeyNew, KeyNewReason, Role
from tests.core.harness import ME, NodeHarness, advert, of, one, sent
from tests.core.keys import empty_ring, entry, key
from tests.core.situations import HIGH, OTHER, group_of, state

# --- the keyring ------------------------------------------------------------------------------------------------------


def joined_with_901(*entries: KeyEntry) -> Keyring:
    """Return the ring of a node that sent with key 901, epoch 1, as sender 3, and joined a master with these keys."""
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), sender_id=3), 0.0)
    ring.adopt(state(*entries, sender_id=8), 10.0)
    return ring


def keys(ring: Keyring) -> list[tuple[int, bool]]:
    """Return the keys of a ring, oldest first: the number of each, and whether it is sent with."""
    return [(int.from_bytes(e.key.client_random), e is ring.current) for e in ring.entries]


def test_member_without_a_send_mark_goes_on_with_its_key_and_its_lease() -> None:
    ring = joined_with_901(entry(2, 902), entry(3, 903))
    assert keys(ring) == [(901, True), (902, False), (903, False)]
    assert ring.state().sender_id == 3, "under this key the other id may belong to another node"
    assert ring.state().senders == {3, 8}
    assert ring.senders == {8}, "a change of the group of the master does not add to the former ones"
    assert ring.sends_former_key
    ring.adopt(state(entry(2, 902), entry(3, 903, send=True), sender_id=8), 11.0)
    assert keys(ring) == [(901, False), (902, False), (903, True)]
    assert ring.state().sender_id == 8
    assert not ring.sends_former_key
    ring.tick_as_follower(21.0)
    assert keys(ring)[-1] == (903, True)
    assert (901, False) not in keys(ring), "it was kept for datagrams under way"


def test_of_two_keys_of_one_epoch_the_one_that_is_sent_with_is_installed() -> None:
    ring = joined_with_901(entry(1, 902), entry(2, 903))
    assert keys(ring) == [(901, True), (903, False)]
    ring.adopt(state(entry(1, 902), entry(2, 903, send=True)), 11.0)
    assert keys(ring) == [(901, False), (903, True)], "other nodes of our former group may still send with 901"
    ring.adopt(state(entry(2, 903, send=True), entry(1, 904)), 12.0)
    assert keys(ring) == [(903, True), (904, False)], "a key that is only kept is dropped first"


def test_listed_key_gets_the_room_of_one_that_cannot_be_held() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(4, 901, send=True)), 0.0)
    ring.adopt(state(entry(2, 902), entry(3, 903), entry(4, 904)), 1.0)
    assert keys(ring) == [(901, True), (902, False), (903, False)]
    ring.adopt(state(entry(3, 903), entry(4, 904), entry(5, 905)), 2.0)
    assert keys(ring) == [(901, True), (903, False), (905, False)]


def test_key_with_the_epoch_of_the_former_key_is_installed_when_that_is_left() -> None:
    ring = joined_with_901(entry(1, 902))
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


def test_both_keys_that_the_master_lists_after_the_former_one_are_installed() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), 0.0)
    ring.adopt(state(entry(1, 901), entry(2, 902), entry(3, 903)), 1.0)
    assert keys(ring) == [(901, True), (902, False), (903, False)]


def test_key_that_is_only_kept_is_dropped_when_three_others_are_in_use() -> None:
    ring = joined_with_901(entry(2, 902, send=True))
    assert keys(ring) == [(901, False), (902, True)]
    ring.adopt(state(entry(2, 902), entry(3, 903), entry(4, 904)), 11.0)
    assert keys(ring) == [(902, True), (903, False), (904, False)]


def test_former_key_is_kept_in_a_third_group() -> None:
    ring = joined_with_901(entry(2, 902))
    ring.adopt(state(entry(5, 905), sender_id=9), 11.0)
    assert keys(ring) == [(902, False), (901, True), (905, False)], "other nodes may still send with 902"
    assert ring.state().sender_id == 3


def test_keys_of_the_group_that_the_member_left_stay_readable() -> None:
    """Seed 2189: its former key was the one of the third group, which does not list that of the second."""
    ring = joined_with_901(entry(3, 903))
    ring.adopt(state(entry(1, 901, send=True), entry(4, 904)), 11.0)
    assert keys(ring) == [(903, False), (901, True), (904, False)]
    ring.tick_as_follower(21.0)
    assert keys(ring) == [(901, True), (904, False)]


def test_newcomer_without_a_send_mark_sends_nothing() -> None:
    ring = empty_ring()
    ring.adopt(state(entry(1, 901), entry(2, 902)), 0.0)
    assert ring.current is None
    assert not ring.sends_former_key


@pytest.mark.parametrize("own_epoch", [4, 5, 6, 7])
def test_member_that_becomes_master_leads_with_the_key_that_it_sends_with(own_epoch: int) -> None:
    ring = empty_ring()
    ring.adopt(state(entry(own_epoch, 901, send=True)), 0.0)
    ring.adopt(state(entry(5, 902), entry(6, 903)), 1.0)
    ring.begin_to_lead(2.0)
    assert ring.current is not None
    assert ring.current.key == key(901)
    assert not ring.sends_former_key
    assert len({e.epoch for e in ring.entries}) == len(ring.entries)
    ring.install_fresh(key(904), 3.0)
    assert ring.newest is not None
    assert ring.newest.epoch > max(own_epoch, 6)


def test_of_two_keys_of_one_epoch_a_new_master_keeps_that_of_its_group() -> None:
    ring = joined_with_901(entry(1, 902), entry(2, 903))
    ring.adopt(state(entry(1, 902), entry(2, 903, send=True)), 11.0)
    ring.begin_to_lead(11.1)
    assert keys(ring) == [(902, False), (903, True)]


def test_former_key_and_its_lease_outlive_the_process() -> None:
    ring = joined_with_901(entry(2, 902))
    again = empty_ring(saved=ring.saved(None))
    assert keys(again) == [(901, True), (902, False)]
    assert again.state() == ring.state()
    assert again.sends_former_key


@pytest.mark.parametrize("now", [505.4431660804219, 12345.678901, 99999.1])
def test_key_that_is_kept_is_retired_at_its_deadline(now: float) -> None:
    """A review found this."""
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True)), now - 1)
    ring.adopt(state(entry(2, 902, send=True)), now)
    deadline = ring.deadline_as_follower()
    assert deadline is not None
    ring.tick_as_follower(deadline)
    assert ring.deadline_as_follower() is None


# --- unused keys ------------------------------------------------------------------------------------------------------


def test_key_that_the_group_has_just_left_is_kept_before_one_that_it_left_earlier() -> None:
    """A review found this."""
    ring = joined_with_901(entry(2, 902), replace(entry(3, 903), unused=True))
    ring.adopt(state(entry(4, 904), replace(entry(5, 905), unused=True)), 11.0)
    ring.adopt(state(entry(4, 904), entry(5, 905, send=True)), 12.0)
    assert 4 in ring.live_epochs


def test_new_master_keeps_the_key_in_use_rather_than_the_unused_one() -> None:
    """A review found this."""
    ring = joined_with_901(entry(2, 902), replace(entry(3, 903), unused=True))
    ring.begin_to_lead(11.0)
    ring.install_fresh(key(904), 12.0)
    assert 2 in ring.live_epochs, "the members of the last master send with it"


def test_unused_key_of_a_dead_master_is_kept_because_its_members_may_send_with_it() -> None:
    """A review found this."""
    ring = empty_ring()
    ring.adopt(state(entry(1, 901, send=True), replace(entry(2, 902), unused=True)), 0.0)
    ring.adopt(state(entry(5, 905)), 1.0)
    assert 2 in ring.live_epochs


# --- the node ---------------------------------------------------------------------------------------------------------


def member_with_former_key(*entries: KeyEntry) -> tuple[NodeHarness, Session]:
    """Return a member of OTHER, which lists these keys, that sends with key 901."""
    harness = NodeHarness().start()
    one(Connect, harness.give(Disconnected(harness.become_client(OTHER, HIGH), "reset")))
    harness.wait(0.2)
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    session = of(Connect, harness.log)[-1].session
    harness.give(Connected(session))
    harness.receive(session, group_of(2, OTHER, ME, HIGH), state(*entries))
    assert harness.view.sends_former_key
    return harness, session


def test_rekey_request_is_forwarded_though_no_key_of_the_master_is_in_use_yet() -> None:
    """A review found this."""
    harness, _ = member_with_former_key(entry(2, 803))
    assert sent(KeyNew, harness.give(RekeyRequested(KeyNewReason.OPERATOR))) == [KeyNew(KeyNewReason.OPERATOR)]


def test_key_with_the_epoch_of_the_former_key_is_not_acknowledged() -> None:
    """A review found this."""
    harness, session = member_with_former_key(entry(1, 803))
    harness.receive(session, Heartbeat())
    harness.wait(0.6)
    harness.receive(session, state(entry(1, 803), entry(2, 804)))
    assert [a.message for a in of(Send, harness.log) if a.session == session and isinstance(a.message, KeyAck)] == [
        KeyAck(2)
    ]
