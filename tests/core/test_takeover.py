"""When the master is lost, the first member of the succession takes over and the others join it."""

import pytest

from pskkey.core.actions import Connect, GenerateKey
from pskkey.core.events import Connected, Direction, Disconnected, RekeyRequested, Session
from pskkey.model import ErrorMessage, Group, KeyAck, KeyNewReason, Role
from tests.core.harness import ME, NodeHarness, advert, member, of, one
from tests.core.keys import entry, key
from tests.core.situations import (
    HIGH,
    LOW,
    OTHER,
    client_mid_rekey,
    rejoin,
    sending_epoch,
    state,
    take_over,
)


def test_lost_master_is_connected_to_once_more_before_anything_else() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH)
    again = one(Connect, harness.give(Disconnected(session, "reset")))
    assert again.peer == LOW
    assert again.timeout == 0.3


def test_the_first_in_the_succession_takes_over_with_the_same_key_and_a_higher_term() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, term=7)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    actions = harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    assert harness.view.term == 8
    assert not of(GenerateKey, actions)
    current = harness.view.current
    assert current is not None
    assert current.key == key(901)


def test_second_in_the_succession_joins_the_first_and_takes_over_if_that_is_lost_too() -> None:
    harness = NodeHarness().start()
    session = harness.become_client("22222222")
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    first = one(Connect, harness.give(Disconnected(retry.session, "refused")))
    assert first.peer == "22222222"
    harness.give(Disconnected(first.session, "refused"))
    assert harness.view.role is Role.MASTER


def test_member_listens_if_the_first_in_the_succession_still_has_a_master() -> None:
    harness = NodeHarness().start()
    session = harness.become_client("22222222")
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    first = one(Connect, harness.give(Disconnected(retry.session, "no answer")))
    harness.give(Connected(first.session))
    harness.receive(first.session, ErrorMessage("not_master", "I have one"))
    assert harness.view.role is Role.LISTENING


def test_member_joins_a_newer_master_that_it_knows_before_it_takes_over() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, term=3)
    harness.hear(advert(HIGH, Role.MASTER, term=4))
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    assert one(Connect, harness.give(Disconnected(retry.session, "refused"))).peer == HIGH


def test_successor_does_not_send_with_a_key_that_its_members_may_not_have() -> None:
    harness = take_over(*client_mid_rekey())
    current = harness.view.current
    assert current is not None
    assert current.epoch == 1
    rejoin(harness, 1, HIGH, 2)
    harness.receive(Session(Direction.INBOUND, 1), KeyAck(2))
    current = harness.view.current
    assert current is not None
    assert current.epoch == 2, "all have acknowledged it"


def join_other_with_former_key(harness: NodeHarness, *others: str) -> Session:
    """Let a member of LOW, beside HIGH, lose LOW and join OTHER, which serves `others`; return the session."""
    session = harness.become_client(HIGH, OTHER)
    one(Connect, harness.give(Disconnected(session, "reset")))
    harness.wait(0.2)
    harness.hear(advert(OTHER, Role.MASTER, term=2))
    new = of(Connect, harness.log)[-1]
    assert new.peer == OTHER
    harness.give(Connected(new.session))
    ids = (OTHER, *others, ME)
    group = Group(2, OTHER, tuple(member(i, sender_id=n) for n, i in enumerate(ids)), tuple(sorted(ids[1:])))
    harness.receive(new.session, group, state(entry(1, 902)))
    assert harness.view.sends_former_key
    return new.session


@pytest.mark.parametrize("last_group", [(HIGH,), ()], ids=["which was whole", "to which not all had come yet"])
def test_successor_with_its_former_key_waits_for_the_rest_of_its_partition(last_group: tuple[str, ...]) -> None:
    """Seeds 2200, 3049, 8128 and 8626."""
    harness = NodeHarness().start()
    session = join_other_with_former_key(harness, *last_group)
    retry = one(Connect, harness.give(Disconnected(session, "reset")))
    harness.give(Disconnected(retry.session, "refused"))
    assert harness.view.role is Role.MASTER
    harness.give(RekeyRequested(KeyNewReason.OPERATOR))
    harness.wait(2.1)
    assert sending_epoch(harness.view) == 1, "HIGH was in the former group and may come"
    harness.wait(0.3)
    assert sending_epoch(harness.view) != 1
