"""The socket address of an IP address. A zone is any name of an interface, or its index. Needs root."""

import errno
import socket
from collections.abc import Iterator

import pytest

from pskkey.rtnetlink.interfaces import MAX_INDEX
from pskkey.rtnetlink.queries import index_of_zone
from pskkey.rtnetlink.socket_address import find_socket_address
from tests.no_descriptors import no_descriptor_left
from tests.system.private_network import bridge, own_network

pytestmark = pytest.mark.root

NAME = "büro0"
LONG = "enp0s31f6-very-long-name"


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Run each test in a network of its own."""
    with own_network(
        "link set lo up",
        *bridge(NAME, "10.83.0.1/16", "fe80::83/64"),
        f"link property add dev {NAME} altname lan altname {LONG} altname {'n' * 127}",
        *bridge("1"),
    ):
        yield


def index(name: str) -> int:
    found = {listed: number for number, listed in socket.if_nameindex()}
    return found[name]


@pytest.mark.parametrize("zone", [NAME, "lan", LONG, "n" * 127, "index"])
def test_zone_is_any_name_or_the_index(zone: str) -> None:
    number = index(NAME)
    text = f"FE80:0::83%{number if zone == 'index' else zone}"
    assert find_socket_address(text, 7) == (socket.AF_INET6, ("fe80::83", 7, 0, number))
    with socket.socket(socket.AF_INET6) as bound:
        bound.bind(find_socket_address(text, 0)[1])
        assert bound.getsockname()[3] == number


def test_name_of_digits_comes_before_an_index() -> None:
    assert index("1") != 1
    assert index_of_zone("1") == index("1")


def test_address_without_a_zone_has_no_interface() -> None:
    assert find_socket_address("10.83.0.1", 7) == (socket.AF_INET, ("10.83.0.1", 7))
    assert find_socket_address("FD77:0::1", 7) == (socket.AF_INET6, ("fd77::1", 7, 0, 0))


@pytest.mark.parametrize(
    "zone", ["nosuch0", "n" * 128, "", "0", "77777", str(MAX_INDEX + 1), "9" * 5000, "a\0", "\ud800"]
)
def test_zone_that_means_no_interface_is_an_error_with_a_sentence(zone: str) -> None:
    with pytest.raises(OSError, match="this machine has no interface ") as caught:
        find_socket_address(f"fe80::83%{zone}", 0)
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize("zone", [NAME, "lan", LONG, "2"])
def test_interface_is_not_missing_while_no_descriptor_is_left(zone: str) -> None:
    with no_descriptor_left(), pytest.raises(OSError, match="Too many open files") as caught:
        find_socket_address(f"fe80::83%{zone}", 0)
    assert caught.value.errno == errno.EMFILE


def test_link_local_address_needs_a_zone() -> None:
    with pytest.raises(OSError, match='it is link-local, so it needs its interface, as in "fe80::83%eth0"'):
        find_socket_address("fe80::83", 0)


@pytest.mark.parametrize("text", ["", NAME, "localhost", "10.83.0.1%lan", "10.83.1", "fe80::xyz%lan", "%lan"])
def test_text_that_is_no_address_is_an_error_of_names(text: str) -> None:
    with pytest.raises(socket.gaierror, match="is not an IP address"):
        find_socket_address(text, 0)
