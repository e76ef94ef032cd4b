"""Each new master has a higher term, and a node does not follow a master with a lower term."""

from dataclasses import replace

import pytest

from pskkey.core.notices import Fenced
from pskkey.model import Group, Handover, Join, Merge, Role
from pskkey.wire.packet import encode
from tests.core.harness import ME, NodeHarness, join, member, of, refusal, sent
from tests.core.situations import HIGH, LOW


def test_a_lower_term_is_not_followed() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(term=9)
    actions = harness.receive(session, Group(8, LOW, (member(LOW), member(ME)), (ME,)))
    assert of(Fenced, actions)
    assert harness.view.term == 9


def test_joiner_with_a_higher_term_raises_the_term_of_the_master() -> None:
    harness = NodeHarness().start().become_master()
    actions = harness.accept(1, join(LOW, term=41))
    assert sent(Group, actions)[0].term == 42


def test_group_follows_its_master_to_the_highest_term_that_one_join_can_cause() -> None:
    harness = NodeHarness().start().become_master()
    farthest = harness.view.term + 2**20
    assert refusal(harness.accept(1, join(HIGH, term=farthest + 1))) == "protocol"
    assert refusal(harness.accept(2, join(HIGH, term=farthest))) is None
    term = harness.view.term
    assert term == farthest + 1
    client = NodeHarness().start()
    session = client.become_client(HIGH)
    client.receive(session, Group(term, LOW, (member(LOW), member(ME)), (ME,)))
    client.wait(0.5)
    assert (client.node.view().role, client.node.view().term) == (Role.CLIENT, term)
    newcomer = NodeHarness().start()
    newcomer.become_client(term=term)
    assert (newcomer.node.view().role, newcomer.node.view().term) == (Role.CLIENT, term)


@pytest.mark.parametrize("kind", [Join, Merge])
def test_term_out_of_reach_is_refused_and_ours_can_still_be_sent(kind: type) -> None:
    harness = NodeHarness().start().become_master()
    far = 2**53 - 1
    message = join(LOW, term=far) if kind is Join else Merge(member(LOW), far, 9, 1)
    assert refusal(harness.accept(1, message)) == "protocol"
    assert harness.view.term == 1
    group = harness.node.group()
    assert group is not None
    assert encode(group)


def test_handover_to_another_node_with_our_id_gives_us_no_term_that_was_led_already() -> None:
    """Seed 14082: a master that yields names the winner to its members, and the term rises at the winner only."""
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, term=2)
    harness.receive(session, Handover(replace(member(ME), addresses=("10.0.0.77",)), 2))
    assert harness.view.role is Role.MASTER
    assert harness.view.term == 3
