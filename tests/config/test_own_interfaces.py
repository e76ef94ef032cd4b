"""The entries of [network] interfaces mean interfaces and addresses of a real kernel. Needs root."""

import pytest

from pskkey.config.own_interfaces import Entry, describe_missing, list_labels, missing_interfaces
from pskkey.rtnetlink.interfaces import list_interfaces
from tests.no_descriptors import no_descriptor_left
from tests.system.private_network import bridge, own_network

pytestmark = pytest.mark.root

LATIN_1 = "büro0".encode("latin-1")
LONG = "the-interface-of-the-office-" + "x" * 99
"""127 bytes, the longest alternative name."""


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


def test_missing_interfaces_are_named_in_their_order_with_those_that_are_there() -> None:
    with own_network(*bridge(LATIN_1)):
        missing = missing_interfaces(["eth9", "lo", "10.9.0.1"])
        assert missing == ("eth9", "10.9.0.1")
        expected = "[network] interfaces: this machine has no eth9 and no 10.9.0.1 now; it has lo, b\\xfcro0"
        assert describe_missing(missing, list_labels()) == expected


def test_sentence_about_missing_interfaces_names_a_bounded_number() -> None:
    with own_network(*(f"link add br{number} type bridge" for number in range(30))):
        assert describe_missing(["eth9"], list_labels()).endswith("br17, br18 and 11 more")


def test_nothing_counts_as_missing_while_no_descriptor_is_left_to_look_with() -> None:
    with no_descriptor_left():
        assert missing_interfaces(["nowhere0", "192.0.2.1"]) == ()
        assert describe_missing(["nowhere0"], list_labels()).endswith("it has none that can be listed")
