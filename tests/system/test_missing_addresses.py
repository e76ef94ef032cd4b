"""A key server whose addresses leave this machine, and come back, while the daemon runs. Needs root."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab.daemon import Daemon, Status
from tests.lab.group import Group
from tests.lab.namespaces import INTERFACE
from tests.lab.service import Service
from tests.system.doctoring import doctor, texts
from tests.system.loopback import PORT, Loopback
from tests.system.private_network import configure, private_network

ONE, OTHER = "10.84.0.1", "10.84.0.2"
LINK_LOCAL = f"fe80::83%{INTERFACE}"
MADE_AGAIN = (
    f"link delete {INTERFACE}",
    f"link add {INTERFACE} type veth peer name peer",
    f"link set {INTERFACE} addrgenmode none",
    "link set peer up",
    f"link set {INTERFACE} up",
    f"address add fe80::83/64 dev {INTERFACE} nodad",
)
WITHIN = 15.0

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def network() -> Iterator[None]:
    """Run each test in a network of its own."""
    with private_network():
        yield


def give(*addresses: str) -> None:
    configure(*(f"address add {address}/32 dev {INTERFACE}" for address in addresses))


def take_away(*addresses: str) -> None:
    configure(*(f"address delete {address}/32 dev {INTERFACE}" for address in addresses))


def listens(address: str) -> bool:
    """Return whether a program listens at an address of this machine."""
    try:
        socket.create_connection((address, PORT), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


async def wait_until(daemon: Daemon, is_true: Callable[[Status], bool]) -> Status:
    """Wait until the status of a daemon fulfils a condition, and return it."""
    deadline = time.monotonic() + WITHIN
    while (status := await daemon.status()) is None or not is_true(status):
        assert time.monotonic() < deadline, (status, daemon.log)
        await asyncio.sleep(0.05)
    return status


def reserved_indexes(service: Service) -> list[int]:
    """Return the interface of each stored reservation of a link-local address."""
    found = []
    for fd in service.stored_as("port"):
        with socket.socket(fileno=os.dup(fd)) as stored:
            found.append(stored.getsockname()[3])
    return found


def troubles(status: Status) -> list[str]:
    return [f"{one['text']}; {one['remedy']}" for one in status["conditions"] if one["kind"] == "no_key_server"]


def missing(*addresses: str) -> str:
    each = (f"{one} is not an address of this machine now, so the key server cannot listen on it" for one in addresses)
    return f"{'; '.join(each)}; give this machine the address, or correct [network] addresses"


NO_SERVER = "no key server, so this node cannot be master: "
PARTIAL = "the key server does not listen everywhere: "


async def test_key_server_listens_on_each_address_as_soon_as_this_machine_has_it(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1", {"network": {"interfaces": [INTERFACE], "addresses": [ONE, OTHER]}})
    daemon.start()
    status = await wait_until(daemon, lambda status: not status["node"]["eligible"])
    assert troubles(status) == [NO_SERVER + missing(ONE, OTHER)]
    give(ONE)
    status = await wait_until(daemon, lambda status: status["node"]["eligible"])
    assert troubles(status) == [PARTIAL + missing(OTHER)]
    assert listens(ONE)
    give(OTHER)
    await wait_until(daemon, lambda status: not troubles(status))
    assert listens(OTHER)
    assert await daemon.stop() == 0


async def test_address_that_leaves_is_a_condition_until_it_is_back(loopback: Loopback) -> None:
    give(ONE, OTHER)
    daemon = loopback.daemon("n1", {"network": {"interfaces": [INTERFACE], "addresses": [ONE, OTHER]}})
    daemon.start()
    await Group([daemon]).together(WITHIN)
    take_away(OTHER)
    status = await wait_until(daemon, lambda status: bool(troubles(status)))
    assert troubles(status) == [PARTIAL + missing(OTHER)]
    assert status["node"]["eligible"]
    take_away(ONE)
    status = await wait_until(daemon, lambda status: not status["node"]["eligible"])
    assert troubles(status) == [NO_SERVER + missing(ONE, OTHER)]
    code, found = await doctor(daemon)
    assert code == 1
    assert [*texts(found, "key_server", ok=False), *texts(found, "key_server", ok=True)] == [
        (NO_SERVER + missing(ONE, OTHER)).rpartition("; ")[0]
    ]
    give(ONE, OTHER)
    status = await wait_until(daemon, lambda status: not troubles(status))
    assert status["node"]["eligible"]
    assert listens(ONE)
    assert listens(OTHER)


async def test_key_server_listens_on_an_interface_that_is_made_again(loopback: Loopback) -> None:
    """The interface has the same name and address, and another index."""
    service = loopback.service("n1", {"network": {"interfaces": [INTERFACE], "addresses": [LINK_LOCAL]}})
    service.start()
    await Group([service]).together(WITHIN)
    assert listens(LINK_LOCAL)
    former = socket.if_nametoindex(INTERFACE)
    configure(*MADE_AGAIN)
    assert socket.if_nametoindex(INTERFACE) != former
    deadline = time.monotonic() + WITHIN
    while not listens(LINK_LOCAL):
        assert time.monotonic() < deadline, service.log
        await asyncio.sleep(0.05)
    await wait_until(service, lambda status: not troubles(status))
    assert reserved_indexes(service) == [socket.if_nametoindex(INTERFACE)]


async def test_address_on_an_interface_that_is_missing_is_a_condition(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1", {"network": {"interfaces": [INTERFACE], "addresses": ["fe80::83%nosuch0"]}})
    daemon.start()
    status = await wait_until(daemon, lambda status: bool(troubles(status)))
    assert troubles(status)[0].startswith(
        f"{NO_SERVER}fe80::83%nosuch0 is not an address of this machine now (no interface 'nosuch0' is there), so "
    )
    configure(f"link set {INTERFACE} down", f"link set {INTERFACE} name nosuch0", "link set nosuch0 up")
    configure("address replace fe80::83/64 dev nosuch0 nodad")
    await wait_until(daemon, lambda status: not troubles(status))
    assert listens("fe80::83%nosuch0")


async def test_doctor_finds_a_missing_address_without_a_daemon(loopback: Loopback) -> None:
    daemon = loopback.daemon("n1", {"network": {"interfaces": [INTERFACE], "addresses": [ONE]}})
    _, found = await doctor(daemon)
    (finding,) = [one for one in found if one["check"] == "key_server"]
    assert f"{finding['text']}; {finding['remedy']}" == missing(ONE)
