"""The interfaces and addresses that a node uses, and the order in which it announces them. Needs root."""

import pytest

from pskkey.adapters.discovery.network import MAX_MULTICAST, MAX_PREFIXES, Network, look_up
from tests.system.private_network import bridge, configure, own_network

pytestmark = pytest.mark.root


def lan(name: str, *addresses: str) -> list[bytes]:
    """Return the commands that make an interface of a kind that is not for containers."""
    port = f"port-{name}"
    return [*bridge(port), f"link add {name} link {port} type macvlan".encode(), *bridge(name, *addresses)[1:]]


def used(network: Network) -> list[tuple[str, str | None, str | None]]:
    return [(each.label, each.ipv4, each.ipv6) for each in network.multicast]


def test_interface_of_the_default_route_comes_first_and_those_of_containers_come_last() -> None:
    with own_network(
        *bridge("docker0", "172.17.0.1/16"),
        *lan("eth0", "10.1.0.1/16", "10.1.0.2/16"),
        *lan("eth1", "10.2.0.1/16", "10.2.0.2/16"),
        "route add default via 10.2.0.9",
    ):
        assert look_up((), "both").addresses == ("10.2.0.1", "10.1.0.1", "10.2.0.2", "10.1.0.2", "172.17.0.1")


def test_bridge_with_the_default_route_or_with_a_port_to_the_outside_is_an_ordinary_interface() -> None:
    with own_network(
        *bridge("docker0", "172.17.0.1/16"),
        *bridge("br0", "10.1.0.1/16"),
        *lan("eth0"),
        "link set eth0 master br0",
    ):
        assert look_up((), "both").addresses == ("10.1.0.1", "172.17.0.1")
        configure("route add default via 172.17.0.9")
        assert look_up((), "both").addresses == ("172.17.0.1", "10.1.0.1")


def test_many_interfaces_of_containers_do_not_crowd_out_the_network() -> None:
    bridges = [line for number in range(20) for line in bridge(f"br{number}", f"172.{20 + number}.0.1/16")]
    with own_network(*bridges, *lan("eth0", "10.1.0.1/16", "fd77::1/64")):
        network = look_up((), "both")
        assert network.addresses[:3] == ("10.1.0.1", "fd77::1", "172.20.0.1")
        assert (len(network.addresses), len(network.left_out)) == (8, 14)
        assert network.prefixes[:2] == ("10.1.0.0/16", "fd77::/64")
        assert len(network.prefixes) == 22


def test_named_address_comes_before_all_others() -> None:
    with own_network(*bridge("docker0", "172.17.0.1/16"), *lan("eth0", "10.1.0.1/16", "10.1.0.2/16")):
        assert look_up(["eth0", "172.17.0.1"], "both").addresses == ("172.17.0.1", "10.1.0.1", "10.1.0.2")


@pytest.mark.parametrize("is_first", [False, True])
def test_deprecated_address_comes_after_lasting_ones(*, is_first: bool) -> None:
    lines = ["address add fd77::1/64 dev eth0 nodad", "address add fd77::2/64 dev eth0 nodad preferred_lft 0"]
    with own_network(*lan("eth0"), *(reversed(lines) if is_first else lines)):
        assert look_up((), "both").addresses == ("fd77::1", "fd77::2")


def test_second_ipv4_address_of_a_network_is_as_good_as_the_first() -> None:
    """The kernel marks it with the bit that marks temporary IPv6 addresses."""
    with own_network(*lan("eth0", "10.1.0.1/16", "10.1.0.2/16"), *lan("eth1", "10.3.0.1/16", "10.4.0.1/16")):
        assert look_up((), "both").addresses == ("10.1.0.1", "10.3.0.1", "10.1.0.2", "10.4.0.1")


def test_link_local_addresses_are_for_mdns_and_are_not_announced() -> None:
    with own_network(*lan("eth0", "fe80::a/64"), *lan("eth1", "fe80::b/64", "fd77::b/64")):
        network = look_up((), "both")
        assert used(network) == [("eth0", None, "fe80::a"), ("eth1", None, "fe80::b")]
        assert (network.addresses, network.prefixes) == (("fd77::b",), ("fd77::/64",))


@pytest.mark.parametrize(
    ("name", "interface", "addresses"),
    [
        ("eth0", ("eth0", "10.1.0.1", "fe80::a"), ("10.1.0.1", "fd77::a")),
        ("lan", ("eth0", "10.1.0.1", "fe80::a"), ("10.1.0.1", "fd77::a")),
        ("10.1.0.1", ("eth0", "10.1.0.1", None), ("10.1.0.1",)),
        ("fd77::a", ("eth0", None, "fd77::a"), ("fd77::a",)),
        ("fe80::a%lan", ("eth0", None, "fe80::a"), ()),
    ],
)
def test_entry_of_the_configuration_chooses_an_interface_or_one_address(
    name: str, interface: tuple[str, str | None, str | None], addresses: tuple[str, ...]
) -> None:
    with own_network(
        *lan("eth0", "10.1.0.1/16", "fd77::a/64", "fe80::a/64"),
        *lan("eth1", "10.2.0.1/16", "fe80::a/64"),
        "link property add dev eth0 altname lan",
    ):
        network = look_up([name], "both")
        assert used(network) == [interface]
        assert network.addresses == addresses


def test_ip_version_of_the_configuration_leaves_the_other_one_out() -> None:
    with own_network(*lan("eth0", "10.1.0.1/16", "fd77::a/64", "fe80::a/64")):
        assert used(look_up((), "v4")) == [("eth0", "10.1.0.1", None)]
        assert look_up((), "v4").prefixes == ("10.1.0.0/16",)
        assert used(look_up((), "v6")) == [("eth0", None, "fe80::a")]
        assert look_up((), "v6").addresses == ("fd77::a",)


def test_interface_that_is_down_is_not_used_and_is_listed_as_down() -> None:
    with own_network(*lan("eth0", "10.1.0.1/16"), "link set eth0 down"):
        network = look_up((), "both")
        assert (network.multicast, network.addresses) == ((), ())
        assert "eth0 (down)" in network.there


def test_loopback_is_used_only_if_it_is_named() -> None:
    with own_network("link set lo up", *lan("eth0", "10.1.0.1/16")):
        assert look_up((), "both").addresses == ("10.1.0.1",)
        assert look_up(["lo", "eth0"], "v4").addresses == ("10.1.0.1", "127.0.0.1")


def test_interface_that_is_made_again_is_another_network() -> None:
    with own_network(*lan("eth0", "10.1.0.1/16")):
        before = look_up((), "both")
        configure("link delete eth0", "link delete port-eth0", *lan("eth0", "10.1.0.1/16"))
        assert look_up((), "both") != before


def test_new_default_route_alone_changes_no_interface_of_mdns() -> None:
    with own_network(*lan("eth0", "10.1.0.1/16"), *lan("eth1", "10.2.0.1/16")):
        before = look_up((), "both")
        configure("route add default via 10.2.0.9")
        after = look_up((), "both")
        assert after.addresses == before.addresses[::-1]
        assert after.multicast == before.multicast


def test_numbers_of_interfaces_and_prefixes_are_bounded() -> None:
    bridges = [line for number in range(140) for line in bridge(f"br{number}", f"172.20.{number}.1/24")]
    with own_network(*bridges, *lan("eth0", "10.1.0.1/16")):
        network = look_up((), "both")
        assert len(network.prefixes) == MAX_PREFIXES
        assert len(network.multicast) == MAX_MULTICAST
        assert network.multicast[-1].label == "eth0"
        assert len(network.without_mdns) == 141 - MAX_MULTICAST
