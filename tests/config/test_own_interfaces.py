"""The entries of [network] interfaces mean interfaces and addresses of a real kernel. Needs root."""

import pytest

from pskkey.config.machine_interfaces import Interface, list_interfaces
from pskkey.config.own_interfaces import Entry, describe_missing, missing_interfaces
from tests.no_descriptors import no_descriptor_left
from tests.system.private_network import bridge, configure, own_network

pytestmark = pytest.mark.root

LATIN_1 = "büro0".encode("latin-1")
LONG = "the-interface-of-the-office-" + "x" * 99
"""127 bytes, the longest alternative name."""


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


@pytest.mark.parametrize(
    ("text", "interfaces"),
    [
        ("lan", {"lan"}),
        ("büro", {"büro"}),
        ("office", {"lan"}),
        (LONG, {"lan"}),
        ("lan0", set()),
        ("office\N{REPLACEMENT CHARACTER}", set()),
    ],
)
def test_name_or_alternative_name_means_the_whole_interface(text: str, interfaces: set[str]) -> None:
    with own_network(*bridge("lan"), *bridge("büro"), f"link property add dev lan altname office altname {LONG}"):
        assert {each.label for each in list_interfaces() if Entry(text).means_all_of(each)} == interfaces
        assert missing_interfaces([text]) == (() if interfaces else (text,))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("10.1.0.1", {("lan", "10.1.0.1")}),
        ("fd77::1", {("lan", "fd77::1")}),
        ("fe80::a", {("lan", "fe80::a"), ("büro", "fe80::a")}),
        ("FE80:0::A%lan", {("lan", "fe80::a")}),
        ("fe80::a%büro", {("büro", "fe80::a")}),
        ("fe80::a%office", {("lan", "fe80::a")}),
        ("fe80::a%2", {("lan", "fe80::a")}),
        ("fe80::a%9", set()),
        ("10.1.0.9", set()),
    ],
)
def test_address_means_itself_and_a_zone_limits_it_to_one_interface(text: str, meant: set[tuple[str, str]]) -> None:
    with own_network(
        *bridge("lan", "10.1.0.1/16", "10.1.0.2/16", "fd77::1/64", "fe80::a/64"),
        *bridge("büro", "fe80::a/64"),
        "link property add dev lan altname office",
    ):
        entry = Entry(text)
        found = {
            (each.label, str(a.ip)) for each in list_interfaces() for a in each.addresses if entry.means(a.ip, each)
        }
        assert found == meant
        assert not any(entry.means_all_of(each) for each in list_interfaces())
        assert missing_interfaces([text]) == (() if meant else (text,))


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


def test_missing_interfaces_are_named_in_their_order_with_those_that_are_there() -> None:
    with own_network(*bridge(LATIN_1)):
        missing = missing_interfaces(["eth9", "lo", "10.9.0.1"])
        assert missing == ("eth9", "10.9.0.1")
        expected = "[network] interfaces: this machine has no eth9 and no 10.9.0.1 now; it has lo, b\\xfcro0"
        assert describe_missing(missing) == expected


def test_sentence_about_missing_interfaces_names_a_bounded_number() -> None:
    with own_network(*(f"link add br{number} type bridge" for number in range(30))):
        assert describe_missing(["eth9"]).endswith("br17, br18 and 11 more")


def test_nothing_counts_as_missing_while_no_descriptor_is_left_to_look_with() -> None:
    with no_descriptor_left():
        assert missing_interfaces(["nowhere0", "192.0.2.1"]) == ()
        assert describe_missing(["nowhere0"]).endswith("it has none that can be listed")
