"""The order in which a node tries the addresses of a peer."""

from dataclasses import replace

from pskkey.core.actions import STAGGER, Connect
from pskkey.core.events import AddressesChanged, AdvertReceived, Connected, Disconnected, OtherNodeAnswered
from pskkey.core.settings import Timing
from pskkey.model import Advert, Role
from tests.core.harness import NodeHarness, advert, one

MASTER = "11111111"
ANNOUNCED = ("172.20.0.1", "172.21.0.1", "10.9.0.1", "10.8.0.1")


def announced(*addresses: str) -> Advert:
    """Return the advert of a master with these addresses."""
    return replace(advert(MASTER, Role.MASTER), addresses=addresses)


def connect(node: NodeHarness) -> Connect:
    """Let the node hear the master, and return its attempt to connect."""
    return one(Connect, node.hear(announced(*ANNOUNCED)))


def retry(node: NodeHarness, attempt: Connect) -> Connect:
    """Let an attempt fail, and return the next one, after the hold-down."""
    node.give(Disconnected(attempt.session, "no answer", "timeout"))
    return one(Connect, node.wait(2.1))


def test_addresses_are_tried_as_announced_without_any_experience() -> None:
    assert connect(NodeHarness(eligible=False).start()).addresses == ANNOUNCED


def test_address_in_a_network_of_ours_comes_first() -> None:
    node = NodeHarness(eligible=False).start()
    node.give(AddressesChanged(("10.8.0.7",), ("10.8.0.0/16", "fd00::/64")))
    assert connect(node).addresses == ("10.8.0.1", "172.20.0.1", "172.21.0.1", "10.9.0.1")


def test_address_from_which_the_advert_came_comes_before_those_of_our_networks() -> None:
    node = NodeHarness(eligible=False).start()
    node.give(AddressesChanged(("10.8.0.7",), ("10.8.0.0/16",)))
    node.give(AdvertReceived(announced(*ANNOUNCED), "10.9.0.1"))
    assert connect(node).addresses[:2] == ("10.9.0.1", "10.8.0.1")


def test_address_that_answered_last_comes_first() -> None:
    node = NodeHarness(eligible=False).start()
    node.give(AdvertReceived(announced(*ANNOUNCED), "10.9.0.1"))
    attempt = connect(node)
    node.give(Connected(attempt.session, address="10.8.0.1"))
    assert retry(node, attempt).addresses[:2] == ("10.8.0.1", "10.9.0.1")


def test_address_of_another_node_comes_last_until_its_node_answers_there() -> None:
    node = NodeHarness(eligible=False).start()
    attempt = connect(node)
    node.give(OtherNodeAnswered(MASTER, "172.20.0.1"))
    attempt = retry(node, attempt)
    assert attempt.addresses == (*ANNOUNCED[1:], "172.20.0.1")
    node.give(Connected(attempt.session, address="172.20.0.1"))
    assert retry(node, attempt).addresses[0] == "172.20.0.1"


def test_own_address_comes_last() -> None:
    node = NodeHarness(eligible=False).start()
    node.give(AddressesChanged(("172.20.0.1",)))
    assert connect(node).addresses == (*ANNOUNCED[1:], "172.20.0.1")


def test_link_local_source_is_an_address_of_a_peer_that_announces_none() -> None:
    node = NodeHarness(eligible=False).start()
    for number in range(1, 6):
        node.give(AdvertReceived(announced(), f"fe80::{number}%2"))
    assert one(Connect, node.hear(announced())).addresses == ("fe80::5%2", "fe80::4%2", "fe80::3%2")


def test_source_that_is_not_announced_comes_last_if_it_is_in_a_network_of_ours() -> None:
    """A node with more than eight addresses leaves some out, or a stranger has repeated its advert."""
    node = NodeHarness(eligible=False).start()
    node.give(AddressesChanged(("10.66.0.7",), ("10.66.0.0/16",)))
    node.give(AdvertReceived(announced(*ANNOUNCED), "10.66.6.6"))
    node.give(AdvertReceived(announced(*ANNOUNCED), "10.67.6.6"))
    attempt = connect(node)
    assert attempt.addresses == (*ANNOUNCED, "10.66.6.6")
    node.give(Connected(attempt.session, address="10.66.6.6"))
    assert retry(node, attempt).addresses == ("10.66.6.6", *ANNOUNCED)


def test_announced_link_local_address_is_tried_on_the_links_of_the_sources_only() -> None:
    node = NodeHarness(eligible=False).start()
    assert one(Connect, node.hear(announced("fe80::1", "10.9.0.1"))).addresses == ("10.9.0.1",)
    node = NodeHarness(eligible=False).start()
    node.give(AdvertReceived(announced("fe80::1", "10.9.0.1"), "fe80::a%2"))
    node.give(AdvertReceived(announced("fe80::1", "10.9.0.1"), "fe80::a%3"))
    addresses = one(Connect, node.hear(announced("fe80::1", "10.9.0.1"))).addresses
    assert addresses == ("fe80::a%3", "fe80::1%3", "fe80::1%2", "10.9.0.1", "fe80::a%2")


def test_address_that_worked_stays_though_it_is_not_announced_and_other_sources_come() -> None:
    node = NodeHarness(eligible=False).start()
    node.give(AddressesChanged(("10.66.0.7",), ("10.66.0.0/16",)))
    node.give(AdvertReceived(announced(*ANNOUNCED), "10.66.6.6"))
    attempt = connect(node)
    node.give(Connected(attempt.session, address="10.66.6.6"))
    for source in ("10.66.7.1", "10.66.7.2", "10.66.7.3", ANNOUNCED[0]):
        node.give(AdvertReceived(announced(*ANNOUNCED), source))
    assert retry(node, attempt).addresses == ("10.66.6.6", *ANNOUNCED, "10.66.7.3", "10.66.7.2")


def test_each_further_address_adds_its_turn_to_the_time_of_an_attempt() -> None:
    attempt = connect(NodeHarness(eligible=False).start())
    assert attempt.timeout == Timing().join_timeout + 3 * STAGGER
