"""A node announces only what other nodes must know, so that a failover costs each node few packets."""

from pskkey.core.actions import Advertise
from pskkey.core.events import AddressesChanged, Disconnected, SwitchoverRequested
from pskkey.model import Role
from tests.core.harness import NodeHarness, join, of

LOW, HIGH = "11111111", "99999999"


def announced(harness: NodeHarness) -> list[tuple[Role, bool]]:
    """Return the role in each advert of the node, and whether the advert had news."""
    return [(a.advert.role, a.is_news) for a in of(Advertise, harness.log)]


def test_a_node_that_joins_announces_nothing() -> None:
    harness = NodeHarness().start()
    session = harness.become_client()
    harness.give(Disconnected(session, "reset"))
    silent = [(Role.JOINING, False), (Role.CLIENT, False), (Role.JOINING, False)]
    assert announced(harness) == [(Role.LISTENING, True), *silent]


def test_a_master_announces_itself_and_its_end() -> None:
    harness = NodeHarness().start().become_master()
    assert announced(harness)[-1] == (Role.MASTER, True)
    seen = len(announced(harness))
    harness.wait(10)
    assert set(announced(harness)[seen:]) == {(Role.MASTER, True)}, "it repeats its advert"
    harness.now += 30
    harness.wait(0)
    assert announced(harness)[-1] == (Role.LISTENING, True), "it has slept"


def test_a_former_master_that_has_joined_another_one_announces_its_end() -> None:
    harness = NodeHarness().start().become_master()
    harness.accept(1, join(HIGH))
    harness.give(SwitchoverRequested(HIGH))
    assert announced(harness)[-1] == (Role.JOINING, True)


def test_a_member_announces_its_new_addresses() -> None:
    harness = NodeHarness().start()
    harness.become_client(HIGH, master=LOW)
    harness.give(AddressesChanged(("10.0.0.99",)))
    assert announced(harness)[-1] == (Role.CLIENT, True)


def test_the_next_master_announces_itself_in_a_failover() -> None:
    harness = NodeHarness().start()
    session = harness.become_client(HIGH, master=LOW)
    harness.give(Disconnected(session, "reset"))
    harness.wait(1)
    assert (Role.MASTER, True) in announced(harness)
