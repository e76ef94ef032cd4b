"""The interfaces and addresses that a real kernel lists. Needs root."""

import pytest

from pskkey.rtnetlink.interfaces import Interface, list_interfaces
from tests.system.private_network import bridge, configure, own_network

pytestmark = pytest.mark.root

LATIN_1 = "büro0".encode("latin-1")


def by_index() -> dict[int, Interface]:
    return {interface.index: interface for interface in list_interfaces()}


def test_interface_with_a_name_that_is_no_text_is_listed_with_a_printable_label() -> None:
    with own_network(*bridge(LATIN_1, "10.1.0.1/16"), *bridge("büro1"), *bridge(b"a\x1b[2Jb")):
        found = {interface.name: interface for interface in list_interfaces()}
        assert found.keys() == {b"lo", LATIN_1, "büro1".encode(), b"a\x1b[2Jb"}
        assert [str(address.ip) for address in found[LATIN_1].addresses] == ["10.1.0.1"]
        assert found[LATIN_1].label == "b\\xfcro0"
        assert found["büro1".encode()].label == "büro1"
        assert found[b"a\x1b[2Jb"].label == "a\\x1b[2Jb"


def test_machine_with_many_interfaces_is_listed_completely() -> None:
    """The kernel's answer comes in many parts."""
    lines = (
        f"link add dummy{number} type bridge\naddress add 10.1.{number}.1/24 dev dummy{number}" for number in range(250)
    )
    with own_network(*lines):
        found = list_interfaces()
        assert [interface.index for interface in found] == list(range(1, 252))
        assert sum(len(interface.addresses) for interface in found) == 250
        assert {interface.kind for interface in found[1:]} == {"bridge"}


def test_address_with_a_label_belongs_to_its_interface() -> None:
    with own_network(*bridge("lan"), "address add 10.1.0.1/16 dev lan", "address add 10.2.0.1/16 dev lan label lan:1"):
        (lan,) = (interface for interface in list_interfaces() if interface.name == b"lan")
        assert [str(address.ip) for address in lan.addresses] == ["10.1.0.1", "10.2.0.1"]


def test_address_of_a_point_to_point_link_is_our_end_and_its_network_the_other() -> None:
    with own_network(*bridge("lan"), "address add 10.1.0.1 peer 10.2.0.2/32 dev lan"):
        (address,) = by_index()[2].addresses
        assert (str(address.ip), address.network) == ("10.1.0.1", "10.2.0.2/32")


def test_address_is_not_usable_while_the_kernel_checks_it() -> None:
    with own_network("link add lan type veth peer name other", "link set lan addrgenmode none up", "link set other up"):
        configure("address add fd77::1/64 dev lan", "address add fd77::2/64 dev lan nodad")
        assert [(str(a.ip), a.is_usable) for a in sorted(by_index()[3].addresses, key=lambda a: a.ip)] == [
            ("fd77::1", False),
            ("fd77::2", True),
        ]
