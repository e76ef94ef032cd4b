"""Which interface a program means, by its names, its addresses and zones."""

import os
from collections.abc import Iterator

import pytest

from pskkey.errors import ConfigError, Unreachable
from pskkey.mcast.interface import MAX_NAMED, ContradictoryInterfaces, MeantInterface
from tests.mcast.namespace import ip, make_interface, multicast_namespace

pytestmark = pytest.mark.root

IPV4, IPV6, LINK_LOCAL = "239.1.2.3", "ff15::77", "ff12::1234"
LONG_NAME = "y" * 127


@pytest.fixture
def eth() -> Iterator[str]:
    with multicast_namespace() as name:
        yield name


def index_of(group: str, interface: str | None) -> int | None:
    place = MeantInterface(group, interface).find()
    return None if place is None else place.index


def test_every_way_to_call_an_interface_means_its_index(eth: str) -> None:
    for alternative in ("alias", LONG_NAME):
        ip("link", "property", "add", "dev", eth, "altname", alternative)
    ip("address", "add", "fe80::77/64", "dev", eth, "nodad")
    ip("address", "add", "10.9.9.1", "peer", "10.9.9.2", "dev", eth)
    index = index_of(IPV4, eth)
    assert index is not None
    names = [eth, "alias", LONG_NAME, str(index)]
    addresses = ["10.77.0.1", "10.9.9.1", "fd77::1", "fe80::77", *(f"fe80::77%{name}" for name in names)]
    for group in (IPV4, IPV6, LINK_LOCAL):
        assert {index_of(group, text) for text in (*names, *addresses)} == {index}
        assert {index_of(f"{group}%{name}", None) for name in names} == {index}
        assert {index_of(f"{group}%{name}", text) for name in names for text in (*names, *addresses)} == {index}


def test_name_that_is_a_number_comes_before_the_index(eth: str) -> None:
    index = index_of(IPV4, eth)
    make_interface(str(index), 1)
    other = index_of(IPV4, "10.77.1.1")
    assert other not in (None, index)
    assert index_of(IPV4, str(index)) == other


@pytest.mark.parametrize(
    "text",
    [
        "nosuch0",
        "n" * 16,
        "n" * 127,
        "0",
        "99999",
        "9" * 100,
        "10.9.9.9",
        "10.9.9.2",
        "fd99::1",
        "fd77::1%lo",
        "eth\udcff",
    ],
)
def test_absent_interface_is_no_place_and_gets_one_sentence(eth: str, text: str) -> None:
    meant = MeantInterface(IPV4, text)
    assert meant.find() is None
    with pytest.raises(ConfigError, match=r"^interface: ") as raised:
        meant.check()
    assert str(raised.value).isascii()
    assert eth in str(raised.value) or "address" in str(raised.value)


@pytest.mark.parametrize("text", ["", "n" * 128, "n\0", "fe80::1%", "fe80::1%" + "n" * 128, "\ud800"])
def test_text_that_cannot_be_an_interface_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^interface: .* cannot be an interface"):
        MeantInterface(IPV4, text)


@pytest.mark.parametrize("group", ["ff02::1", "ff01::1", LINK_LOCAL])
def test_group_of_one_link_needs_an_interface(group: str) -> None:
    with pytest.raises(ConfigError, match=rf"^group: .*{group}%eth0"):
        MeantInterface(group, None)


@pytest.mark.parametrize("interface", ["mc2", "10.77.2.1", "fd77:2::1", "fd77:2::1%mc2"])
def test_zone_and_interface_that_differ_are_contradictory(eth: str, interface: str) -> None:
    make_interface("mc2", 2)
    meant = MeantInterface(f"{LINK_LOCAL}%{eth}", interface)
    assert meant.find() is None
    with pytest.raises(ContradictoryInterfaces, match=f"'{eth}'.*'{interface}'"):
        meant.check()


def test_route_chooses_when_the_program_does_not(eth: str) -> None:
    meant = MeantInterface(IPV4, None)
    assert meant.find() is None
    with pytest.raises(Unreachable, match=f"no route to {IPV4}"):
        meant.check()
    ip("route", "add", "224.0.0.0/4", "dev", eth)
    assert index_of(IPV4, None) == index_of(IPV4, eth)


@pytest.mark.usefixtures("eth")
def test_sentence_about_an_absent_interface_has_a_bounded_length() -> None:
    for number in range(30):
        make_interface(f"more{number}", number + 1)
    with pytest.raises(ConfigError) as raised:
        MeantInterface(IPV4, "nosuch0").check()
    assert str(raised.value).count(",") == MAX_NAMED - 1
    assert "and 43 more" in str(raised.value)


def test_interface_name_that_is_no_text_is_found_and_named(eth: str) -> None:
    ip("link", "set", eth, "down")
    ip("link", "set", eth, "name", b"eth\xff")
    assert index_of(IPV4, os.fsdecode(b"eth\xff")) is not None
    with pytest.raises(ConfigError, match=r"it has lo, end0, eth\\udcff"):
        MeantInterface(IPV4, "nosuch0").check()
